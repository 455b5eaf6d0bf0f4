"""What goes into the job store and comes out of it: plain values, whatever holds the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from aijobs.job import ErrorCode, EventType, Job, JobStatus, Webhook


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key that makes a repeated submission the same job."""

    #: Who and where the key counts, e.g. owner and route.
    scope: str
    key: str
    #: Digest of the content; the same key with another digest is a conflict.
    fingerprint: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is known of a job when it is submitted."""

    id: str
    task: str
    queue: str = ""
    owner: str | None = None
    batch_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int | None = None
    #: When a delayed job is due.
    scheduled_at: datetime | None = None
    arguments_json: str | None = None
    #: The rest of the message: arguments of Celery's `send_task`, as JSON text.
    options_json: str | None = None
    #: The job whose task submits this one, and the Celery group it belongs to: cancelling either may cancel this one.
    parent_id: str | None = None
    group_id: str | None = None
    idempotency: Idempotency | None = None
    #: Who is told of this job instead of the app's own webhook.
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A broker message that is pushed onto a list of the store's own server in the same step as the record."""

    #: The list's key.
    key: str
    body: bytes
    #: Number of the database on that server which holds the list.
    database: int


class Creation(StrEnum):
    """What became of a submission."""

    CREATED = "created"
    #: The id or the idempotency key is known, with the same content: `CreateReply.job` is the first job.
    EXISTS = "exists"
    #: The idempotency key is known, with other content.
    CONFLICT = "conflict"
    #: The idempotency key is known, and its job's record is not there any more.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class CreateReply:
    """The answer to `JobStore.create`."""

    outcome: Creation
    #: The new or the first job; None on a conflict, and when the first one is gone.
    job: Job | None


@dataclass(frozen=True, slots=True)
class Claim:
    """One execution of a job by one worker: what its writes are fenced with.

    The store accepts a write of the running attempt's claim only. An empty token stands for a writer that is no
    attempt (the publisher, an operator); it may write onto unfinished jobs.
    """

    job_id: str
    token: str = ""
    task: str = ""
    queue: str = ""
    worker: str = ""
    max_attempts: int | None = None
    #: How often the task was retried before this message was sent, and how often it was replaced by another.
    retries: int = 0
    replacements: int = 0
    #: How often it was sent again to wait until a provider takes requests.
    waits: int = 0


class Return(StrEnum):
    """Why an attempt sends its job back to the queue."""

    #: The task sent another message, for its next attempt.
    RETRY = "retry"
    #: It sent another message to wait until a provider takes requests: the attempt does not count.
    WAITED = "waited"
    #: It sent one for another task, which goes on in its place.
    REPLACED = "replaced"
    #: The task gave its message back.
    REJECTED = "rejected"
    #: The message was given back, as a worker does that stops: the attempt does not count.
    RETURNED = "returned"
    #: The process that ran it was lost.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life, and what it runs."""

    #: Of this process of the worker; the claims of its attempts begin with it and a dot.
    session: str
    #: The worker's node name.
    worker: str
    #: Host, process id, pool and the like, as JSON text.
    facts_json: str
    #: Ids of the jobs it has begun, or is about to, and their claims.
    running: Sequence[tuple[str, str]] = ()


class Standing(StrEnum):
    """What a worker learns of a job that it runs."""

    HELD = "held"
    #: Somebody asked for it to be cancelled.
    CANCEL = "cancel"
    #: Another attempt has it, or it was ended.
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that is alive."""

    session: str
    name: str
    #: Seconds since its last sign of life.
    silence: float
    #: Host, process id, pool and the like.
    facts: Mapping[str, Any]
    #: The jobs that it runs.
    jobs: Sequence[Job]


@dataclass(frozen=True, slots=True)
class Suspect:
    """An unfinished job that may have been lost: long queued, or running in a worker that is gone."""

    job_id: str
    task: str
    queue: str
    status: JobStatus
    rev: int


@dataclass(frozen=True, slots=True)
class ResultWrite:
    """A Celery result that the store sets and publishes in the same step as the change, if that is accepted."""

    key: str
    payload: bytes
    #: 0 means that it does not expire.
    expires_seconds: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt ended without a result."""

    code: ErrorCode
    message: str
    traceback: str | None = None
    #: Whether running the job again may end better; None leaves it to the code.
    retryable: bool | None = None


@dataclass(frozen=True, slots=True)
class ProgressWrite:
    """One coalesced progress report."""

    #: 0.0–1.0, or None when it cannot be told.
    fraction: float | None
    #: `Progress.to_dict()` as JSON text.
    detail_json: str


@dataclass(frozen=True, slots=True)
class OutputEntry:
    """Something that an attempt gives out: one event of its job."""

    #: `job.output` or `job.log`.
    kind: EventType
    #: `Piece.to_dict()` or `LogEntry.to_dict()` as JSON text, without spaces around its names.
    json: bytes


@dataclass(frozen=True, slots=True)
class OutputWrite:
    """What an attempt has given out since an earlier write. What the store has of it already, it skips."""

    #: How many entries of the attempt came before the first of these.
    before: int
    entries: Sequence[OutputEntry]


@dataclass(frozen=True, slots=True)
class EncodedOutput:
    """An `Output` as JSON that was never decoded: `pieces` is an array, `text` a string."""

    attempt: int
    pieces: bytes
    text: bytes
    truncated: bool


@dataclass(frozen=True, slots=True)
class Change:
    """The store's answer to a write."""

    #: False when the write was fenced off: the job is finished, or another attempt has it.
    accepted: bool
    #: The job's status after the write; None when there is no record.
    status: JobStatus | None
    #: The job's attempt after the write.
    attempt: int
    #: Whether somebody asked for the job to be cancelled.
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Keeping:
    """The store's answer to a value that an attempt wants to be kept."""

    change: Change
    #: Bytes of all names and values that the job keeps; of this one as well when it was too much.
    size: int


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; everything left out matches all."""

    owner: str | None = None
    task: str | None = None
    statuses: frozenset[JobStatus] = frozenset()
    batch_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the listing: the page that follows begins just after it (jobs are listed newest first)."""

    created_us: int
    job_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing. It may be shorter than asked for and still have a successor (AIP-158)."""

    jobs: Sequence[Job]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the retained jobs."""

    statuses: Mapping[JobStatus, int]
    #: By task, then by status.
    tasks: Mapping[str, Mapping[JobStatus, int]]
    #: Queued jobs by queue.
    queues: Mapping[str, int]
    #: Workers that sent a heartbeat lately, with the seconds since.
    workers: Mapping[str, float]


@dataclass(frozen=True, slots=True, repr=False)
class ScriptCall:
    """An operation on a Redis server, for a process that does nothing but repeat it. The URL may hold a password."""

    url: str
    script: str
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int | float]
