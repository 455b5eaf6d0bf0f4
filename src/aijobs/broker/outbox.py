"""Task messages built by Celery's whole publishing path, but handed over instead of sent.

Where store and broker are one Redis server, `submit()` pushes the message in the very step that makes the record. The
message must still be exactly what Celery would have sent: routing, signals, stamps and serializers included. So Celery
publishes it, to a kombu channel that only keeps it.
"""

from __future__ import annotations

import threading
from bisect import bisect
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from kombu import Connection, Producer
from kombu.transport import virtual
from kombu.utils.json import dumps

from aijobs.runtime import Runtime
from aijobs.store.connect import connection_options, database_of, plain_server_url
from aijobs.store.values import Message

_local = threading.local()


class _KeepingChannel(virtual.Channel):
    """Keeps what is published to it."""

    kept: tuple[str, dict[str, Any]] | None = None

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        self.kept = (queue, message)


class _KeepingTransport(virtual.Transport):
    Channel = _KeepingChannel
    driver_type = driver_name = "aijobs"

    def establish_connection(self) -> Any:
        return self

    def close_connection(self, connection: Any) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Outbox:
    """Turns published messages into list pushes, as kombu's Redis transport would make them."""

    database: int
    prefix: str
    separator: str
    priorities: tuple[int, ...]

    @classmethod
    def of(cls, runtime: Runtime) -> Outbox | None:
        """The outbox of an app, or None when its broker is not the store's own server.

        As Celery's connections to the broker, it goes by the app's configuration at the time of the first submission.
        """
        if runtime not in _outboxes:
            _outboxes[runtime] = _outbox(runtime)
        return _outboxes[runtime]

    @property
    def producer(self) -> Producer:
        """A producer that sends nothing; each thread has its own."""
        if not hasattr(_local, "producer"):
            _local.producer = Producer(Connection(transport=_KeepingTransport).channel())
        producer: Producer = _local.producer
        return producer

    def take(self) -> Message:
        """The message that this thread published last."""
        channel = self.producer.channel
        (queue, body), channel.kept = channel.kept, None
        priority = body["properties"].get("priority") or 0
        step = self.priorities[max(0, bisect(self.priorities, priority) - 1)]
        key = f"{queue}{self.separator}{step}" if step else queue
        return Message(self.prefix + key, dumps(body).encode(), self.database)


_outboxes: WeakKeyDictionary[Runtime, Outbox | None] = WeakKeyDictionary()


def _outbox(runtime: Runtime) -> Outbox | None:
    url = plain_server_url(runtime.app.conf.broker_write_url)
    if url is None or not _one_server(url, runtime.store_url):
        return None
    options = runtime.app.conf.broker_transport_options
    return Outbox(
        database_of(url),
        options.get("global_keyprefix", ""),
        options.get("sep", "\x06\x16"),
        tuple(options.get("priority_steps", (0, 3, 6, 9))),
    )


def can_push(options: dict[str, Any]) -> bool:
    """Whether a message with these publishing options goes to one plain list; what an exchange routes does not."""
    queue = options.get("queue")
    if options.get("exchange") and options.get("routing_key"):
        return False
    if queue is None or isinstance(queue, str):
        return True
    return queue.exchange.type == "direct" and not queue.expires


def _one_server(one: str, other: str) -> bool:
    return urlsplit(one).scheme == urlsplit(other).scheme and _address(one) == _address(other)


def _address(url: str) -> dict[str, Any]:
    options = connection_options(url)
    return {name: options.get(name) for name in ("host", "port", "path", "username", "password")}
