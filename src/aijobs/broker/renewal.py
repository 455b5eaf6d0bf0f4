"""The thread that renews a lease, and takes from those who have lost theirs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence, Sized
from typing import Any, Protocol

from redis.exceptions import RedisError

from aijobs.broker.held import RENEW, Session, reap
from aijobs.store.line import Line

logger = logging.getLogger(__name__)

#: What a broker that is away raises.
UNAVAILABLE = (RedisError, OSError)


class Held(Protocol):
    """What is under the lease, as far as its renewal asks."""

    session: Session
    #: Makes connections to the broker.
    pool: Any

    @property
    def consumers(self) -> Sized:
        """The open consumers."""

    @property
    def has_news(self) -> bool:
        """Whether something is still to be told to the broker."""

    def look_again(self) -> None:
        """Tells it."""


class Renewal(threading.Thread):
    """Renews a lease every few seconds, and returns the messages of sessions that have lost theirs.

    Args:
        lease: to renew.
        interval: how often, seconds.
    """

    def __init__(self, lease: Held, interval: float) -> None:
        super().__init__(name="aijobs-lease", daemon=True)
        self._lease = lease
        self._interval = interval
        self._continuity = Continuity(lease.session.lease)
        self._line = self._new_line()
        self._pid = os.getpid()

    def run(self) -> None:
        """Goes on as long as it is needed."""
        answered = time.monotonic()
        held = 1
        while self._is_needed(held, answered):
            try:
                held = self._beat()
                answered = time.monotonic()
            except UNAVAILABLE as error:
                if not self._continuity.interrupt():
                    logger.warning("The lease on messages is not renewed until the broker answers again: %s", error)
            except Exception:
                # Without this thread the process would lose what it holds.
                self._continuity.interrupt()
                logger.exception("The lease on messages is not renewed")
            time.sleep(self._interval)

    def _is_needed(self, held: int, answered: float) -> bool:
        if self._pid != os.getpid():
            return False
        if self._lease.consumers or self._lease.has_news:
            return True
        return held > 0 and time.monotonic() - answered < self._lease.session.lease / 1_000

    def _beat(self) -> int:
        session = self._lease.session
        if self._line.pool is not self._lease.pool:
            self._line.close()
            self._line = self._new_line()
        now, held = self._line.run(RENEW, session.keys, (session.id, session.lease))
        self._lease.look_again()
        if self._continuity.renewed(now):
            for lost in reap(self._line, session, now + session.lease // 4):
                logger.warning("A message of the lost worker session %s goes back to its queue.", lost)
        return int(held)

    def _new_line(self) -> Line:
        return _OneConnection(self._lease.pool, health_check_interval=0)


class _OneConnection(Line):
    """A line that does not connect again by itself, so that a server which was away is noticed."""

    def _converse(self, exchange: Callable[[Any, Sequence[Any]], Any], what: Sequence[Any]) -> Any:
        connection = self._idle.pop() if self._idle else self._connect()
        return self._keep(connection, exchange, what)


class Continuity:
    """Whether a process may take the messages of others: only when it knows that they could have renewed.

    After an outage every lease has passed. So a process waits until its own renewals have come without a gap for as
    long as a lease lasts; a gap is a renewal that failed or came late, by the server's clock.

    Args:
        lease: milliseconds.
    """

    def __init__(self, lease: int) -> None:
        self._lease = lease
        self._since = 0
        self._last = 0

    def interrupt(self) -> bool:
        """A renewal failed; tells whether the one before it had failed as well."""
        last, self._last = self._last, 0
        return last == 0

    def renewed(self, now: int) -> bool:
        """A renewal came at that time; tells whether the time without a gap is long enough."""
        if not 0 <= now - self._last <= self._lease // 2:
            self._since = now
        self._last = now
        return now - self._since >= self._lease
