"""Celery's Redis transport, made to outlive its server: a restart of Redis neither ends a worker nor loses its jobs."""

from __future__ import annotations

import logging
from typing import Any

from celery.worker import state
from kombu.transport import redis as stock

logger = logging.getLogger(__name__)

#: Messages that were fetched but not begun when the connection broke; they go back to their queue over the next one.
_orphans: set[str] = set()


class QoS(stock.QoS):
    """Keeps what the worker holds across a broken connection."""

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
            super().ack(delivery_tag)
        except (AttributeError, OSError, *self.channel.connection_errors) as error:
            logger.warning("Acknowledging over a new connection: %s", error)
            _acknowledge_elsewhere(self, delivery_tag)


class Channel(stock.Channel):
    """Reuses its client: kombu makes one for each publish and acknowledgement, which costs more than the command."""

    QoS = QoS
    _reused: Any = None

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
