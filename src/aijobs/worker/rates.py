"""How fast a count rises, and when it will be through."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from aijobs.job import Progress
from aijobs.store.values import ProgressWrite
from aijobs.worker.shapes import fraction_of, progress_write

#: Weight of the newest interval in the smoothed rate.
SMOOTHING = 0.3


class ProgressMeter:
    """Makes of reports what is written, with rate and remaining time; the same of one that is written again."""

    def __init__(self) -> None:
        self._rates = _RateMeter()
        self._lock = threading.Lock()
        self._last: tuple[Progress, ProgressWrite] | None = None

    @property
    def has_measured(self) -> bool:
        """Whether there was a report."""
        return self._last is not None

    def measure(self, seen: Progress) -> ProgressWrite:
        """A report as it is written."""
        with self._lock:
            if self._last is None or self._last[0] is not seen:
                rate, eta = self._rates.measure(seen.current, seen.total)
                detail = replace(seen, rate=rate, eta_seconds=eta)
                self._last = seen, progress_write(fraction_of(seen.current, seen.total), detail)
            return self._last[1]


class _RateMeter:
    """Units per second, smoothed exponentially; it begins anew when the count falls."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None
        self._rate: float | None = None

    def measure(self, current: float | None, total: float | None) -> tuple[float | None, float | None]:
        """Rate and seconds left."""
        now = time.monotonic()
        if current is None:
            self._seen = self._rate = None
            return None, None
        if self._seen is None or current < self._seen[1]:
            self._seen, self._rate = (now, current), None
        elif now > self._seen[0]:
            newest = (current - self._seen[1]) / (now - self._seen[0])
            self._rate = newest if self._rate is None else SMOOTHING * newest + (1 - SMOOTHING) * self._rate
            self._seen = (now, current)
        if self._rate is None:
            return None, None
        left = None if total is None or not self._rate else max(0.0, (total - current) / self._rate)
        return round(self._rate, 3), None if left is None else round(left, 3)
