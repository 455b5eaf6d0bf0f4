"""The job store in Redis or Valkey: each change is one Lua script, so record, event and notice cannot disagree."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any

from typing_extensions import override

from aijobs.job import Job, JobEvent, JobStatus, Output
from aijobs.settings import Settings
from aijobs.store import scripts, wire
from aijobs.store.base import Operation
from aijobs.store.batch_operations import BatchOperations
from aijobs.store.connect import database_of
from aijobs.store.execution import Call
from aijobs.store.record import to_us
from aijobs.store.scripts import Script
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
    Standing,
    Stats,
    Suspect,
)
from aijobs.store.webhooks import WebhookOperations
from aijobs.store.wire import Argument

#: How many jobs one request for a page looks at, at most.
SCAN_BUDGET = 1_000


class RedisStore(BatchOperations, WebhookOperations):
    """A `JobStore` in one Redis or Valkey server.

    Args:
        url: as redis-py reads it; see `aijobs.store.connect.normalize`.
        settings: time-outs, retention and key prefix.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings.key_prefix, settings.store_timeout_seconds)
        self.settings = settings
        self._database = database_of(url)
        self._active = int(settings.active_retention_seconds * 1e6)
        self._retention = int(settings.retention_seconds * 1e6)
        self._failed_retention = int(settings.failed_retention_seconds * 1e6)
        self._lease = int(settings.lease_seconds * 1e6)
        self._app_events = wire.app_events(settings)

    # --- changes ---------------------------------------------------------------------------------------------------

    @override
    def create(
        self,
        job: NewJob,
        message: Message | None = None,
        *,
        reopen: bool = False,
        at_rev: int | None = None,
        result_key: str = "",
    ) -> Operation[CreateReply]:
        claim = Claim(job.id, "", job.task, job.queue, "", job.max_attempts)
        entry = wire.entry(job.task, job.queue, job.owner, job.batch_id)
        push = ("", "", 0) if message is None else (message.key, message.body, message.database)
        arguments = (
            *self._header(claim, self._active_until(job.scheduled_at), ResultWrite(result_key, b"", 0), entry),
            *wire.reservation(job.idempotency),
            *push,
            self._database,
            ("1" if at_rev is None else f":{at_rev}") if reopen else "",
            job.parent_id or "",
            job.group_id or "",
            self._retention,
            *wire.new_fields(job, self._app_events),
        )
        return Call(scripts.CREATE, arguments, wire.read_created)

    @override
    def start(self, claim: Claim, result: ResultWrite | None = None) -> Operation[Change]:
        return self._change(scripts.START, claim, result, self._retention, wire.generation(claim), self._app_events)

    @override
    def report(
        self,
        claim: Claim,
        progress: ProgressWrite | None,
        result: ResultWrite | None = None,
        output: OutputWrite | None = None,
    ) -> Operation[Change]:
        arguments = (*wire.progress(progress), self._app_events, *self._output(output))
        return self._change(scripts.REPORT, claim, result, *arguments)

    @override
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
        due = "" if scheduled_at is None else to_us(scheduled_at)
        header = self._header(claim, self._active_until(scheduled_at), result)
        arguments = (*header, due, *wire.failure(failure), *wire.progress(progress), self._retention)
        end = (why.value, self._app_events, *self._output(output))
        return Call(scripts.REQUEUE, (*arguments, *end), wire.read_change)

    @override
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
        lifetime = self._failed_retention if status is JobStatus.FAILED else self._retention
        arguments = (
            *self._header(claim, lifetime, result),
            status.value,
            *wire.failure(failure),
            result_json or "",
            self.settings.inline_result_bytes,
            *wire.progress(progress),
            self._app_events,
            *self._output(output),
        )
        return Call(scripts.FINISH, arguments, wire.read_change)

    @override
    def keep(self, claim: Claim, name: str, value_json: str, most_bytes: int) -> Operation[Keeping]:
        value = (name, value_json, most_bytes, wire.generation(claim), self._app_events)
        return Call(scripts.KEEP, (*self._header(claim, self._active, None), *value), wire.read_keeping)

    @override
    def cancel(self, job_id: str, result: ResultWrite | None = None) -> Operation[Change]:
        return self._change(scripts.CANCEL, Claim(job_id), result, self._retention)

    @override
    def put_back(self, job_id: str) -> Operation[Change]:
        return self._change(scripts.PUT_BACK, Claim(job_id), None, self._retention)

    @override
    def delete(self, job_id: str) -> Operation[bool]:
        return Call(scripts.DELETE, self._header(Claim(job_id), 0, None), bool)

    @override
    def children(self, job_id: str) -> Operation[Sequence[str]]:
        return Call(scripts.CHILDREN, (job_id, wire.escape(job_id)), wire.read_ids)

    # --- workers ---------------------------------------------------------------------------------------------------

    @override
    def beat(self, beat: Beat) -> Operation[Sequence[Standing]]:
        arguments = (beat.session, beat.worker, wire.running(beat), self._lease, beat.facts_json)
        return Call(scripts.BEAT, (*arguments, *chain.from_iterable(beat.running)), wire.read_standings)

    @override
    def stay_alive(self, session: str) -> Operation[None]:
        return Call(scripts.STAY_ALIVE, (session, self._lease), _read_nothing)

    @override
    def leave(self, session: str) -> Operation[None]:
        return Call(scripts.LEAVE, (session,), _read_nothing)

    @override
    def workers(self) -> Operation[Sequence[LiveWorker]]:
        return Call(scripts.WORKERS, (), wire.read_workers)

    @override
    def suspects(self, grace: float, limit: int = 500) -> Operation[Sequence[Suspect]]:
        return Call(scripts.SUSPECTS, (int(grace * 1e6), limit), wire.read_suspects)

    @override
    def sent_again(self, job_id: str, rev: int, grace: float) -> Operation[bool]:
        return Call(scripts.SENT_AGAIN, (job_id, rev, int(grace * 1e6)), bool)

    def _change(
        self, script: Script, claim: Claim, result: ResultWrite | None, *arguments: Argument
    ) -> Operation[Change]:
        return Call(script, (*self._header(claim, self._active, result), *arguments), wire.read_change)

    def _active_until(self, due: datetime | None) -> int:
        """The lifetime, in microseconds, of an unfinished job that is due at some time."""
        wait = 0 if due is None else to_us(due) - to_us(datetime.now(UTC))
        return self._active + max(0, wait)

    def _output(self, write: OutputWrite | None) -> tuple[Argument, ...]:
        return () if write is None else wire.output(write, self.settings.output_bytes)

    def _header(
        self, claim: Claim, lifetime: int, result: ResultWrite | None, entry: str | None = None
    ) -> tuple[Argument, ...]:
        """The arguments that all changing scripts share; `lua/lib.lua` numbers them."""
        return (
            claim.job_id,
            claim.token,
            lifetime,
            self.settings.max_events,
            claim.task,
            claim.queue,
            claim.worker,
            "" if claim.max_attempts is None else claim.max_attempts,
            wire.entry(claim.task, claim.queue) if entry is None else entry,
            *(("", "", 0) if result is None else (result.key, result.payload, result.expires_seconds)),
        )

    # --- reads -----------------------------------------------------------------------------------------------------

    @override
    def get(self, job_id: str) -> Operation[Job | None]:
        return Call(scripts.GET, (job_id,), wire.read_found, shared=True)

    @override
    def get_result(self, job_id: str) -> Operation[bytes | None]:
        return Call(scripts.RESULT, (job_id,), _read_as_is)

    @override
    def kept(self, job_id: str) -> Operation[Mapping[str, str]]:
        return Call(scripts.KEPT, (job_id,), wire.read_kept)

    @override
    def output(self, job_id: str) -> Operation[tuple[Job, Output | None] | None]:
        return Call(scripts.OUTPUT, (job_id,), wire.read_output, shared=True)

    @override
    def encoded_output(self, job_id: str) -> Operation[tuple[Job, EncodedOutput | None] | None]:
        return Call(scripts.OUTPUT, (job_id,), wire.read_encoded_output, shared=True)

    @override
    def list(self, where: JobFilter, limit: int, after: Position | None = None) -> Operation[Page]:
        newest, after_id, oldest = wire.window(where, after)
        arguments = (limit, SCAN_BUDGET, newest, after_id, oldest, *wire.must_match(where))
        return Call(scripts.LIST, (*arguments, *wire.listings(self._root, where)), wire.read_page)

    @override
    def events(
        self, job_id: str, after: int = 0, limit: int = 100, most_bytes: int = 1_048_576
    ) -> Operation[Sequence[JobEvent]]:
        return Call(scripts.EVENTS, (job_id, after, limit, most_bytes), wire.read_events)

    @override
    def stats(self, tasks: Sequence[str], owner: str | None = None) -> Operation[Stats]:
        arguments: tuple[Argument, ...] = (wire.escape(owner), *map(wire.escape, tasks))
        return Call(scripts.STATS, arguments, partial(wire.read_stats, tasks))

    @override
    def existing(self, job_ids: Sequence[str]) -> Operation[frozenset[str]]:
        return Call(scripts.EXISTING, tuple(job_ids), lambda reply: frozenset(wire.read_ids(reply)))

    @override
    def take_turn(self, name: str, seconds: float) -> Operation[bool]:
        return Call(scripts.TAKE_TURN, (name, max(1, int(seconds * 1000))), bool)

    @override
    def ping(self) -> Operation[None]:
        return Call(scripts.PING, (), _read_nothing)

    @override
    def secret(self) -> Operation[bytes]:
        return Call(scripts.SECRET, (secrets.token_hex(32),), bytes)


def _read_as_is(reply: Any) -> Any:
    return reply


def _read_nothing(reply: Any) -> None:
    del reply
