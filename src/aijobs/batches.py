"""Submitting and cancelling many jobs as one batch, without blocking the event loop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aijobs._tasks import stop
from aijobs.cancellation import cancelling
from aijobs.job import ErrorCode, Job
from aijobs.runtime import Runtime
from aijobs.store.batches import Batch
from aijobs.store.values import Creation
from aijobs.submission import submit_async

T = TypeVar("T")

#: Where in the metadata of a job it stands what the client calls it.
CUSTOM_ID = "custom_id"
#: So many jobs of a batch are submitted or cancelled at a time. Making a message takes some 0.2 ms, in which the event
#: loop does nothing else.
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A job to be, in a batch."""

    #: What the client calls it; unique in the batch.
    custom_id: str
    #: The registered name.
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def member_id(batch_id: str, custom_id: str) -> str:
    """The id of a job in a batch: whoever submits the batch once more comes to the same."""
    return str(uuid.uuid5(uuid.UUID(batch_id), custom_id))


async def submit_members(runtime: Runtime, batch: Batch, items: Iterable[BatchItem]) -> Batch | None:
    """Submits the jobs of a batch whose record was made.

    What was submitted before stays as it is, so that a submission that broke off can be repeated.

    Returns:
        The batch as it is then; None when it was removed meanwhile.

    Raises:
        StoreUnavailable: the job store does not answer.
        PublishFailed: the broker did not take a message in time.
    """
    await _each(items, lambda item: _submit(runtime, batch, item))
    return await runtime.store.run_async(runtime.store.batch_submitted(batch.id))


async def cancel_batch_async(runtime: Runtime, batch_id: str) -> Batch | None:
    """Cancels the jobs of a batch that are not over, and those that it would still get.

    Returns:
        The batch as it is then; None when there is no such batch.

    Raises:
        StoreUnavailable: the job store does not answer.
    """
    store = runtime.store
    unfinished = await store.run_async(store.cancel_batch(batch_id))
    await _each(unfinished or (), lambda job_id: store.run_async(cancelling(runtime, job_id)))
    return await store.run_async(store.get_batch(batch_id))


async def _submit(runtime: Runtime, batch: Batch, item: BatchItem) -> None:
    async def submit(at_rev: int | None = None) -> Job | None:
        reply = await submit_async(
            runtime,
            item.task,
            item.args,
            item.kwargs,
            owner=batch.owner,
            batch_id=batch.id,
            metadata={**item.metadata, CUSTOM_ID: item.custom_id},
            job_id=member_id(batch.id, item.custom_id),
            at_rev=at_rev,
        )
        return reply.job if reply.outcome is Creation.EXISTS else None

    known = await submit()
    if known is not None and known.error is not None and known.error.code is ErrorCode.PUBLISH_FAILED:
        await submit(known.rev)


async def _each(things: Iterable[T], do: Callable[[T], Awaitable[Any]]) -> None:
    """Does something with each thing, some at a time; what fails first ends it."""
    left = (thing for thing in things)

    async def work() -> None:
        for thing in left:
            await do(thing)

    workers = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        left.close()
        for worker in workers:
            await stop(worker)
