"""The job record: its values, its closed set of statuses and the table of allowed changes. No I/O here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from aijobs.errors import InvalidWebhook


class JobStatus(StrEnum):
    """Where a job is. The set is closed: reasons live in `JobError.code`, never in a new status."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    REVOKED = "revoked"

    @property
    def finished(self) -> bool:
        """Whether the job has come to its end, which nothing but an explicit retry changes."""
        return self in FINISHED


#: The statuses that absorb: no late write changes a job that has one of them.
FINISHED = frozenset({JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.REVOKED})

#: From each status, the statuses that a job may enter next. `running` to `queued` is a retry or a redelivery.
TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.REVOKED}),
        JobStatus.RUNNING: frozenset({JobStatus.QUEUED, *FINISHED}),
        JobStatus.SUCCESS: frozenset(),
        JobStatus.FAILED: frozenset(),
        JobStatus.REVOKED: frozenset(),
    }
)


class ErrorCode(StrEnum):
    """Why a job failed, was revoked, or waits for its next attempt."""

    EXCEPTION = "exception"
    TIME_LIMIT = "time_limit"
    WORKER_LOST = "worker_lost"
    POISON = "poison"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    PUBLISH_FAILED = "publish_failed"
    INVALID_RESULT = "invalid_result"
    RATE_LIMITED = "rate_limited"

    @property
    def retryable(self) -> bool:
        """Whether running the same job again may end better, unless the error itself says otherwise."""
        return self not in _FATAL


_FATAL = frozenset({ErrorCode.POISON, ErrorCode.REJECTED, ErrorCode.INVALID_RESULT, ErrorCode.CANCELLED})


class EventType(StrEnum):
    """The kinds of entries in a job's event stream."""

    STATUS = "job.status"
    PROGRESS = "job.progress"
    OUTPUT = "job.output"
    ATTEMPT = "job.attempt"
    LOG = "job.log"
    COMPLETED = "job.completed"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come, in its own units."""

    #: Units done so far.
    current: float | None = None
    #: Units in all, when known.
    total: float | None = None
    #: What is counted: "documents", "tokens", …
    unit: str | None = None
    #: The named step that runs now.
    step: str | None = None
    #: A line for people.
    message: str | None = None
    #: Units per second, smoothed.
    rate: float | None = None
    #: Seconds until `total` is reached at that rate.
    eta_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as the API shows them."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of what a job gives out while it runs: text, such as a token, or anything else as data."""

    #: None when it is data.
    text: str | None = None
    #: What JSON can hold; means nothing where there is text.
    data: Any = None

    def to_dict(self) -> dict[str, Any]:
        """`text` or `data`, as the API shows it."""
        return {"data": self.data} if self.text is None else {"text": self.text}


@dataclass(frozen=True, slots=True)
class Output:
    """What a job's newest attempt has given out so far, or at all when the job is over."""

    #: The attempt it comes from; what earlier ones gave out is void.
    attempt: int
    #: In order; no two texts follow each other.
    pieces: Sequence[Piece] = ()
    #: Whether the beginning is missing, since there was more than `AIJOBS_OUTPUT_BYTES`.
    truncated: bool = False

    @property
    def text(self) -> str:
        """All text, without the data in between."""
        return "".join(piece.text for piece in self.pieces if piece.text is not None)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as the API shows them."""
        pieces = [piece.to_dict() for piece in self.pieces]
        return {"attempt": self.attempt, "pieces": pieces, "truncated": self.truncated}


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line that a running job has for people."""

    message: str
    #: Such as "info", "warning", "error".
    level: str = "info"
    #: What belongs to it; values that JSON can hold.
    fields: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as the API shows them."""
        return {"level": self.level, "message": self.message, "fields": dict(self.fields)}


@dataclass(frozen=True, slots=True)
class JobError:
    """What went wrong in an attempt."""

    code: ErrorCode
    #: For people; an exception's type and text, never its traceback.
    message: str
    #: Whether running the job again may end better.
    retryable: bool
    #: The attempt it happened in; 0 when the job never started.
    attempt: int

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as the API shows them."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of one job's events, and of which.

    Raises:
        InvalidWebhook: no event is named, or one that webhooks do not tell.
    """

    #: Not shown, since its path or query may hold a secret.
    url: str = field(repr=False)
    #: Out of `WEBHOOK_EVENTS`.
    events: Sequence[str] = (EventType.COMPLETED,)

    def __post_init__(self) -> None:
        check_webhook_events(self.events)


