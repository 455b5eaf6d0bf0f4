"""What takes several store operations, written once and executed in either colour.

A procedure is a generator. It yields its steps, one after the other, and is sent what each of them gives: an
`Operation` of the store, or a `Blocking` call, for what Celery can only do that way.

    def touch(store, job_id):
        job = yield store.get(job_id)
        return job is not None

    run(store, touch(store, job_id))
    await run_async(store, touch(store, job_id))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from aijobs.errors import AijobsError
from aijobs.store.base import JobStore, Operation

T = TypeVar("T")

#: How long an event loop waits for a call that blocks, seconds.
BLOCKING_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Blocking:
    """A call that blocks; an event loop leaves it to a thread, and does not wait for long."""

    call: Callable[[], Any]
    #: What is raised when an event loop has waited long enough; the thread goes on all the same.
    late: AijobsError


Step: TypeAlias = Operation[Any] | Blocking
Procedure: TypeAlias = Generator[Step, Any, T]


def run(store: JobStore, procedure: Procedure[T]) -> T:
    """Executes a procedure and waits for it.

    Raises:
        StoreUnavailable: the job store does not answer.
    """
    answer = None
    try:
        while True:
            step = procedure.send(answer)
            answer = step.call() if isinstance(step, Blocking) else store.run(step)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(store: JobStore, procedure: Procedure[T]) -> T:
    """Executes a procedure on the running event loop.

    Raises:
        StoreUnavailable: the job store does not answer in time.
    """
    answer = None
    try:
        while True:
            step = procedure.send(answer)
            answer = await (_in_thread(step) if isinstance(step, Blocking) else store.run_async(step))
    except StopIteration as end:
        result: T = end.value
        return result


async def _in_thread(step: Blocking) -> Any:
    try:
        return await asyncio.wait_for(asyncio.to_thread(step.call), BLOCKING_SECONDS)
    except TimeoutError:
        raise step.late from None
