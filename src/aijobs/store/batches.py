"""Jobs that were submitted together: plain values, whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from aijobs.job import FINISHED, JobStatus
from aijobs.store.values import Creation, Idempotency


class BatchStatus(StrEnum):
    """Where a batch is. The set is closed; how its jobs ended is in its counts."""

    #: None of its jobs has started.
    QUEUED = "queued"
    RUNNING = "running"
    #: All of its jobs are over, however they ended.
    COMPLETED = "completed"


class BatchEventType(StrEnum):
    """The kinds of entries in a batch's event stream."""

    #: A job of the batch came to another status.
    PROGRESS = "batch.progress"
    #: The last of its jobs is over.
    COMPLETED = "batch.completed"


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What is known of a batch before its jobs are made."""

    id: str
    #: How many jobs it is going to have.
    total: int
    owner: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    idempotency: Idempotency | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the store holds it at one moment."""

    id: str
    #: How many jobs it has, or will have once all are submitted.
    total: int
    #: Its jobs by status. What left the store stays counted as what it was.
    counts: Mapping[JobStatus, int]
    #: Goes up by one with each change.
    rev: int
    #: The `seq` of the newest event in the batch's stream.
    seq: int
    created_at: datetime
    #: Whether every job was made and sent.
    submitted: bool = False
    owner: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    cancel_requested_at: datetime | None = None
    completed_at: datetime | None = None
    #: When it leaves the store, with the last of its jobs; None while one is not over.
    expires_at: datetime | None = None

    @property
    def progress(self) -> float:
        """The share of its jobs that are over, 0.0–1.0."""
        return share_over(self.total, self.counts)

    @property
    def status(self) -> BatchStatus:
        """Where it is."""
        if self.finished:
            return BatchStatus.COMPLETED
        return BatchStatus.RUNNING if self.progress or self.counts[JobStatus.RUNNING] else BatchStatus.QUEUED

    @property
    def finished(self) -> bool:
        """Whether all of its jobs are over; a job that is run again changes that."""
        return self.completed_at is not None


@dataclass(frozen=True, slots=True)
class BatchReply:
    """The answer to `JobStore.create_batch`."""

    outcome: Creation
    #: The new or the first batch; None on a conflict.
    batch: Batch | None


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """One entry of a batch's event stream."""

    #: Counts the batch's events from 1; also the entry's id.
    seq: int
    type: BatchEventType
    #: Its jobs by status, after the event.
    counts: Mapping[JobStatus, int]
    #: The job that came to another status; None at the end of the batch.
    job_id: str | None = None
    #: What the client calls it.
    custom_id: str | None = None
    status: JobStatus | None = None


def share_over(total: int, counts: Mapping[JobStatus, int]) -> float:
    """The share of a batch's jobs that have come to their end, 0.0–1.0."""
    return sum(counts[status] for status in FINISHED) / total
