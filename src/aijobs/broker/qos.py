"""What a channel has delivered and nobody has acknowledged yet."""

from __future__ import annotations

from typing import Any

from celery.worker import state
from kombu.transport import redis as stock
from kombu.transport import virtual

from aijobs.broker.held import BACK, FRONT, lost_deliveries
from aijobs.broker.leases import settle_soon


class QoS(stock.QoS):
    """Keeps what the worker holds across a broken connection; the broker has booked it by the time it comes here."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Messages of jobs that run on though their channel is closed.
        self._outliving: dict[str, Any] = {}

    def append(self, message: Any, delivery_tag: str) -> None:
        """Counts a fetched message as unacknowledged."""
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledges: with the next fetch when one follows at once, else now."""
        self._outliving.pop(delivery_tag, None)
        virtual.QoS.ack(self, delivery_tag)
        self.channel.lease.ack(delivery_tag)
        self._settle()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drops a message, or gives it back: to the end of its queue, or to the front when its process was lost."""
        if not requeue:
            self.ack(delivery_tag)
            return
        message = self._delivered.get(delivery_tag) or self._outliving.pop(delivery_tag, None)
        virtual.QoS.ack(self, delivery_tag)
        self.channel.lease.give_back(delivery_tag, message, FRONT if message and lost_deliveries(message) else BACK)
        self._settle()

    def restore_unacked(self, client: Any = None) -> None:
        """Gives messages back when a channel closes, in the order in which they came.

        When the worker goes on after this, jobs that run keep their messages, or they would be executed twice.
        """
        self._flush()
        if state.should_stop is None and state.should_terminate is None:
            running = {request.message.delivery_tag for request in tuple(state.active_requests)}
            self._outliving.update((tag, self._delivered.pop(tag)) for tag in running & self._delivered.keys())
        for tag, message in reversed(self._delivered.items()):
            self.channel.lease.give_back(tag, message)
        self._delivered.clear()
        self.channel.lease.settle()

    def _settle(self) -> None:
        # Looked at after the buffer is filled: a fetch that begins meanwhile, in another thread, takes it along.
        settle_soon(self.channel)
