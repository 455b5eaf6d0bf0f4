"""Progress of running jobs: cheap to report, written at most every so often, and never without its last word."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from dataclasses import replace

from aijobs.errors import StoreUnavailable
from aijobs.job import Progress
from aijobs.store.base import JobStore
from aijobs.store.values import Claim, ProgressWrite
from aijobs.worker.exceptions import JobCancelled, LeaseLost
from aijobs.worker.interrupt import interruption_underway
from aijobs.worker.shapes import fraction_of, progress_write

logger = logging.getLogger(__name__)

#: Weight of the newest interval in the smoothed rate.
SMOOTHING = 0.3
#: After a failed write, the next is tried so much later, seconds.
OUTAGE_PAUSE_SECONDS = 1.0


class Reporter:
    """Coalesces the progress of one attempt.

    A call notes the values. The first call, and each call that comes a full interval after the last write, writes at
    once and so learns whether the job was cancelled; the others leave the write to a thread of the process, which
    comes within an interval.

    Args:
        store: where to write.
        claim: of the attempt.
        interval: least time between two writes, seconds.
    """

    def __init__(self, store: JobStore, claim: Claim, interval: float) -> None:
        self._store = store
        self._claim = claim
        self._interval = interval
        self._progress = Progress()
        self._due = 0.0
        self._pending = False
        self._closed = False
        self._interruption: type[JobCancelled | LeaseLost] | None = None
        self._meter = _RateMeter()
        self._written: tuple[Progress, ProgressWrite] | None = None
        self._writing = threading.Lock()

    def report(self, progress: Progress) -> None:
        """Notes how far the job has come.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
            LeaseLost: the job was given to another attempt, or ended.
        """
        self._progress = progress
        if self._interruption is not None:
            self._interrupt()
        if time.monotonic() >= self._due:
            self.flush()
            if self._interruption is not None:
                self._interrupt()
        elif not self._pending:
            self._pending = True
            _flusher.add(self)

    @property
    def latest(self) -> Progress:
        """What was reported last."""
        return self._progress

    def flush(self) -> None:
        """Writes what was reported last."""
        with self._writing:
            self._write()

    def flush_pending(self) -> None:
        """Writes what was reported last, unless the task has just written by itself."""
        with self._writing:
            away = self._due == math.inf
            if self._pending and (away or time.monotonic() >= self._due):
                self._write()

    def close(self) -> ProgressWrite | None:
        """Ends the reports and gives the last one, if there was any, to be written with the job's end."""
        with self._writing:
            self._closed = True
            self._interruption = None
            return self._snapshot() if self._due else None

    def _write(self) -> None:
        if self._closed:
            return
        self._pending = False
        try:
            change = self._store.run(self._store.report(self._claim, self._snapshot()))
        except StoreUnavailable as error:
            self._postpone(error)
            return
        self._due = time.monotonic() + self._interval
        self._closed = not change.accepted
        if change.accepted and change.cancel_requested:
            self._interruption = JobCancelled
        elif not change.accepted and change.status is not None:
            self._interruption = LeaseLost

    def _interrupt(self) -> None:
        # What cleans up after the first one may report as well.
        if self._interruption is not None and interruption_underway() is None:
            raise self._interruption

    def _snapshot(self) -> ProgressWrite:
        seen = self._progress
        if self._written is None or self._written[0] is not seen:
            rate, eta = self._meter.measure(seen.current, seen.total)
            detail = replace(seen, rate=rate, eta_seconds=eta)
            self._written = seen, progress_write(fraction_of(seen.current, seen.total), detail)
        return self._written[1]

    def _postpone(self, error: StoreUnavailable) -> None:
        # The task must not wait for a store that is away: until it is back, only the thread writes.
        logger.warning("Progress of job %s waits: %s", self._claim.job_id, error)
        self._due = math.inf
        self._pending = True
        _flusher.add(self, OUTAGE_PAUSE_SECONDS)


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


class _Flusher:
    """The thread of a process that writes what reporters left; it starts with the first of them."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._due: dict[Reporter, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, reporter: Reporter, after: float | None = None) -> None:
        """Has a reporter flushed after so many seconds, by default its interval."""
        with self._condition:
            self._due[reporter] = time.monotonic() + (reporter._interval if after is None else after)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="aijobs-progress", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            for reporter in self._take():
                try:
                    reporter.flush_pending()
                except Exception:
                    logger.exception("Progress could not be written")

    def _take(self) -> list[Reporter]:
        with self._condition:
            while not self._due:
                self._condition.wait()
            pause = min(self._due.values()) - time.monotonic()
            if pause > 0:
                self._condition.wait(pause)
            now = time.monotonic()
            ripe = [reporter for reporter, due in self._due.items() if due <= now]
            for reporter in ripe:
                del self._due[reporter]
            return ripe


_flusher = _Flusher()


def _forget_parent() -> None:
    _flusher.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_parent)
