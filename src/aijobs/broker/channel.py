"""The channel that fetches under a lease.

A message is taken from its list and booked as held in one step, which takes the acknowledgements of earlier ones along.
"""

from __future__ import annotations

import contextlib
import logging
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import loads
from redis.exceptions import NoScriptError, RedisError, ResponseError

from aijobs.broker.connection import CONNECT_SECONDS, SOCKET_SECONDS
from aijobs.broker.held import FETCH
from aijobs.broker.leases import Fetch, Lease, fresh_tags, lease_of
from aijobs.broker.presence import list_keys
from aijobs.broker.qos import QoS

logger = logging.getLogger(__name__)

#: How many messages one fetch takes at most.
FETCH_LIMIT = 10


class Garbage(ValueError):
    """What came from a queue is no message of kombu's."""


class Message(virtual.Message):
    """A message whose envelope is known to be sound."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel, **kwargs)
        except Exception as error:  # noqa: BLE001
            raise Garbage(type(error).__name__) from None


class Channel(stock.Channel):
    """Fetches under a lease, and reuses its client, which kombu makes anew for each publish at a higher cost."""

    QoS = QoS
    Message = Message
    # Of the class, so that transport options which say nothing of them leave them.
    socket_timeout = SOCKET_SECONDS
    socket_connect_timeout = CONNECT_SECONDS

    _reused: Any = None
    _lease: Lease | None = None
    #: Whether all that is consumed is to be acknowledged, so that a fetch may book it.
    _books = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asked: Fetch | None = None
        self._without_ack: set[str] = set()
        self._lists: dict[tuple[str, ...], list[str]] = {}
        super().__init__(*args, **kwargs)

    @property
    def lease(self) -> Lease:
        """Under which this channel's messages are held."""
        if self._lease is None:
            self._lease = lease_of(self.pool, self.global_keyprefix)
        return self._lease

    @property
    def fetches_next(self) -> bool:
        """Whether a fetch will follow before the event loop waits, or the loop's tick will settle the lease."""
        return not (self._in_poll or self.closed) and self.connection.cycle.has_loop and bool(self._active_queues)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Begins to consume from a queue."""
        (self._without_ack.add if no_ack else self._without_ack.discard)(queue)
        consumed = super().basic_consume(queue, no_ack, *args, **kwargs)
        self._choose_fetch()
        if self._books and self.active_queues:
            self._open_lease()
        return consumed

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Takes one message, or None."""
        if no_ack or not self.ack_emulation:
            return super().basic_get(queue, no_ack=no_ack, **kwargs)
        self._open_lease()
        fetch = self.lease.fetch(list_keys(self, [queue]), 1)
        try:
            count, *words = fetch.words
            found = self.lease.line.run(FETCH, words[:count], words[count:])
        except BaseException:
            self.lease.undo(fetch)
            raise
        if not found:
            return None
        try:
            message = self.Message(_decode(found[1], fetch.tags[0]), channel=self)
        except Garbage as error:
            self._drop(fetch.tags[0], queue, error)
            return None
        self.qos.append(message, message.delivery_tag)
        return message

    def close(self) -> None:
        """Gives back what is held, and closes."""
        self._closing = True
        self._finish_poll()
        super().close()
        if self._lease is not None:
            self._lease.settle()
            self._lease.consumers.discard(self)

    def settle(self) -> None:
        """Tells the broker what no fetch has taken along."""
        if self._lease is not None and self._lease.has_news:
            self._lease.settle()

    def _open_lease(self) -> None:
        self.lease.use(self.pool)
        self.lease.hold(self)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        cancelled = super()._basic_cancel(consumer_tag)
        self._choose_fetch()
        if not self._active_queues:
            # Nobody would read an answer that comes later, and the message in it would wait for as long.
            self._finish_poll()
            self.settle()
        return cancelled

    def _choose_fetch(self) -> None:
        self._books = self.ack_emulation and self._without_ack.isdisjoint(self._active_queues)

    def _finish_poll(self) -> None:
        # Twice at most: a server that does not know the script is asked again.
        for _ in range(2):
            if self._in_poll:
                with contextlib.suppress(Empty, RedisError, *self.connection_errors):
                    self._brpop_read()

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self._books:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        connection = self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self._asked = self.lease.fetch(self._lists_of(queues), self._credit(len(queues)))
        connection.send_command("EVALSHA", FETCH.sha, *self._asked.words)

    def _lists_of(self, queues: list[str]) -> list[str]:
        key = tuple(queues)
        if key not in self._lists:
            self._lists[key] = list_keys(self, queues)
        return self._lists[key]

    def _credit(self, queues: int) -> int:
        # Queues take turns message by message; and what is put in the place of `can_consume` has to be asked each time.
        if queues > 1 or "can_consume" in vars(self.qos):
            return 1
        free = self.qos.can_consume_max_estimate()
        return FETCH_LIMIT if free is None else max(1, min(free, FETCH_LIMIT))

    def _brpop_read(self, **options: Any) -> Any:
        connection, asked = self._in_poll, self._asked
        try:
            reply = connection.read_response()
        except NoScriptError:
            if asked is None:
                raise
            connection.send_command("EVAL", FETCH.text, *asked.words)
            raise Empty from None
        except ResponseError:
            self._undo_fetch()
            self._in_poll = None
            raise
        except self.connection_errors:
            connection.disconnect()
            self._in_poll = None
            raise
        self._asked = self._in_poll = None
        self._flush_brpop_reauth()
        if asked is None:
            return self._deliver_popped(reply)
        return self._deliver_fetched(reply, asked)

    def _deliver_fetched(self, found: list[bytes], asked: Fetch) -> bool:
        if not found:
            if self._active_queues and not self._closing:
                super()._brpop_start()
            raise Empty
        left = list(zip(asked.tags, found[::2], found[1::2], strict=False))
        try:
            while left:
                self._deliver_item(*left.pop(0))
                if left:
                    # A task that ran in there, as in the solo pool, is over.
                    self.settle()
        finally:
            for tag, _, _ in reversed(left):
                self.lease.give_back(tag)
        return True

    def _deliver_popped(self, reply: list[bytes] | None) -> bool:
        if not reply:
            raise Empty
        key, item = reply
        tag = None
        if self.ack_emulation and self._queue_of(key) not in self._without_ack:
            (tag,) = fresh_tags(1)
            self._open_lease()
            self.lease.book(tag, key, item)
        self._deliver_item(tag, key, item)
        return True

    def _deliver_item(self, tag: str | None, key: bytes, item: bytes) -> None:
        queue = self._queue_of(key)
        self._queue_cycle.rotate(queue)
        if tag is not None and (self._closing or queue not in self.connection._callbacks):
            self.lease.give_back(tag)
            return
        try:
            self.connection._deliver(_decode(item, tag), queue)
        except Garbage as error:
            self._drop(tag, queue, error)

    def _drop(self, tag: str | None, queue: str, error: Garbage) -> None:
        logger.error("Dropped from queue %r what is no message of Celery's or kombu's (%s).", queue, error)
        if tag is not None:
            self.lease.ack(tag)

    def _queue_of(self, key: bytes) -> str:
        name: str = key.decode()[len(self.global_keyprefix) :].rsplit(self.sep, 1)[0]
        return name

    def _undo_fetch(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self.lease.undo(asked)

    def _on_connection_disconnect(self, connection: Any) -> None:
        if self._in_poll is connection:
            self._undo_fetch()
        super()._on_connection_disconnect(connection)

    def _after_fork(self) -> None:
        self._lease = self._asked = None
        super()._after_fork()

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._reused is None or self._reused.connection_pool is not self.pool:
            self._reused = super()._create_client()
        return self._reused


def _decode(item: bytes, tag: str | None) -> dict[str, Any]:
    """The payload of a message, with its delivery tag; None leaves the producer's."""
    try:
        payload = loads(item.decode())
        delivery = payload["properties"]["delivery_info"]
        _ = delivery["exchange"], delivery["routing_key"]
        if tag is not None:
            payload["properties"]["delivery_tag"] = tag
    except Exception as error:  # noqa: BLE001
        raise Garbage(type(error).__name__) from None
    found: dict[str, Any] = payload
    return found
