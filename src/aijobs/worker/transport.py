"""Celery's Redis transport, made to outlive its server: a restart of Redis neither ends a worker nor loses its jobs."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.worker import state
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps

from aijobs.store.line import Line
from aijobs.store.scripts import Script

logger = logging.getLogger(__name__)

#: Messages that were fetched but not begun when the connection broke; they go back to their queue over the next one.
_orphans: set[str] = set()


_BOOK = Script.of("book", "redis.call('ZADD', KEYS[2], ARGV[1], ARGV[2]) redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])")
_FORGET = Script.of("forget", "redis.call('ZREM', KEYS[2], ARGV[1]) redis.call('HDEL', KEYS[1], ARGV[1])")


class QoS(stock.QoS):
    """Keeps what the worker holds across a broken connection, and books it in one short step."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Books a fetched message as unacknowledged."""
        delivery = message.delivery_info
        held = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
        self._run(_BOOK, time.time(), delivery_tag, held)
        virtual.QoS.append(self, message, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Gives messages back when a channel closes.

        When the worker goes on after this, jobs that run keep their messages, or they would be executed twice.
        """
        if state.should_stop is None and state.should_terminate is None:
            running = {request.message.delivery_tag for request in tuple(state.active_requests)}
            for tag in running & self._delivered.keys():
                self._delivered.pop(tag)
        left = set(self._delivered)
        try:
            super().restore_unacked(client)
        except (AttributeError, OSError, *self.channel.connection_errors):
            # kombu closes a connection that it took apart before; there is no server to talk to.
            _orphans.update(left)
            self._delivered.clear()

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Returns orphans, then messages whose visibility has passed; kombu calls it every few seconds."""
        while _orphans:
            tag = _orphans.pop()
            try:
                self.restore_by_tag(tag)
            except BaseException:
                _orphans.add(tag)
                raise
        super().restore_visible(start, num, interval)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledges; for a job that outlived its connection, over the connection that took its place."""
        try:
            self._run(_FORGET, delivery_tag)
            virtual.QoS.ack(self, delivery_tag)
        except (AttributeError, OSError, *self.channel.connection_errors) as error:
            logger.warning("Acknowledging over a new connection: %s", error)
            _acknowledge_elsewhere(self, delivery_tag)

    def _run(self, script: Script, *arguments: Any) -> None:
        channel: Channel = self.channel
        keys = [channel.global_keyprefix + key for key in (self.unacked_key, self.unacked_index_key)]
        channel.line.run(script, keys, arguments)


class Channel(stock.Channel):
    """Reuses its client: kombu makes one for each publish and acknowledgement, which costs more than the command."""

    QoS = QoS
    _reused: Any = None
    _line: Line | None = None

    @property
    def line(self) -> Line:
        """A short way to the server."""
        if self._line is None or self._line.pool is not self.pool:
            self._line = Line(self.pool)
        return self._line

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._reused is None or self._reused.connection_pool is not self.pool:
            self._reused = super()._create_client()
        return self._reused


class Transport(stock.Transport):
    """The transport that `setup()` puts in the place of kombu's for `redis://` brokers."""

    Channel = Channel


def _acknowledge_elsewhere(qos: QoS, delivery_tag: str) -> None:
    from celery import current_app

    with current_app.pool.acquire(block=True) as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as client:
            pipe = client.pipeline()
            pipe.zrem(qos.unacked_index_key, delivery_tag).hdel(qos.unacked_key, delivery_tag).execute()
