"""One coroutine of a task, carried out by an event loop in such a way that it can be interrupted."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from aijobs.worker.exceptions import TaskAborted

#: How long what a job leaves behind may take to end, seconds.
CHILDREN_SECONDS = 5.0

#: The tasks that were begun on behalf of the job whose code runs, and have not ended.
_family: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("aijobs_family", default=None)


class _Cancelled(asyncio.CancelledError):
    """What a coroutine sees when its job is cancelled or lost."""


class _SoftLimit(SoftTimeLimitExceeded, asyncio.CancelledError):
    """What a coroutine sees at its soft time limit; task groups and the like end their children then."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a piece of code came to."""

    value: Any = None
    error: BaseException | None = None

    def unfold(self) -> Any:
        """Gives the value, or raises the error."""
        if self.error is None:
            return self.value
        try:
            raise self.error
        finally:
            # The traceback holds this frame, which would hold the error.
            del self


class Execution:
    """A coroutine, as a task of its loop.

    Everything but `interrupt` belongs to the loop's thread.

    Args:
        coroutine: of a task.
        loop: that carries it out.
        context: in which.
    """

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, context: Context | None = None
    ) -> None:
        self._loop = loop
        self._guard = _Guard(coroutine)
        self._ends = False
        self.task = asyncio.Task(self._carry(), loop=loop, context=context)

    def interrupt(self, why: BaseException) -> None:
        """Raises at the `await` where the coroutine is: a `SoftTimeLimitExceeded` as it is, else `CancelledError`.

        It may be called from any thread, and from signal handlers. While the coroutine still handles an interruption,
        as in its `finally` blocks, this has no effect.

        Args:
            why: what to raise out of the task then.
        """
        self._loop.call_soon_threadsafe(self.interrupt_here, why)

    def interrupt_here(self, why: BaseException) -> None:
        """The same, at once, on the loop's thread."""
        if not (self._ends or self.task.done() or self._guard.is_interrupted):
            self._guard.asked = why
            self.task.cancel()

    def result(self) -> Any:
        """What the coroutine gave, or raises what it raised, or what it was interrupted for.

        Raises:
            TaskAborted: it was cancelled by its own code.
        """
        if self.task.cancelled():
            # Before it began.
            self._guard.coroutine.close()
            raise self._guard.asked or TaskAborted(_CANCELLED_ITSELF)
        outcome = self.task.result()
        if outcome.error is not None:
            raise self._explained(outcome.error)
        return outcome.value

    def position(self) -> str:
        """Where in its code the coroutine is."""
        return position_of(self._guard.coroutine)

    async def _carry(self) -> Outcome:
        family: set[asyncio.Task[Any]] = set()
        _family.set(family)
        try:
            outcome = Outcome(await self._guard)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001
            outcome = Outcome(error=error)
        self._ends = True
        if family:
            await _end(family)
        return outcome

    def _explained(self, error: BaseException) -> BaseException:
        why = self._guard.raised
        if isinstance(why, SoftTimeLimitExceeded):
            if _is_or_holds(error, _SoftLimit | asyncio.CancelledError):
                return _caused(why, error)
        elif why is not None and _comes_from(error, asyncio.CancelledError):
            return _caused(why, error)
        if isinstance(error, asyncio.CancelledError):
            return _caused(TaskAborted(_CANCELLED_ITSELF), error)
        return error


_CANCELLED_ITSELF = "The task's coroutine was cancelled by its own code (CancelledError)."


class _Guard:
    """Drives a coroutine, and puts what its job is interrupted for in the place of a cancellation."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        #: What it is to be interrupted for, when the cancellation that was asked for arrives.
        self.asked: BaseException | None = None
        #: What it was interrupted for the last time.
        self.raised: BaseException | None = None
        self._handled: weakref.ref[BaseException] | None = None

    @property
    def is_interrupted(self) -> bool:
        """Whether an interruption is on its way to the coroutine, or through it.

        An exception is there as long as it is handled, and no longer.
        """
        return self.asked is not None or (self._handled is not None and self._handled() is not None)

    def __await__(self) -> Generator[Any, None, Any]:
        coroutine, error = self.coroutine, None
        while True:
            try:
                future = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            try:
                yield future
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:  # noqa: BLE001
                error = self._replaced(thrown)

    def _replaced(self, thrown: BaseException) -> BaseException:
        why, self.asked = self.asked, None
        if why is None or not isinstance(thrown, asyncio.CancelledError):
            return thrown
        if isinstance(why, SoftTimeLimitExceeded):
            replaced: BaseException = _SoftLimit(*why.args)
            task = asyncio.current_task()
            if task is not None:
                # The coroutine may go on.
                task.uncancel()
        else:
            replaced = _Cancelled()
            replaced.__cause__ = why
        self.raised, self._handled = why, weakref.ref(replaced)
        return replaced


def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """A task factory for event loops that carry out jobs: it knows what each of them begins."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    family = _family.get()
    if family is not None:
        family.add(task)
        task.add_done_callback(family.discard)
    return task


def position_of(awaitable: Any) -> str:
    """Where the code of a coroutine stands, through whatever it awaits, short of asyncio's own code."""
    place = ""
    while awaitable is not None:
        frame = next(filter(None, (getattr(awaitable, name, None) for name in _FRAMES)), None)
        if frame is not None and not frame.f_code.co_filename.startswith(_ASYNCIO):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        awaitable = next(filter(None, (getattr(awaitable, name, None) for name in _AWAITED)), None)
    return place


_ASYNCIO = str(Path(asyncio.__file__).parent)
_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")


async def _end(family: set[asyncio.Task[Any]]) -> None:
    """Ends what a job leaves behind."""
    deadline = asyncio.get_running_loop().time() + CHILDREN_SECONDS
    while left := [task for task in family if not task.done()]:
        seconds = deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=min(1.0, seconds))


def _caused(why: BaseException, error: BaseException) -> BaseException:
    why.__cause__ = error if error is not why else None
    return why


def _is_or_holds(error: BaseException, kind: Any) -> bool:
    """Whether an exception is of a kind, or a group with one of that kind."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_or_holds(one, kind) for one in error.exceptions)
    return isinstance(error, kind)


def _comes_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an exception is of a kind, or was raised because of one of that kind."""
    while error is not None:
        if _is_or_holds(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
