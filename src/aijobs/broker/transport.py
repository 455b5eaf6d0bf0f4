"""Celery's Redis transport with leases: what a dead worker held goes back in seconds, what a live one holds stays.

A restart of Redis neither ends a worker nor loses its jobs.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as stock

from aijobs.broker.channel import Channel
from aijobs.broker.connection import sentinel_options
from aijobs.errors import ConfigurationError


class SentinelChannel(Channel, stock.SentinelChannel):
    """The same over Redis Sentinel."""

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if getattr(self, "master_name", None) is None:
            raise ConfigurationError(
                "The broker is a sentinel:// address, but broker_transport_options has no 'master_name': set it to the "
                "name under which the sentinels know the Redis server, such as {'master_name': 'mymaster'}."
            )
        self.sentinel_kwargs = sentinel_options(self.connection.client.transport_options)
        return super()._get_pool(asynchronous)


class Poller(stock.MultiChannelPoller):
    """Kombu's poller, which also sees to what no fetch has taken along."""

    #: Whether Celery's event loop drives it.
    has_loop = False
    #: The sockets that the loop reads.
    _read: Any = ()

    @property
    def fds(self) -> dict[int, Any]:
        """The sockets that the event loop does not read yet; kombu would register all of them at each tick."""
        found: dict[int, Any] = super().fds
        return {fd: channel for fd, channel in found.items() if fd not in self._read}

    def drive_by(self, loop: Any) -> None:
        """Has an event loop drive it."""
        self.has_loop = True
        self._read = loop.readers

    def on_poll_start(self) -> None:
        """Sends what is to be sent before the loop waits."""
        super().on_poll_start()
        for channel in tuple(self._channels):
            channel.settle()


class Transport(stock.Transport):
    """The transport that `setup()` puts in the place of kombu's for Redis brokers."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Has Celery's event loop drive the poller."""
        super().register_with_event_loop(connection, loop)
        self.cycle.drive_by(loop)


class SentinelTransport(Transport, stock.SentinelTransport):
    """The same over Redis Sentinel."""

    Channel = SentinelChannel
