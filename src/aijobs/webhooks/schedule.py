"""When a webhook that was not taken is tried again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MINUTE, _HOUR, _DAY = 60.0, 3_600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits between the attempts to tell one event."""

    #: Seconds after the first attempt, the second, and so on; the last one is repeated.
    waits: Sequence[float] = (5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, _DAY)
    #: Seconds after the event for which it is tried.
    lifetime: float = 3 * _DAY
    #: A wait is longer or shorter by up to this part of it.
    jitter: float = 0.1
    #: Seconds for which a receiver may ask, at most.
    longest_asked: float = _DAY

    def wait_after(self, attempt: int, age: float, asked: float | None = None) -> float | None:
        """Seconds until the next attempt; None when there is none.

        Args:
            attempt: the one that failed, from 1.
            age: seconds since the event.
            asked: seconds that the receiver asked to be left alone for.
        """
        wait = self.waits[min(attempt, len(self.waits)) - 1] * random.uniform(1 - self.jitter, 1 + self.jitter)
        wait = max(wait, min(asked or 0.0, self.longest_asked))
        return wait if age + wait <= self.lifetime else None


def read_retry_after(text: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110); None without a sensible one."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
