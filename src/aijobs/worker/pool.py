"""The asyncio pool: `celery worker --pool asyncio -c 200` runs hundreds of `async def` jobs in one process.

One thread runs an event loop. Celery's own tracer runs there too, for each job in a greenlet, which steps aside while
it waits for the job store or for the task's coroutine; so whatever Celery does around a task is done as in any other
pool. Tasks that are no coroutine functions run in threads, or not at all (`AIJOBS_SYNC_TASKS`).
"""

from __future__ import annotations

import contextvars
import functools
import gc
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.concurrency.base import BasePool
from celery.exceptions import SoftTimeLimitExceeded

from aijobs.broker.leases import settling_together
from aijobs.errors import ConfigurationError
from aijobs.runtime import runtime_of
from aijobs.worker.eventloop import Inbox, LoopThread
from aijobs.worker.exceptions import LeaseLost
from aijobs.worker.placement import place_tasks

if TYPE_CHECKING:
    from aijobs.worker.execution import Execution
    from aijobs.worker.greenlets import JobGreenlet

logger = logging.getLogger(__name__)

#: What is begun at once is bounded by the pool's limit, which may grow.
_MOST_THREADS = 10_000
_LOOK_SECONDS = 0.2


class TaskPool(BasePool):
    """Celery's view of it."""

    # It cannot be stopped while a signal is being handled.
    signal_safe = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.limit: int
        _require_greenlet()
        self.grace: float = runtime_of(self.app).settings.cancel_grace_seconds
        self.executor = ThreadPoolExecutor(_MOST_THREADS, "aijobs-sync")
        self.context = contextvars.copy_context()
        self.inbox = Inbox(settling_together)
        self._running: dict[int, _Run] = {}
        self._waiting: deque[_Run] = deque()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._is_ending = False
        place_tasks(self.app)

    def on_start(self) -> None:
        """Starts the event loop."""
        self.thread = LoopThread()
        self.thread.start()
        self._own = threading.Thread(target=self._make_calls, name="aijobs-callbacks", daemon=True)
        if self.options.get("threads"):
            # Celery's loop for this broker knows of nothing but the broker.
            self._own.start()
        # Celery's loop looks whether it is to end when it is woken; by itself that may take a second.
        signals.worker_shutting_down.connect(self._wake)
        # What is there by now stays; the garbage collector need not look at it again and again.
        gc.freeze()

    def register_with_event_loop(self, loop: Any) -> None:
        """Has Celery's loop hear of the ends of jobs."""
        self.inbox.register(loop)

    def on_apply(self, target: Callable[..., Any], args: Any = (), kwargs: Any = None, **told: Any) -> _Run:
        """Begins a job, or has it wait while as many run as may."""
        run = _Run(self, next(self._numbers), functools.partial(target, *args, **kwargs or {}), told)
        with self._lock:
            if len(self._running) >= self.limit:
                self._waiting.append(run)
                return run
            self._running[run.number] = run
        run.accept()
        return run

    def forget(self, run: _Run) -> None:
        """A job has ended; the next one that waits begins."""
        with self._lock:
            if self._running.pop(run.number, None) is None or self._is_ending:
                return
            if not self._waiting or len(self._running) >= self.limit:
                return
            following = self._waiting.popleft()
            self._running[following.number] = following
        following.accept()

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Interrupts a job that is not this worker's any more."""
        run = self._running.get(pid)
        if run is not None:
            run.terminate(signal)

    def give_up(self, pid: int, why: BaseException) -> None:
        """Goes on without a coroutine that does not end."""
        run = self._running.get(pid)
        if run is not None:
            self.thread.call(functools.partial(run.give_up, why))

    def grow(self, n: int = 1) -> None:
        """Lets so many more jobs run at once."""
        self.limit += n

    def shrink(self, n: int = 1) -> None:
        """Lets so many jobs less run at once; those that run go on."""
        self.limit = max(1, self.limit - n)

    def on_stop(self) -> None:
        """Waits for the jobs that run."""
        with self._lock:
            self._is_ending = True
            self._waiting.clear()
        while self._running:
            self.inbox.wait(_LOOK_SECONDS)
        self.inbox.make_calls()
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.thread.stop()

    def on_terminate(self) -> None:
        """Interrupts the jobs that run."""
        for run in tuple(self._running.values()):
            run.terminate(None)

    def _wake(self, **_: Any) -> None:
        self.inbox.put(bool)

    def _make_calls(self) -> None:
        while True:
            self.inbox.wait(60.0)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": len(self._running), "threads": len(self.executor._threads)}


