"""What a running job reports and gives out: cheap to say, written every so often, and never without its last word."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time

from aijobs.errors import StoreUnavailable
from aijobs.job import LogEntry, Piece, Progress
from aijobs.store.base import JobStore, Operation
from aijobs.store.values import Change, Claim, OutputEntry
from aijobs.worker.backlog import Backlog
from aijobs.worker.exceptions import JobCancelled, LeaseLost
from aijobs.worker.flusher import SOON_SECONDS, flusher
from aijobs.worker.interrupt import interruption_for, interruption_underway
from aijobs.worker.patience import call_patiently
from aijobs.worker.pieces import data_entry, log_entry
from aijobs.worker.rates import ProgressMeter
from aijobs.worker.writes import LastWords, Write

logger = logging.getLogger(__name__)

#: After a failed write, the next is tried so much later, seconds.
OUTAGE_PAUSE_SECONDS = 1.0
#: While somebody writes, others look again so much later, seconds.
BUSY_SECONDS = 0.01
#: When so many bytes wait to be written, whoever says more waits for them.
MOST_WAITING = 1_048_576
#: Code that cannot wait may say so much in one go, bytes, as long as the store answers.
MOST_AT_ONCE = 4 * MOST_WAITING


class Reporter:
    """Coalesces what one attempt says: progress, output and log lines; any thread may say it.

    A call notes the values. The first call, and each call that comes a full interval after the last write, writes at
    once and so learns whether the job was cancelled; the others leave the write to a thread of the process, which
    comes within an interval. Output is written in order and before the progress that was reported with it.

    On an event loop, which must not stand still, that thread writes everything.

    Args:
        store: where to write.
        claim: of the attempt.
        interval: least time between two writes of progress, seconds.
        output_interval: least time between two writes of output, seconds.
        never_waits: whether callers are never to wait for the store, even where no event loop runs.
    """

    def __init__(
        self, store: JobStore, claim: Claim, interval: float, output_interval: float, *, never_waits: bool = False
    ) -> None:
        self.store = store
        #: Which attempt of the job it is, once that is known.
        self.number = 1
        self._claim = claim
        self._interval = interval
        self._output_interval = output_interval
        self._never_waits = never_waits
        self._progress = self._written = Progress()
        self._meter = ProgressMeter()
        self._backlog = Backlog()
        self._underway: Write | None = None
        # Nobody waits for the thread that writes: what it logs meanwhile may be forwarded to the job, through locks of
        # logging that others hold.
        self._gate = threading.RLock()
        self._writer: int | None = None
        # On the monotonic clock: when progress and output may be written next, and when the thread will do it.
        self._due = self._output_due = 0.0
        self._planned = math.inf
        #: Whether the attempt has ended, and whether the store takes nothing more from it.
        self._over = self._refused = False
        self._interruption: type[JobCancelled | LeaseLost] | None = None
        self._threads_in_wait: set[int] = set()

    @property
    def latest(self) -> Progress:
        """What was reported last."""
        return self._progress

    def report(self, progress: Progress) -> None:
        """Notes how far the job has come.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
            LeaseLost: the job was given to another attempt, or ended.
        """
        self._progress = progress
        if self._interruption is not None:
            self._interrupt()
        self._have_written(self._due)

    def emit(self, piece: Piece) -> None:
        """Gives out a piece; raises what `Attempt.emit` says."""
        if piece.text is None:
            self._say(data_entry(piece.data))
        elif piece.text:
            self._say(piece.text)

    def log(self, line: LogEntry) -> None:
        """Notes a line for people; raises what `emit` raises."""
        self._say(log_entry(line))

    def flush(self) -> None:
        """Writes what waits; while the store is away, it goes on waiting."""
        self._heed(self._exchange())

    def flush_if_it_may_wait(self) -> None:
        """The same, where callers may be kept waiting and the store is there."""
        if self._may_wait() and self._due != math.inf:
            self.flush()

    def close(self) -> LastWords:
        """Ends what is said, and gives what is to be written with the job's end."""
        self._over = True
        if self._refused:
            return LastWords()
        output, is_new = self._backlog.take_all(), self._progress is not self._written
        last = self._meter.measure(self._progress) if is_new or self._meter.has_measured else None
        return LastWords(last, output, unwritten=is_new or output is not None)

    # --- for the thread that writes ----------------------------------------------------------------------------------

    def begin(self) -> Operation[Change] | None:
        """What is to be written now, if anything; then nobody else writes until `end`."""
        self._planned = math.inf
        if not self._take_pen(threading.get_ident()):
            return None
        self._underway = None
        try:
            self._underway = self._prepare()
        finally:
            if self._underway is None:
                self._writer = None
        if self._underway is None:
            self._plan_rest()
            return None
        return self._underway.operation

    def end(self, outcome: Change | StoreUnavailable) -> None:
        """Notes how the write went that `begin` gave."""
        try:
            if self._underway is not None:
                self._settle(self._underway, outcome)
        finally:
            self._writer = None
        self._heed(outcome)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _say(self, said: str | OutputEntry) -> None:
        if self._interruption is not None:
            self._interrupt()
        if self._over or self._refused:
            return
        if self._backlog.size > MOST_WAITING:
            self._make_room()
        self._backlog.add(said)
        self._have_written(self._output_due)

    def _have_written(self, due: float) -> None:
        """Writes now, if it is time, or has it done when it is."""
        if time.monotonic() >= due and self._may_wait():
            self.flush()
            if self._interruption is not None:
                self._interrupt()
        elif due < self._planned:
            self._plan(due)

    def _may_wait(self) -> bool:
        return not self._never_waits and asyncio._get_running_loop() is None

    def _make_room(self) -> None:
        thread = threading.get_ident()
        if thread == self._writer or thread in self._threads_in_wait or flusher.runs_here:
            # It says while it waits that it waits, or is about to let go of some.
            return
        if not self._may_wait():
            if self._due == math.inf or self._backlog.size > MOST_AT_ONCE:
                raise StoreUnavailable(
                    f"Job {self._claim.job_id} gives out more than the store takes: {self._backlog.size} bytes wait."
                )
            return
        try:
            self._threads_in_wait.add(thread)
            call_patiently(self._make_some_room, (StoreUnavailable,))
        finally:
            self._threads_in_wait.discard(thread)

    def _make_some_room(self) -> None:
        deadline = time.monotonic() + OUTAGE_PAUSE_SECONDS
        while self._backlog.size > MOST_WAITING and not (self._over or self._refused):
            outcome = self._exchange()
            if isinstance(outcome, StoreUnavailable):
                raise outcome
            if self._interruption is not None:
                self._interrupt()
            if outcome is None:
                time.sleep(BUSY_SECONDS)
                if time.monotonic() > deadline:
                    raise StoreUnavailable("The thread that writes to the job store stands still.")

    def _exchange(self) -> Change | StoreUnavailable | None:
        """Writes what waits, unless somebody does."""
        me = threading.get_ident()
        is_inside = self._writer == me
        try:
            return self._write() if self._take_pen(me) else None
        finally:
            if self._writer == me and not is_inside:
                self._writer = None

    def _take_pen(self, me: int) -> bool:
        with self._gate:
            if self._writer is None:
                self._writer = me
                return True
        # Who writes may have begun before the newest was said.
        self._plan(time.monotonic() + BUSY_SECONDS)
        return False

    def _write(self) -> Change | StoreUnavailable | None:
        write = self._prepare()
        if write is None:
            return None
        outcome: Change | StoreUnavailable
        try:
            outcome = self.store.run(write.operation)
        except StoreUnavailable as error:
            outcome = error
        self._settle(write, outcome)
        return outcome

    def _prepare(self) -> Write | None:
        if self._over or self._refused:
            return None
        report, output = self._report_to_write(), self._backlog.take()
        if report is None and output is None:
            return None
        progress = None if report is None else self._meter.measure(report)
        return Write(report, output, self.store.report(self._claim, progress, None, output))

    def _report_to_write(self) -> Progress | None:
        is_due = self._due == math.inf or time.monotonic() + SOON_SECONDS >= self._due
        return self._progress if is_due and self._progress is not self._written else None

    def _settle(self, write: Write, outcome: Change | StoreUnavailable) -> None:
        now = time.monotonic()
        if isinstance(outcome, StoreUnavailable):
            # The task must not wait for a store that is away: until it is back, only the thread writes.
            self._plan(now + OUTAGE_PAUSE_SECONDS)
            self._due = self._output_due = math.inf
            return
        if self._due == math.inf:
            self._due = self._output_due = now
        if write.output is not None:
            self._backlog.settle(write.output)
            self._output_due = now + self._output_interval
        if write.report is not None:
            self._written = write.report
            self._due = now + self._interval
        self._refused = self._refused or not outcome.accepted
        self._interruption = interruption_for(outcome)
        self._plan_rest()

    def _plan_rest(self) -> None:
        if self._over or self._refused:
            return
        if self._backlog.size:
            self._plan(self._output_due)
        if self._progress is not self._written:
            self._plan(self._due)

    def _plan(self, due: float) -> None:
        if due < self._planned:
            self._planned = due
            try:
                flusher.add(self, due)
            except BaseException:
                # An exception from outside must not have everybody rely on a plan that there is not.
                self._planned = math.inf
                raise

    def _heed(self, outcome: Change | StoreUnavailable | None) -> None:
        # Not while the lock is held: whoever forwards the log to the job comes back here.
        if isinstance(outcome, StoreUnavailable):
            logger.warning("Progress and output of job %s wait: %s", self._claim.job_id, outcome)

    def _interrupt(self) -> None:
        # What cleans up after the first one may report as well; and the thread that writes is not the task's.
        is_deaf = self._over or flusher.runs_here or interruption_underway() is not None
        if self._interruption is not None and not is_deaf:
            raise self._interruption
