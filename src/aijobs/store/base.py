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
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from aijobs.errors import StoreUnavailable
from aijobs.job import Job, JobEvent, JobStatus, Output
from aijobs.store.batches import Batch, BatchEvent, BatchReply, NewBatch
from aijobs.store.deliveries import Announcement, Delivery, DueAnnouncement
from aijobs.store.values import (
    Beat,
    Change,
    Claim,
    CreateReply,
    EncodedOutput,
    Failure,
    JobFilter,
    Keeping,
    LiveWorker,
    Message,
    NewJob,
    OutputWrite,
    Page,
    Position,
    ProgressWrite,
    ResultWrite,
    Return,
    ScriptCall,
    Standing,
    Stats,
    Suspect,
)

T = TypeVar("T")


class Operation(Generic[T]):
    """One store operation, not yet executed; what is inside belongs to the store that made it."""

    __slots__ = ()


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
    def run_all(self, operations: Sequence[Operation[T]]) -> Sequence[T | StoreUnavailable]:
        """Executes operations in one exchange and waits for all; an error stands in the place of its answer."""

    @abstractmethod
    async def run_async(self, operation: Operation[T]) -> T:
        """Executes an operation on the running event loop.

        Raises:
            StoreUnavailable: no answer in time.
        """

    @abstractmethod
    def export(self, operation: Operation[Any]) -> ScriptCall:
        """An operation in a form that needs no store."""

    @abstractmethod
    def create(
        self,
        job: NewJob,
        message: Message | None = None,
        *,
        reopen: bool = False,
        at_rev: int | None = None,
        result_key: str = "",
    ) -> Operation[CreateReply]:
        """Makes the record of a new job, reserves its idempotency key and pushes its message, in one step.

        With `reopen`, a finished job of the same id begins a new run, as it does when Celery is given an id twice; with
        `at_rev`, only one that is still at that revision. `result_key` is where Celery's result of the run before is,
        which goes with it.
        """

    @abstractmethod
    def start(self, claim: Claim, result: ResultWrite | None = None) -> Operation[Change]:
        """Begins the next attempt: the claim becomes the fencing token.

        Refused when the job is finished, and while another attempt runs in a worker that is alive. An attempt whose
        worker is gone has lost the job. A job whose cancel was asked for is revoked.
        """

    @abstractmethod
    def report(
        self,
        claim: Claim,
        progress: ProgressWrite | None,
        result: ResultWrite | None = None,
        output: OutputWrite | None = None,
    ) -> Operation[Change]:
        """Writes output, then progress of the running attempt (or only asks whether it still is the running one)."""

    @abstractmethod
    def requeue(
        self,
        claim: Claim,
        failure: Failure | None,
        scheduled_at: datetime | None = None,
        result: ResultWrite | None = None,
        progress: ProgressWrite | None = None,
        *,
        why: Return = Return.RETRY,
        output: OutputWrite | None = None,
    ) -> Operation[Change]:
        """Sends the running attempt back to the queue; `output` is what it has not written yet.

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
        output: OutputWrite | None = None,
    ) -> Operation[Change]:
        """Ends the job; `output` is what its attempt has not written yet.

        Refused when it is finished already, or when another attempt has it.
        """

    @abstractmethod
    def keep(self, claim: Claim, name: str, value_json: str, most_bytes: int) -> Operation[Keeping]:
        """Keeps a value for the running attempt and those after it, until the job succeeds or its record leaves.

        A new run of the job starts without it, unless it is a replay; so does another task that replaces this one.

        Args:
            claim: of the attempt.
            name: what the value goes by, not empty; what went by it before is replaced.
            value_json: the value as JSON text.
            most_bytes: how much all that the job keeps may be; nothing is written when it would be more.
        """

    @abstractmethod
    def kept(self, job_id: str) -> Operation[Mapping[str, str]]:
        """What the attempts of a job have kept: JSON text by name."""

    @abstractmethod
    def cancel(self, job_id: str, result: ResultWrite | None = None) -> Operation[Change]:
        """Revokes a queued job at once and asks a running one to stop; `result` is written only in the first case."""

    @abstractmethod
    def children(self, job_id: str) -> Operation[Sequence[str]]:
        """Ids of the jobs that a job's task submitted, or that a Celery group or a batch holds.

        What a job of this id submits from now on is revoked as it is made.
        """

    @abstractmethod
    def put_back(self, job_id: str) -> Operation[Change]:
        """Sends a running job whose worker is gone back to the queue; accepted only then."""

    @abstractmethod
    def suspects(self, grace: float, limit: int = 500) -> Operation[Sequence[Suspect]]:
        """Unfinished jobs that may have been lost; nothing while another process looked within `grace` / 3 seconds.

        Each call goes on where the one before, of whatever process, ended.

        Args:
            grace: seconds that a job may be queued before it is suspect; and for which it is left alone once it was
                published again.
            limit: jobs looked at in each queue, at most.
        """

    @abstractmethod
    def sent_again(self, job_id: str, rev: int, grace: float) -> Operation[bool]:
        """Whether the job is still as it was at `rev`.

        If so, it is no suspect for `grace` seconds; after the next time for twice as long, and so on.
        """

    @abstractmethod
    def delete(self, job_id: str) -> Operation[bool]:
        """Removes the record of a finished job; whether there was one."""

    @abstractmethod
    def get(self, job_id: str) -> Operation[Job | None]:
        """The record, or None."""

    @abstractmethod
    def get_result(self, job_id: str) -> Operation[bytes | None]:
        """The result as JSON text however large it is, or None."""

    @abstractmethod
    def output(self, job_id: str) -> Operation[tuple[Job, Output | None] | None]:
        """The record and, as of the same moment, what the newest attempt has given out; None without a record.

        The output is None when there is none. It lasts longer than the events that brought it, up to the newest
        `AIJOBS_OUTPUT_BYTES`, until the job's next attempt begins; events above the record's `seq` go on with it.
        """

    @abstractmethod
    def encoded_output(self, job_id: str) -> Operation[tuple[Job, EncodedOutput | None] | None]:
        """The same as `output`, in a form that costs next to nothing to pass on."""

    @abstractmethod
    def list(self, where: JobFilter, limit: int, after: Position | None = None) -> Operation[Page]:
        """A page of jobs, newest first."""

    @abstractmethod
    def events(
        self, job_id: str, after: int = 0, limit: int = 100, most_bytes: int = 1_048_576
    ) -> Operation[Sequence[JobEvent]]:
        """The job's events with a `seq` above `after`, oldest first.

        There are fewer when their data is longer than `most_bytes`, but two if there are so many.
        """

    @abstractmethod
    def stats(self, tasks: Sequence[str], owner: str | None = None) -> Operation[Stats]:
        """Counts for these tasks, of one owner or of all."""

    @abstractmethod
    def beat(self, beat: Beat) -> Operation[Sequence[Standing]]:
        """Says that a worker is alive and what it runs; answers how each of these jobs stands."""

    @abstractmethod
    def stay_alive(self, session: str) -> Operation[None]:
        """Says that a worker that has sent a beat is still alive, and runs what it ran."""

    @abstractmethod
    def leave(self, session: str) -> Operation[None]:
        """Says that a worker has gone."""

    @abstractmethod
    def workers(self) -> Operation[Sequence[LiveWorker]]:
        """The workers that are alive, with what they run, by name."""

    @abstractmethod
    def existing(self, job_ids: Sequence[str]) -> Operation[frozenset[str]]:
        """Those of the jobs that have a record."""

    @abstractmethod
    def take_turn(self, name: str, seconds: float) -> Operation[bool]:
        """Whether the caller may do what one process does at a time; then nobody else may for so many seconds."""

    @abstractmethod
    def ping(self) -> Operation[None]:
        """Does nothing but answer."""

    @abstractmethod
    def secret(self) -> Operation[bytes]:
        """A random secret shared by all processes of the store, to sign what clients carry around."""

    @abstractmethod
    def take_announcements(self, limit: int, pause: float) -> Operation[Sequence[DueAnnouncement]]:
        """Events that a webhook is to be told now.

        Args:
            limit: how many, at most.
            pause: seconds for which each is given to nobody else; twice as long after each time that it was taken and
                no attempt began.
        """

    @abstractmethod
    def begin_delivery(self, due: DueAnnouncement, app_url: str, busy: float) -> Operation[Announcement | None]:
        """Begins an attempt to tell an event; None when it was told, or is not to be told now.

        Args:
            due: the event.
            app_url: address of the app's own webhook; empty without one.
            busy: seconds until another attempt may begin, should this one never end; twice as long after each one that
                did not.
        """

    @abstractmethod
    def settle_delivery(
        self, due: DueAnnouncement, app_url: str, delivery: Delivery, switch_off_for: float | None = None
    ) -> Operation[bool]:
        """Notes how an attempt ended, in the job's log, and when the next is due; False when that was done already.

        Args:
            due: the event.
            app_url: address of the app's own webhook; empty without one.
            delivery: the attempt. With no next one, the event is settled.
            switch_off_for: seconds for which nothing is told to this address: a job's own for this job, the app's for
                all; None leaves it on.
        """

    @abstractmethod
    def deliveries(self, job_id: str) -> Operation[Sequence[Delivery]]:
        """The newest attempts to tell of a job's events, oldest first."""

    @abstractmethod
    def enable_webhook(self, app_url: str) -> Operation[bool]:
        """Switches the app's own webhook on again; whether it was off."""

    @abstractmethod
    def create_batch(self, batch: NewBatch) -> Operation[BatchReply]:
        """Makes the record of a batch, before its jobs, and reserves its idempotency key."""

    @abstractmethod
    def batch_submitted(self, batch_id: str) -> Operation[Batch | None]:
        """Notes that every job of a batch was made and sent; the batch, or None."""

    @abstractmethod
    def get_batch(self, batch_id: str) -> Operation[Batch | None]:
        """The record of a batch, or None."""

    @abstractmethod
    def cancel_batch(self, batch_id: str) -> Operation[Sequence[str] | None]:
        """Notes that a batch is to be cancelled, so that what it gets from now on is revoked as it is made.

        The ids of its jobs that are still to be cancelled one by one; None when there is no such batch.
        """

    @abstractmethod
    def batch_events(self, batch_id: str, after: int = 0, limit: int = 100) -> Operation[Sequence[BatchEvent]]:
        """The batch's events with a `seq` above `after`, oldest first."""

    @abstractmethod
    def watch_batch(self, batch_id: str) -> AbstractAsyncContextManager[Wait]:
        """Listens for news of a batch, as `watch` does for those of a job."""

    @abstractmethod
    def watch(self, job_id: str) -> AbstractAsyncContextManager[Wait]:
        """Listens for news of a job; one connection per process and event loop, however many watch."""

    @abstractmethod
    async def aclose(self) -> None:
        """Closes what belongs to the running event loop."""
