"""Where the tasks of a worker with the asyncio pool run: coroutines on its loop, functions in threads, or nowhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject

from aijobs._waiting import call_aside
from aijobs.runtime import runtime_of
from aijobs.worker.claims import is_job
from aijobs.worker.coroutines import is_coroutine_task
from aijobs.worker.exceptions import TaskAborted
from aijobs.worker.stacks import keep_current_task_by_context, keep_request_by_context


def place_tasks(app: Any) -> None:
    """Has each task of an app run where it should, and find its request there."""
    keep_current_task_by_context()
    refuses = runtime_of(app).settings.sync_tasks == "refuse"
    for task in app.tasks.values():
        keep_request_by_context(type(task))
        if hasattr(task.run, "__aijobs_placed__"):
            continue
        if is_coroutine_task(task):
            task.run = _placed(_guarded(task.run))
        elif refuses and is_job(task.name):
            task.run = _placed(_refusing(task.run))
        else:
            task.run = _placed(_in_thread(task.run))


def _placed(run: Any) -> Any:
    run.__aijobs_placed__ = True
    return run


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose exceptions end nothing but the job."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            raise TaskAborted(f"The task raised {type(error).__name__}: {error}") from error

    return run


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    guarded = _guarded(function)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return call_aside(functools.partial(guarded, *args, **kwargs))

    return run


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        raise Reject(_REFUSED, requeue=False)

    return run


_REFUSED = (
    "it is a plain function (`def`), and this worker has the asyncio pool and AIJOBS_SYNC_TASKS=refuse. Make it an "
    "`async def`, send it to a queue of workers with another pool, or set AIJOBS_SYNC_TASKS=threads."
)
