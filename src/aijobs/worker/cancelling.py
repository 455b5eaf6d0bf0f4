"""What a worker's main process does about jobs that were cancelled or lost: it asks, then ends the process."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker import state

from aijobs.store.values import Standing
from aijobs.worker.coroutines import interrupt_job
from aijobs.worker.exceptions import JobCancelled, LeaseLost
from aijobs.worker.interrupt import NUDGE, is_listening
from aijobs.worker.pool import TaskPool as LoopPool
from aijobs.worker.request import JobRequest

logger = logging.getLogger(__name__)


def jobs_at_hand() -> list[JobRequest]:
    """The jobs that this worker runs, or is about to."""
    return _jobs(state.reserved_requests) + [
        job for job in _jobs(state.active_requests) if job not in state.reserved_requests
    ]


def jobs_underway() -> list[JobRequest]:
    """The jobs that were begun and have not ended."""
    return _jobs(state.active_requests)


def nudge(pool: Any, job: JobRequest, why: JobCancelled | LeaseLost) -> None:
    """Interrupts the coroutine of a job, or has the process that runs it look whether it is still wanted.

    Code in a thread cannot be told.
    """
    if interrupt_job(job.token, why):
        return
    if isinstance(pool, SoloPool):
        nudge_main_thread()
    elif isinstance(pool, ProcessPool) and _is_running(pool, job):
        os.kill(job.worker_pid, NUDGE)


def nudge_main_thread() -> None:
    """Has the main thread, which runs the tasks of a solo worker, look whether its job is still wanted."""
    if is_listening():
        signal.pthread_kill(threading.main_thread().ident or 0, NUDGE)


def end_process(pool: Any, job: JobRequest, how: signal.Signals) -> None:
    """Ends the process that runs a job, when it is one of a pool of processes; the pool replaces it.

    A coroutine of the asyncio pool is given up at SIGKILL: the pool goes on as if it had ended.
    """
    if isinstance(pool, LoopPool):
        if how is signal.SIGKILL:
            pool.give_up(job.worker_pid, JobCancelled())
    elif isinstance(pool, ProcessPool) and _is_running(pool, job):
        job.ending = True
        pool.terminate_job(job.worker_pid, how)


@dataclass(slots=True)
class _Patience:
    """How far it has come with a cancelled job."""

    #: The next step, and when it is due, on the monotonic clock.
    due: float
    steps: list[signal.Signals] = field(default_factory=lambda: [signal.SIGTERM, signal.SIGKILL])


class Canceller:
    """Stops jobs that are not wanted any more.

    A job is nudged as often as it is found to be running. When it was cancelled and still runs after `grace` seconds,
    because it is deep in foreign code or swallowed the exception, its process is told to end (SIGTERM: `finally` blocks
    run), and killed after as long again.

    Args:
        pool: of the worker.
        grace: seconds.
    """

    def __init__(self, pool: Any, grace: float) -> None:
        self._pool = pool
        self._grace = grace
        self._told: WeakKeyDictionary[JobRequest, _Patience] = WeakKeyDictionary()

    def heed(self, job: JobRequest, standing: Standing) -> None:
        """Does what a job's standing asks for."""
        if standing is Standing.HELD or job not in state.active_requests:
            return
        nudge(self._pool, job, JobCancelled() if standing is Standing.CANCEL else LeaseLost())
        if standing is Standing.CANCEL:
            self._escalate(job)

    def _escalate(self, job: JobRequest) -> None:
        now = time.monotonic()
        patience = self._told.setdefault(job, _Patience(now + self._grace))
        if now >= patience.due and patience.steps:
            how = patience.steps.pop(0)
            patience.due = now + self._grace
            logger.warning("Cancelled job %s does not stop; what runs it is told to end (%s)", job.id, how.name)
            end_process(self._pool, job, how)


def _is_running(pool: Any, job: JobRequest) -> bool:
    # The process is a child that nobody has waited for, so its id cannot belong to another.
    return job in state.active_requests and any(
        process.pid == job.worker_pid and process.exitcode is None for process in tuple(pool._pool._pool)
    )


def _jobs(requests: Any) -> list[JobRequest]:
    """A copy of one of Celery's sets, which another thread may be changing."""
    while True:
        try:
            return [request for request in tuple(requests) if isinstance(request, JobRequest)]
        except RuntimeError:
            continue
