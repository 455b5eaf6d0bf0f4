"""Tasks that are coroutine functions (`async def`), in every pool.

In a thread that has no event loop they run on one that lives as long as the thread does: what a task module opened at
its first use, such as the client of a provider, stays usable for the jobs after it. In the asyncio pool they run on the
loop that all jobs share.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from celery import _state

from aijobs._waiting import green
from aijobs.worker.claims import TOKEN
from aijobs.worker.execution import CHILDREN_SECONDS, Execution, Outcome, make_task
from aijobs.worker.stacks import keep_request_by_context

#: The attribute of a task's function that says that it runs a coroutine.
_MARK = "__aijobs_coroutine__"


def is_coroutine_task(task: Any) -> bool:
    """Whether a task is an `async def`."""
    return hasattr(task.run, _MARK) or hasattr(getattr(task, "_orig_run", None), _MARK)


def runs_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function that runs a coroutine function."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return run_coroutine(function(*args, **kwargs))

    return mark(run)


def mark(run: Callable[..., Any]) -> Callable[..., Any]:
    """Says of a function that it runs a coroutine."""
    setattr(run, _MARK, True)
    return run


def make_plain_tasks_run(task: Any) -> None:
    """Has a task that is an `async def` run, though its base class knows nothing of them."""
    # Celery wraps the function of a task with `autoretry_for`.
    name = "_orig_run" if getattr(task, "_orig_run", None) else "run"
    function = getattr(task, name)
    if inspect.iscoroutinefunction(function):
        setattr(task, name, runs_coroutine(function))
        keep_request_by_context(type(task))


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs the coroutine of a task until it is done, wherever this is called.

    Raises:
        TypeError: it gives another coroutine.
    """
    given = _run(coroutine)
    if inspect.iscoroutine(given):
        given.close()
        raise TypeError("The task returned a coroutine, not what that gives: write `return await …`.")
    return given


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    here = green()
    if here is not None:
        return here.carry(coroutine)
    if asyncio._get_running_loop() is not None:
        return _run_aside(coroutine)
    return _loop_of_thread().run(coroutine)


@contextlib.contextmanager
def underway(execution: Execution) -> Iterator[None]:
    """Makes an execution known as that of the job that runs here."""
    task = _state.get_current_task()
    token = getattr(task.request, TOKEN, None) if task is not None else None
    if token is None or token in _underway:
        yield
        return
    _underway[token] = execution
    try:
        yield
    finally:
        del _underway[token]


def interrupt_job(token: str, why: BaseException) -> bool:
    """Interrupts the coroutine of a job, from any thread; False when none of this process runs for it.

    Args:
        token: of the job's claim.
        why: see `Execution.interrupt`.
    """
    execution = _underway.get(token)
    if execution is None:
        return False
    with contextlib.suppress(RuntimeError):
        # Its loop may have been closed right now.
        execution.interrupt(why)
    return True


def execution_here() -> Execution | None:
    """The execution that the main thread of a process runs, for signal handlers."""
    return next(iter(_underway.values()), None)


class _ThreadLoop:
    """The event loop of a thread."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(make_task)
        weakref.finalize(self, self._loop.close)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        execution = Execution(coroutine, self._loop, contextvars.copy_context())
        with underway(execution):
            try:
                self._loop.run_until_complete(execution.task)
            except asyncio.CancelledError:
                pass
            except BaseException:
                # A signal ends this process: `finally` blocks run all the same.
                self._abort(execution)
                raise
            self._loop.run_until_complete(_settle())
        return execution.result()

    def _abort(self, execution: Execution) -> None:
        if not execution.task.done():
            execution.task.cancel()
            self._loop.run_until_complete(asyncio.wait([execution.task], timeout=CHILDREN_SECONDS))


class _Here(threading.local):
    loop: _ThreadLoop | None = None


async def _settle() -> None:
    """Lets end what ends by itself, such as asynchronous generators that were left before their end."""
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=1.0)


def _loop_of_thread() -> _ThreadLoop:
    # A forked process must not share the loop of its parent.
    if _here.loop is None or _here.loop.pid != os.getpid():
        _here.loop = _ThreadLoop()
    return _here.loop


def _run_aside(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs it in a thread of its own: a loop runs here that cannot be entered again, as when a task runs eagerly."""
    outcomes: list[Outcome] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcomes.append(Outcome(context.run(_loop_of_thread().run, coroutine)))
        except BaseException as error:  # noqa: BLE001
            outcomes.append(Outcome(error=error))

    thread = threading.Thread(target=run, name="aijobs-coroutine")
    thread.start()
    thread.join()
    return outcomes[0].unfold()


_underway: dict[str, Execution] = {}
_here = _Here()

os.register_at_fork(after_in_child=_underway.clear)