#: What webhooks can tell; progress and output come too often.
WEBHOOK_EVENTS = (EventType.STATUS, EventType.ATTEMPT, EventType.COMPLETED)


def check_webhook_events(events: Sequence[str]) -> None:
    """Checks what a webhook is to be told.

    Raises:
        InvalidWebhook: no event is named, or one that webhooks do not tell.
    """
    if isinstance(events, str) or not events or not set(events) <= set(WEBHOOK_EVENTS):
        raise InvalidWebhook(f"The events of a webhook are one or more of {', '.join(WEBHOOK_EVENTS)}.")


@dataclass(frozen=True, slots=True)
class PastRun:
    """How an earlier run of a job ended, before it was replayed."""

    status: JobStatus
    error: JobError | None
    #: Starts in that run.
    attempts: int
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the store holds it at one moment."""

    #: UUID; also the Celery task id.
    id: str
    #: The registered name of the Celery task.
    task: str
    status: JobStatus
    #: Goes up by one with each change.
    rev: int
    #: The `seq` of the newest event in the job's stream.
    seq: int
    created_at: datetime
    #: When the record leaves the store, unless it changes before.
    expires_at: datetime
    #: Starts so far; 0 while the job has not started.
    attempt: int = 0
    #: None when unlimited or unknown.
    max_attempts: int | None = None
    #: 0.0–1.0, or None when it cannot be told.
    progress: float | None = None
    progress_detail: Progress | None = None
    #: The result as JSON text; None while there is none, and when it is larger than the inline limit.
    result_json: str | None = None
    #: Size of the JSON text of the result in bytes; None while there is none.
    result_bytes: int | None = None
    error: JobError | None = None
    #: The tail of the traceback; for admins only.
    traceback: str | None = None
    #: Who submitted it, as the app's `owner=` dependency says.
    owner: str | None = None
    batch_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    queue: str | None = None
    #: The worker of the newest attempt; for admins only.
    worker: str | None = None
    #: Jobs ahead in the same queue, plus one; approximate, and only while queued.
    queue_position: int | None = None
    #: When a delayed or retrying job is due.
    scheduled_at: datetime | None = None
    #: When the newest attempt started.
    started_at: datetime | None = None
    completed_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    #: Seconds from creation to the first start.
    queue_seconds: float | None = None
    #: Seconds the newest attempt took; None until it has ended.
    run_seconds: float | None = None
    #: The task's arguments as JSON text `[args, kwargs]`; None when too large or not JSON.
    arguments_json: str | None = None
    #: The rest of its message as JSON text: arguments of Celery's `send_task`; None when there is nothing else.
    options_json: str | None = None
    #: The job whose task submitted it.
    parent_id: str | None = None
    #: The Celery group it was submitted with.
    group_id: str | None = None
    #: How often a worker, or its process, was lost with this run of the job.
    lost_deliveries: int = 0
    #: How the runs before this one ended, oldest first; a replay begins a new run.
    history: Sequence[PastRun] = ()
    #: Who is told of its events instead of the app's own webhook; never shown, since the address may hold a secret.
    webhook: Webhook | None = None

    @property
    def result(self) -> Any:
        """The decoded result; None while there is none or when it is not inline."""
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def finished(self) -> bool:
        """Whether the job has come to its end."""
        return self.status.finished


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One entry of a job's event stream."""

    #: Counts the job's events from 1; also the entry's id.
    seq: int
    type: EventType
    data: Mapping[str, Any]
