"""A batch, as event streams tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from typing_extensions import override

from aijobs.http.batchshapes import batch_members, count_members
from aijobs.http.feed import BATCH
from aijobs.http.render import View
from aijobs.http.sse import event as encode
from aijobs.http.subject import Snapshot, Subject
from aijobs.store.base import JobStore, Wait
from aijobs.store.batches import Batch, BatchEvent, BatchEventType


class BatchSubject(Subject[Batch, BatchEvent]):
    """A batch, as streams tell of it.

    Args:
        store: which holds the batch.
        batch: as it was a moment ago.
    """

    def __init__(self, store: JobStore, batch: Batch) -> None:
        self._store = store
        self._total = batch.total
        self.id = batch.id

    @override
    def watch(self) -> AbstractAsyncContextManager[Wait]:
        return self._store.watch_batch(self.id)

    @override
    async def record(self) -> Batch | None:
        return await self._store.run_async(self._store.get_batch(self.id))

    @override
    async def events(self, after: int) -> Sequence[BatchEvent]:
        return await self._store.run_async(self._store.batch_events(self.id, after, BATCH))

    @override
    def may_end(self, event: BatchEvent) -> bool:
        return event.type is BatchEventType.COMPLETED

    @override
    def encode(self, event: BatchEvent) -> bytes:
        # An end after which a job ran anew is progress without a job.
        names = {"job_id": event.job_id, "custom_id": event.custom_id, "status": event.status}
        data = {"seq": event.seq, "batch_id": self.id, **names, **count_members(self._total, event.counts)}
        return encode(BatchEventType.PROGRESS, event.seq, data)

    @override
    async def snapshot(self) -> Snapshot[Batch] | None:
        batch = await self.record()
        return None if batch is None else Snapshot(self, batch)

    @override
    def begin(self, snapshot: Snapshot[Batch], view: View, *, gap: bool) -> bytes:
        return _shown("stream.gap" if gap else "batch.snapshot", snapshot.seq, snapshot.record, view)

    @override
    def end(self, record: Batch, view: View) -> bytes:
        return _shown(BatchEventType.COMPLETED, record.seq, record, view)


def _shown(kind: str, seq: int, batch: Batch, view: View) -> bytes:
    return encode(kind, seq, {"seq": seq, **batch_members(batch, view.base)})
