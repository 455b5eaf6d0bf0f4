"""The seam between aijobs and whatever holds the records.

A store operation is described once, by a method that returns an `Operation`, and executed in either colour:

    job = store.run(store.get(job_id))               # Celery, scripts
    job = await store.run_async(store.get(job_id))   # HTTP

Every changing operation is atomic: record, event and notice together, or nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from aijobs.job import ErrorCode, Job, JobEvent, JobStatus

T = TypeVar("T")


class Operation(Generic[T]):
    """One store operation, not yet executed; what is inside belongs to the store that made it."""

    __slots__ = ()


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
    idempotency: Idempotency | None = None


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


@dataclass(frozen=True, slots=True)
class CreateReply:
    """The answer to `JobStore.create`."""

    outcome: Creation
    #: The new or the first job; None on a conflict.
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


@dataclass(frozen=True, slots=True)
class ProgressWrite:
    """One coalesced progress report."""

    #: 0.0–1.0, or None when it cannot be told.
    fraction: float | None
    #: `Progress.to_dict()` as JSON text.
    detail_json: str


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


class Wait(Protocol):
    """Waits for news of a job."""

    async def __call__(self, timeout: float) -> bool:
        """Whether there was news within `timeout` seconds."""


class JobStore(ABC):
    """Where the records live."""

    #: The store's address, without password.
    url: str

    @abstractmethod
    def run(self, operation: Operation[T]) -> T:
        """Executes an operation and waits for it.

        Raises:
            StoreUnavailable: no answer in time.
        """

    @abstractmethod
    async def run_async(self, operation: Operation[T]) -> T:
        """Executes an operation on the running event loop.

        Raises:
            StoreUnavailable: no answer in time.
        """

    @abstractmethod
    def create(self, job: NewJob, message: Message | None = None, *, reopen: bool = False) -> Operation[CreateReply]:
        """Makes the record of a new job, reserves its idempotency key and pushes its message, in one step.

        With `reopen`, a finished job of the same id begins a new run, as it does when Celery is given an id twice.
        """

    @abstractmethod
    def start(self, claim: Claim, result: ResultWrite | None = None) -> Operation[Change]:
        """Begins the next attempt: the claim becomes the fencing token.

        Refused when the job is finished; a job whose cancel was asked for is revoked.
        """

    @abstractmethod
    def report(
        self, claim: Claim, progress: ProgressWrite | None, result: ResultWrite | None = None
    ) -> Operation[Change]:
        """Writes progress of the running attempt (or only asks whether it still is the running one)."""

    @abstractmethod
    def requeue(
        self,
        claim: Claim,
        failure: Failure | None,
        scheduled_at: datetime | None = None,
        result: ResultWrite | None = None,
        progress: ProgressWrite | None = None,
    ) -> Operation[Change]:
        """Sends the running attempt back to the queue: a retry, or a message that was returned.

        A job whose cancel was asked for is revoked instead; `result` is not written then.
        """

    @abstractmethod
    def finish(
        self,
        claim: Claim,
        status: JobStatus,
        *,
        failure: Failure | None = None,
        result_json: bytes | None = None,
        progress: ProgressWrite | None = None,
        result: ResultWrite | None = None,
    ) -> Operation[Change]:
        """Ends the job. Refused when it is finished already, or when another attempt has it."""

    @abstractmethod
    def cancel(self, job_id: str, result: ResultWrite | None = None) -> Operation[Change]:
        """Revokes a queued job at once and asks a running one to stop; `result` is written only in the first case."""

    @abstractmethod
    def get(self, job_id: str) -> Operation[Job | None]:
        """The record, or None."""

    @abstractmethod
    def get_result(self, job_id: str) -> Operation[bytes | None]:
        """The result as JSON text however large it is, or None."""

    @abstractmethod
    def list(self, where: JobFilter, limit: int, after: Position | None = None) -> Operation[Page]:
        """A page of jobs, newest first."""

    @abstractmethod
    def events(self, job_id: str, after: int = 0, limit: int = 100) -> Operation[Sequence[JobEvent]]:
        """The job's events with a `seq` above `after`, oldest first."""

    @abstractmethod
    def stats(self, tasks: Sequence[str], owner: str | None = None) -> Operation[Stats]:
        """Counts for these tasks, of one owner or of all."""

    @abstractmethod
    def heartbeat(self, worker: str, alive: bool = True) -> Operation[None]:
        """Says that a worker is alive, or that it has gone."""

    @abstractmethod
    def ping(self) -> Operation[None]:
        """Does nothing but answer."""

    @abstractmethod
    def secret(self) -> Operation[bytes]:
        """A random secret shared by all processes of the store, to sign what clients carry around."""

    @abstractmethod
    def watch(self, job_id: str) -> AbstractAsyncContextManager[Wait]:
        """Listens for news of a job; one connection per process and event loop, however many watch."""

    @abstractmethod
    async def aclose(self) -> None:
        """Closes what belongs to the running event loop."""
