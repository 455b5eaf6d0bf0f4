"""The store's operations for batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from typing_extensions import override

from aijobs.job import JobStatus
from aijobs.settings import Settings
from aijobs.store import scripts, wire
from aijobs.store.base import Operation, Wait
from aijobs.store.batches import Batch, BatchEvent, BatchEventType, BatchReply, NewBatch
from aijobs.store.execution import Call, ScriptExecutor
from aijobs.store.record import from_us, to_fields
from aijobs.store.values import Creation


class BatchOperations(ScriptExecutor):
    """The part of a store that knows of batches; how their jobs are counted is in `lua/batch_counts.lua`."""

    settings: Settings

    @override
    def create_batch(self, batch: NewBatch) -> Operation[BatchReply]:
        lifetime = int(self.settings.active_retention_seconds * 1e6)
        fields: list[wire.Argument] = ["id", batch.id, "total", batch.total]
        if batch.owner is not None:
            fields += ["owner", batch.owner]
        if batch.metadata:
            fields += ["metadata", json.dumps(dict(batch.metadata))]
        arguments = (wire.escape(batch.id), *wire.reservation(batch.idempotency), lifetime, *fields)
        return Call(scripts.BATCH_CREATE, arguments, _read_created)

    @override
    def batch_submitted(self, batch_id: str) -> Operation[Batch | None]:
        return Call(scripts.BATCH_SUBMITTED, (wire.escape(batch_id),), _read_batch)

    @override
    def get_batch(self, batch_id: str) -> Operation[Batch | None]:
        return Call(scripts.BATCH_GET, (wire.escape(batch_id),), _read_batch)

    @override
    def cancel_batch(self, batch_id: str) -> Operation[Sequence[str] | None]:
        retention = int(self.settings.retention_seconds * 1e6)
        return Call(scripts.BATCH_CANCEL, (wire.escape(batch_id), self.settings.max_events, retention), _read_ids)

    @override
    def batch_events(self, batch_id: str, after: int = 0, limit: int = 100) -> Operation[Sequence[BatchEvent]]:
        return Call(scripts.BATCH_EVENTS, (wire.escape(batch_id), after, limit), _read_events)

    @override
    def watch_batch(self, batch_id: str) -> AbstractAsyncContextManager[Wait]:
        return self.watch(f"batch:{wire.escape(batch_id)}")


def _read_created(reply: Any) -> BatchReply:
    outcome, record = reply
    return BatchReply(Creation(outcome.decode()), _read_batch(record))


def _read_batch(record: Any) -> Batch | None:
    return _batch(to_fields(record)) if record else None


def _batch(fields: Mapping[str, str]) -> Batch:
    moments = {name: fields.get(name) for name in ("cancel_requested", "completed", "expires")}
    return Batch(
        id=fields["id"],
        total=int(fields["total"]),
        counts={status: int(fields[status]) for status in wire.STATUSES},
        rev=int(fields["rev"]),
        seq=int(fields["seq"]),
        created_at=from_us(fields["created"]),
        submitted="submitted" in fields,
        owner=fields.get("owner"),
        metadata=json.loads(fields.get("metadata", "{}")),
        **{f"{name}_at": from_us(us) if us else None for name, us in moments.items()},
    )


def _read_ids(reply: Any) -> Sequence[str] | None:
    return None if reply is None else wire.read_ids(reply)


def _read_events(reply: Any) -> Sequence[BatchEvent]:
    return [_event(int(entry_id.split(b"-")[0]), to_fields(flat)) for entry_id, flat in reply]


def _event(seq: int, fields: Mapping[str, str]) -> BatchEvent:
    counts = dict(zip(wire.STATUSES, map(int, fields["n"].split(",")), strict=True))
    status = fields.get("s")
    return BatchEvent(
        seq,
        BatchEventType(fields["t"]),
        counts,
        fields.get("j"),
        fields.get("c") or None,
        None if status is None else JobStatus(status),
    )
