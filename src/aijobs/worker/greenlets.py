"""Synchronous code that steps aside: it waits in a greenlet, and the event loop of its thread goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from aijobs._waiting import find_green
from aijobs.worker.coroutines import underway
from aijobs.worker.execution import Execution, Outcome

T = TypeVar("T")


class Limiter(Protocol):
    """Sees to the time limits of a job."""

    def begin(self, execution: Execution) -> None:
        """Its coroutine begins."""

    def end(self) -> None:
        """Its coroutine has ended; raises what has become of the job already, if anything."""


class JobGreenlet(greenlet):
    """A greenlet of an event loop's thread, in which the synchronous code around one job runs.

    Args:
        run: the code.
        loop: of the thread.
        executor: makes calls that would block.
        limiter: of the job.
        context: in which the code and all that it begins runs.
    """

    def __init__(
        self,
        run: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        limiter: Limiter,
        context: contextvars.Context,
    ) -> None:
        super().__init__(run)
        self._loop = loop
        self._executor = executor
        self._limiter = limiter
        self._context = context
        self._main = getcurrent()
        self._awaited: asyncio.Future[Any] | None = None
        self.gr_context = context

    def wait(self, awaitable: Awaitable[T]) -> T:
        """What an awaitable gives; the event loop goes on meanwhile."""
        steps: Any = awaitable.__await__()
        try:
            while True:
                self._wait_until_done(steps.send(None))
        except StopIteration as end:
            given: T = end.value
            return given

    def carry(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine of a task gives."""
        execution = Execution(coroutine, self._loop, self._context)
        self._limiter.begin(execution)
        with underway(execution):
            self._wait_until_done(execution.task)
        self._limiter.end()
        given: T = execution.result()
        return given

    def leave(self, call: Callable[[], T]) -> T:
        """What a call gives that blocks, made by a thread in a copy of this context."""
        context = contextvars.copy_context()
        outcome: Outcome = self.wait(self._loop.run_in_executor(self._executor, context.run, _attempted, call))
        given: T = outcome.unfold()
        return given

    def give_up(self, why: BaseException) -> None:
        """Waits no longer, and raises this instead; called on the loop's thread."""
        if self._awaited is not None:
            self._awaited.remove_done_callback(self._resume)
            self._awaited = None
            self.throw(why)

    def _wait_until_done(self, future: asyncio.Future[Any] | None) -> None:
        if future is None:
            self._loop.call_soon(self._resume)
        else:
            # Where a task of asyncio would take note that it is being awaited.
            future._asyncio_future_blocking = False
            future.add_done_callback(self._resume)
        self._awaited = future
        self._main.switch()

    def _resume(self, _: Any = None) -> None:
        self._awaited = None
        self.switch()


def _attempted(call: Callable[[], Any]) -> Outcome:
    # Some exceptions do not pass through a future.
    try:
        return Outcome(call())
    except BaseException as error:  # noqa: BLE001
        return Outcome(error=error)


def _green() -> JobGreenlet | None:
    here = getcurrent()
    return here if isinstance(here, JobGreenlet) else None


find_green(_green)
