"""A worker that stops: its jobs may end for a while, then they go back to their queues, and it is gone in time."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from celery import signals
from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker import state

from aijobs.worker.cancelling import end_process, jobs_at_hand, jobs_underway, nudge_main_thread
from aijobs.worker.coroutines import interrupt_job
from aijobs.worker.exceptions import LeaseLost
from aijobs.worker.request import JobRequest

logger = logging.getLogger(__name__)

#: How long a process may take to end after SIGTERM, before it is killed, seconds.
KILL_SECONDS = 1.0
#: How long the worker may take to end by itself once its jobs were taken from it, seconds.
EXIT_SECONDS = 2.0
#: The same when broker or store keep it from giving them back, or from ending: then its lease returns them.
LAST_RESORT_SECONDS = 30.0
_LOOK_SECONDS = 0.05

_ORDERS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Stopper:
    """Sees to it that a worker which was told to stop does so, and loses nothing.

    From SIGTERM, SIGINT or `control shutdown` on, running jobs have `worker_soft_shutdown_timeout` seconds (0: as long
    as they take) to end. Those left then go back to their queues, without an attempt or a delivery being counted, and
    what runs them is ended: a pool process with SIGTERM and SIGKILL, the task of a solo worker by `LeaseLost`, the
    threads of other pools with the worker, whose process does not wait for them.

    A task with `acks_late=False` has no message to give back. It gets the same time; then its job fails as
    `worker_lost`, since nothing would run it again.

    Celery's own cold shutdown (SIGQUIT, `REMAP_SIGTERM`) waits and takes the jobs away by itself; what it leaves is
    treated here without another wait.

    Args:
        worker: Celery's worker.
        goodbye: called when no job is left and before the process ends.
    """

    def __init__(self, worker: Any, goodbye: Callable[[], None]) -> None:
        self._worker = worker
        self._goodbye = goodbye
        self._known: list[JobRequest] = []
        self._begun = self._abandons = False
        #: Not so when it lives in a thread of another program, as in a test.
        self._owns_process = threading.current_thread() is threading.main_thread()
        # Put by signal handlers, which may come while a lock of another kind is held.
        self._order: SimpleQueue[None] = SimpleQueue()
        self._taken_back = threading.Event()
        self._thread = threading.Thread(target=self._stop, name="aijobs-stop", daemon=True)

    def start(self) -> None:
        """Waits for the order to stop."""
        self._thread.start()
        if isinstance(self._worker.pool, SoloPool) and self._owns_process:
            threading.Thread(target=self._listen, args=(_wakeups(),), name="aijobs-signals", daemon=True).start()
        elif not isinstance(self._worker.pool, ProcessPool | SoloPool):
            self._wait_in_place_of(self._worker.pool)
        signals.worker_shutting_down.connect(self._on_signal)
        blueprint = self._worker.blueprint
        stopped = blueprint.on_stopped

        def on_stopped() -> None:
            try:
                stopped()
            finally:
                self._leave()

        blueprint.on_stopped = on_stopped

    def begin(self) -> None:
        """Begins to stop; for signal handlers as well, and again without effect."""
        if not self._begun:
            self._begun = True
            # Celery forgets those that wait for their time.
            self._known = [request for request in list(state.requests.values()) if isinstance(request, JobRequest)]
            self._order.put(None)

    def _wait_in_place_of(self, pool: Any) -> None:
        """A pool of threads would wait for all of them, however long they take."""
        stock = pool.on_stop

        def on_stop() -> None:
            self.begin()
            # It begins no more jobs from here on, and comes back when those that run have ended.
            ending = threading.Thread(target=stock, name="aijobs-pool-stop", daemon=True)
            ending.start()
            self._taken_back.wait()
            ending.join(KILL_SECONDS)
            self._abandons = ending.is_alive()

        pool.on_stop = on_stop

    def _on_signal(self, **_: Any) -> None:
        self.begin()

    def _listen(self, wakeups: int) -> None:
        while not self._begun:
            if _ORDERS.intersection(os.read(wakeups, 1)):
                self.begin()

    def _stop(self) -> None:
        self._order.get()
        try:
            have_ended = self._wait(self._patience)
            threading.Thread(target=self._exit_at_last, name="aijobs-exit", daemon=True).start()
            if not have_ended:
                self._take_back(jobs_underway())
        finally:
            self._taken_back.set()

    @property
    def _patience(self) -> float:
        return 0.0 if _is_cold() else self._worker.app.conf.worker_soft_shutdown_timeout or math.inf

    def _wait(self, seconds: float) -> bool:
        """Whether all jobs have ended within so many seconds."""
        deadline = time.monotonic() + seconds
        while jobs_underway():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def _take_back(self, jobs: list[JobRequest]) -> None:
        for job in jobs:
            try:
                _give_back(job)
            except Exception:
                # Its lease gives it back.
                logger.exception("Job %s is not given back", job.id)
            logger.warning("Job %s did not end in time and is no longer this worker's", job.id)
        self._taken_back.set()
        self._end(jobs, signal.SIGTERM)
        if not self._wait(KILL_SECONDS):
            self._end(jobs, signal.SIGKILL)
        if isinstance(self._worker.pool, ProcessPool | SoloPool) and self._owns_process:
            time.sleep(EXIT_SECONDS)
            self._exit()

    def _end(self, jobs: list[JobRequest], how: signal.Signals) -> None:
        if isinstance(self._worker.pool, SoloPool):
            nudge_main_thread()
        for job in jobs:
            interrupt_job(job.token, LeaseLost())
            end_process(self._worker.pool, job, how)

    def _leave(self) -> None:
        """The last that Celery does: messages were given back, the connection is closed."""
        self._goodbye()
        if self._abandons and self._owns_process:
            signals.worker_shutdown.send(sender=self._worker)
            self._end_process()

    def _exit_at_last(self) -> None:
        time.sleep(LAST_RESORT_SECONDS)
        # The main thread may wait for the broker all the while, and hear only now of jobs that began.
        self._wait(self._patience)
        if self._owns_process:
            self._end_process()

    def _exit(self) -> None:
        """Ends a worker that cannot end by itself."""
        logger.warning("The worker does not end by itself, and is ended")
        for job in {*self._known, *jobs_at_hand()}:
            if not job.acknowledged:
                job.return_to_queue()
            settle = getattr(job.message.channel, "settle", None)
            if settle is not None:
                settle()
        self._goodbye()
        self._end_process()

    def _end_process(self) -> None:
        if getattr(self._worker, "pidlock", None):
            self._worker.pidlock.release()
        logging.shutdown()
        os._exit(int(self._worker.exitcode or state.should_stop or 0))


def _is_cold() -> bool:
    return state.should_terminate not in (None, False)


def _wakeups() -> int:
    """Where the number of each signal can be read, though the main thread is in a call that does not return."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _give_back(job: JobRequest) -> None:
    # A job that has just ended leaves the set before it is acknowledged.
    acknowledged = job.acknowledged
    if job not in state.active_requests or job._already_cancelled:
        return
    if acknowledged:
        job.give_up()
    else:
        job.return_to_queue()