class _Run:
    """One job in the pool.

    Args:
        pool: that runs it.
        number: what it goes by in place of a process id.
        call: Celery's tracer, with its arguments.
        told: what the pool is to say of it, and to whom; and its time limits.
    """

    def __init__(self, pool: TaskPool, number: int, call: Callable[[], Any], told: dict[str, Any]) -> None:
        self.number = number
        self._pool = pool
        self._call = call
        self._told = told
        self._timers: list[Any] = []
        self._execution: Execution | None = None
        self._green: JobGreenlet | None = None
        self._is_late = False

    def accept(self) -> None:
        """Begins it; on a thread of the worker."""
        if accepted := self._told.get("accept_callback"):
            accepted(self.number, time.monotonic())
        self._pool.thread.call(self._begin)

    def terminate(self, _: Any = None) -> None:
        """Interrupts it: it is not this worker's any more."""
        self._pool.thread.call(functools.partial(self._interrupt, LeaseLost()))

    def give_up(self, why: BaseException) -> None:
        """Goes on without its coroutine; on the loop's thread, as all below."""
        execution, green_ = self._execution, self._green
        if execution is None or green_ is None or execution.task.done():
            return
        job_id = self._told.get("correlation_id")
        logger.warning("Job %s does not end and is given up; its coroutine stands at %s", job_id, execution.position())
        self._forget_limits()
        green_.give_up(why)

    def begin(self, execution: Execution) -> None:
        """Its coroutine begins, and so does the time that it has."""
        self._execution = execution
        loop = self._pool.thread.loop
        if soft := self._told.get("soft_timeout"):
            self._timers.append(loop.call_later(soft, self._limit_softly, soft))
        if hard := self._told.get("timeout"):
            self._timers.append(loop.call_later(hard, self._limit, hard))

    def end(self) -> None:
        """Its coroutine has ended.

        Raises:
            _TooLate: its hard time limit has been reported already, so what the coroutine came to counts no more.
        """
        self._forget_limits()
        if self._is_late:
            raise _TooLate

    def _forget_limits(self) -> None:
        self._execution = None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _interrupt(self, why: BaseException) -> None:
        if self._execution is not None:
            self._execution.interrupt_here(why)

    def _limit_softly(self, seconds: float) -> None:
        self._pool.inbox.put(functools.partial(self._told["timeout_callback"], soft=True, timeout=seconds))
        self._interrupt(SoftTimeLimitExceeded(seconds))

    def _limit(self, seconds: float) -> None:
        self._is_late = True
        self._pool.inbox.put(functools.partial(self._told["timeout_callback"], soft=False, timeout=seconds))
        self._interrupt(_TooLate())
        self._timers.append(self._pool.thread.loop.call_later(self._pool.grace, self.give_up, _TooLate()))

    def _begin(self) -> None:
        from aijobs.worker.greenlets import JobGreenlet

        pool = self._pool
        self._green = JobGreenlet(self._trace, pool.thread.loop, pool.executor, self, pool.context.copy())
        self._green.switch()

    def _trace(self) -> None:
        report: Callable[[], object] | None = None
        try:
            given = self._call()
        except _TooLate:
            pass
        except BaseException:  # noqa: BLE001
            report = functools.partial(self._told["error_callback"], ExceptionInfo())
        else:
            report = functools.partial(self._told["callback"], given)
        self._pool.inbox.put(functools.partial(self._report, None if self._is_late else report))

    def _report(self, report: Callable[[], object] | None) -> None:
        try:
            if report is not None:
                report()
        finally:
            self._pool.forget(self)


class _TooLate(BaseException):
    """Leaves Celery's tracer, when the hard time limit of a job has been reported already."""


def _require_greenlet() -> None:
    try:
        import greenlet  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "--pool asyncio needs the package greenlet: pip install 'aijobs[asyncio]', or use another pool."
        ) from None
