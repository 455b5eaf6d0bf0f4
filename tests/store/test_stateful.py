"""Any order of reports from any attempts leaves the record that the transition table allows, and no other.

A model of one job is told the same as the real store; after each step both must agree.
"""

from __future__ import annotations

import itertools
import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aijobs import ErrorCode, EventType, Job, JobStatus
from aijobs.job import FINISHED, TRANSITIONS
from aijobs.store.base import Operation
from aijobs.store.redis import RedisStore
from aijobs.store.values import (
    Change,
    Claim,
    Creation,
    Failure,
    NewJob,
    OutputEntry,
    OutputWrite,
    ProgressWrite,
    Return,
)

from .model import Model, replay

#: THOROUGH_TESTS is how many times as long the search takes.
EFFORT = settings(
    max_examples=100 * int(os.environ.get("THOROUGH_TESTS", "1")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

#: Who writes: the attempt that has the job, a new delivery of its message, one that lost it before, or none at all.
WRITERS = st.sampled_from(["current", "current", "new", "late", "bystander"])
FRACTIONS = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 1.0]))
FAILURES = st.one_of(st.none(), st.sampled_from([Failure(code, f"because of {code}") for code in ErrorCode]))
ENTRIES = st.lists(st.sampled_from(["a", "bb", "x" * 3_000]), max_size=4)
DUE = datetime(2100, 1, 1, tzinfo=UTC)


def output_of(before: int, entries: list[str]) -> OutputWrite:
    """What an attempt writes that gives out these texts."""
    return OutputWrite(before, [OutputEntry(EventType.OUTPUT, b'{"text":"%s"}' % text.encode()) for text in entries])


class OneJob(RuleBasedStateMachine):
    """Writes onto one job, in any order."""

    store: RedisStore
    client: redis.Redis

    @initialize(known=st.booleans())
    def first_job(self, known: bool) -> None:
        self.deliveries = 0
        self.submit(known)

    @precondition(lambda self: self.model.finished)
    @rule(known=st.booleans())
    def next_job(self, known: bool) -> None:
        self.submit(known)

    def submit(self, known: bool) -> None:
        """A new job; one that is not known gets its record from whoever reports it first."""
        self.id = str(uuid.uuid4())
        self.model = Model()
        if known:
            self.create(reopen=False)

    @rule(reopen=st.booleans())
    def create(self, reopen: bool) -> None:
        fresh = self.model.status is None or (self.model.finished and reopen)
        before = self.everything()
        reply = self.store.run(self.store.create(NewJob(self.id, "embed", "celery"), reopen=reopen))
        assert reply.outcome is (Creation.CREATED if fresh else Creation.EXISTS)
        if fresh:
            self.model = self.model.run_anew().commit()
        else:
            assert self.everything() == before

    @rule(writer=WRITERS, later=st.sampled_from([-1, 0, 0, 0, 1]), replacements=st.sampled_from([0, 0, 1]))
    def start(self, writer: str, later: int, replacements: int) -> None:
        generation = max(0, self.model.generation + later) + 1_000_000 * replacements
        who = self.claim(writer, generation)
        before = self.model.adopt()
        again = before.status is JobStatus.RUNNING and before.claim == who.token
        refused = before.finished or ((who.token in before.lost or generation < before.generation) and not again)
        after = self.model
        if not (refused or again):
            losses, error = before.losses, before.error
            after = before.revoke() if before.cancel_requested else before.open_attempt(who.token)
            if generation > before.generation and not before.cancel_requested:
                # It was sent by the attempt that ran, so nothing was lost.
                after = replace(after, losses=losses, error=error)
            known = replace(after, generation=generation).drop_others(generation)
            after = (after if after.finished else known).commit()
        accepted = again or (after.status is JobStatus.RUNNING and not refused)
        self.tell(self.store.start(who), accepted=accepted, after=after)

    @rule(writer=WRITERS, fraction=FRACTIONS, writes=st.booleans())
    def report(self, writer: str, fraction: float | None, writes: bool) -> None:
        who = self.claim(writer)
        before = self.model.adopt()
        after = before
        if before.status is JobStatus.QUEUED and who.token:
            after = after.open_attempt(who.token)
        if writes:
            after = replace(after, progress=fraction)
        accepted = before.lets(who.token)
        changed = accepted and (writes or after is not self.model)
        self.tell(
            self.store.report(who, ProgressWrite(fraction, "{}") if writes else None),
            accepted=accepted,
            after=after.commit() if changed else self.model,
        )

    @rule(writer=WRITERS, name=st.sampled_from(["a", "b", "c", "much"]))
    def keep(self, writer: str, name: str) -> None:
        who = self.claim(writer, self.model.generation)
        before = self.model.adopt()
        accepted = before.lets(who.token)
        after = self.model
        if accepted:
            after = before.open_attempt(who.token) if before.status is JobStatus.QUEUED and who.token else before
            after = (after if after is self.model else after.commit()).drop_others(self.model.generation)
            after = replace(after, kept=after.kept | {name} - {"much"})
        answer = self.store.run(self.store.keep(who, name, "1" * (100 if name == "much" else 1), 50))
        assert answer.change == Change(accepted, after.status, after.attempt, after.cancel_requested)
        assert answer.size == (2 * len(after.kept) + 104 * (name == "much") if accepted else 0)
        self.model = after

    @rule(writer=WRITERS, entries=ENTRIES, earlier=st.integers(0, 3))
    def give_out(self, writer: str, entries: list[str], earlier: int) -> None:
        who = self.claim(writer)
        before = self.model.adopt()
        after = before.open_attempt(who.token) if before.status is JobStatus.QUEUED and who.token else before
        accepted = before.lets(who.token)
        write = output_of(max(0, after.said - earlier), entries)
        spoken = after.say(write.before, entries) if accepted else after
        if accepted and after != self.model:
            # What was given out is no change of the record; the attempt that it opens is.
            spoken = spoken.commit()
        told = spoken if accepted else self.model
        self.tell(self.store.report(who, None, None, write), accepted=accepted, after=told)

    @rule(writer=WRITERS, failure=FAILURES, delayed=st.booleans(), fraction=FRACTIONS, why=st.sampled_from(Return))
    def requeue(self, writer: str, failure: Failure | None, delayed: bool, fraction: float | None, why: Return) -> None:
        who = self.claim(writer)
        before = self.model.adopt() if who.token and why is not Return.RETURNED else self.model
        returns_nothing = before.status is JobStatus.QUEUED and not who.token
        accepted = before.lets(who.token) and not returns_nothing
        not_begun = before.status is JobStatus.QUEUED and why is Return.RETURNED
        after = self.model
        if accepted and not not_begun:
            after = before if before.status is JobStatus.RUNNING else before.open_attempt(who.token)
            after = replace(after.fence_off(), progress=fraction)
            after = after.revoke() if after.cancel_requested else after.enter(JobStatus.QUEUED, scheduled=delayed)
            after = (after if after.finished else self.sent_back(after, why, failure)).commit()
        due = DUE if delayed else None
        last = ProgressWrite(fraction, "{}")
        self.tell(self.store.requeue(who, failure, due, progress=last, why=why), accepted=accepted, after=after)

    @rule(writer=WRITERS, status=st.sampled_from(sorted(FINISHED)), failure=FAILURES, fraction=FRACTIONS)
    def finish(self, writer: str, status: JobStatus, failure: Failure | None, fraction: float | None) -> None:
        who = self.claim(writer)
        before = self.model.adopt()
        accepted = before.lets(who.token)
        success = status is JobStatus.SUCCESS
        after = self.model
        if accepted:
            after = before.open_attempt(who.token) if success and before.status is JobStatus.QUEUED else before
            after = replace(after, error=None, progress=1 if success else fraction, result=b"42" if success else None)
            after = replace(after, kept=frozenset() if success else after.kept)
            after = self.failed(after.enter(status, scheduled=False), failure).commit()
        operation = self.store.finish(
            who,
            status,
            failure=failure,
            result_json=b"42" if success else None,
            progress=ProgressWrite(fraction, "{}"),
        )
        self.tell(operation, accepted=accepted, after=after)

    @rule()
    def put_back(self) -> None:
        accepted = self.model.status is JobStatus.RUNNING
        after = self.model
        if accepted:
            after = after.fence_off()
            after = after.revoke() if after.cancel_requested else after.enter(JobStatus.QUEUED).lose()
            after = after.commit()
        self.tell(self.store.put_back(self.id), accepted=accepted, after=after)

    def sent_back(self, model: Model, why: Return, failure: Failure | None) -> Model:
        model = self.failed(model.lose() if why is Return.LOST else model, failure)
        if why in (Return.RETRY, Return.WAITED):
            model = replace(model, generation=model.generation + 1)
        if why is Return.REPLACED:
            model = replace(model, generation=(model.generation // 1_000_000 + 1) * 1_000_000, kept=frozenset())
        return replace(model, attempt=model.attempt - (why in (Return.RETURNED, Return.WAITED)))

    @rule()
    def cancel(self) -> None:
        accepted = self.model.status is not None and not self.model.finished
        after = self.model
        if accepted:
            after = replace(after, cancel_requested=True).commit()
        if after.status is JobStatus.QUEUED:
            after = after.revoke()
        self.tell(self.store.cancel(self.id), accepted=accepted, after=after)

    def claim(self, writer: str, generation: int = 0) -> Claim:
        tokens = {"current": self.model.claim, "late": min(self.model.lost, default=""), "bystander": ""}
        token = tokens.get(writer, "")
        if not token and writer != "bystander":
            self.deliveries += 1
            token = f"delivery-{self.deliveries}"
        replacements, sent_again = divmod(generation, 1_000_000)
        waits = sent_again // 2
        return Claim(
            self.id, token, "embed", "celery", retries=sent_again - waits, replacements=replacements, waits=waits
        )

    def failed(self, model: Model, failure: Failure | None) -> Model:
        return model if failure is None else replace(model, error=(failure.code, model.attempt))

    def tell(self, operation: Operation[Change], *, accepted: bool, after: Model) -> None:
        """Has the store make a change, and holds its answer and what it left against the model's."""
        before = self.everything()
        change = self.store.run(operation)
        assert change == Change(accepted, after.status, after.attempt, after.cancel_requested)
        if after == self.model:
            assert self.everything() == before, "what is refused, or known already, changes nothing"
        self.model = after

    def everything(self) -> tuple[Any, ...]:
        """All that is kept of the job."""
        pipe: Any = self.client.pipeline()
        key = f"aijobs:job:{self.id}"
        pipe.hgetall(key).hgetall(f"{key}:kept").xlen(f"{key}:events").zscore("aijobs:queue:celery", self.id)
        for status in JobStatus:
            pipe.zscore(f"aijobs:jobs:{status}", self.id)
        return tuple(pipe.execute())

    @invariant()
    def the_record_is_as_the_model(self) -> None:
        job, model = self.store.run(self.store.get(self.id)), self.model
        if job is None:
            assert model.status is None
            return
        assert (job.status, job.attempt, job.rev) == (model.status, model.attempt, model.rev)
        assert job.progress == model.progress
        assert job.lost_deliveries == model.losses
        assert (job.error and (job.error.code, job.error.attempt)) == model.error
        assert self.store.run(self.store.get_result(self.id)) == model.result
        assert self.store.run(self.store.kept(self.id)).keys() == model.kept
        assert job.scheduled_at == (DUE if model.scheduled else None)
        assert (job.cancel_requested_at is not None) == model.cancel_requested
        self.the_times_fit(job)

    def the_times_fit(self, job: Job) -> None:
        assert (job.started_at is not None) == (job.queue_seconds is not None) == self.model.started
        assert (job.completed_at is not None) == job.finished
        assert (job.run_seconds is not None) == (self.model.started and job.status != "running")
        assert (job.queue_position is not None) == (job.status == "queued")

    @invariant()
    def the_indexes_list_it_once(self) -> None:
        if self.model.status is None:
            return
        scores = self.everything()[3:]
        expected = [self.model.status is JobStatus.QUEUED, *(self.model.status is status for status in JobStatus)]
        assert [score is not None for score in scores] == expected

    @invariant()
    def everything_will_leave(self) -> None:
        if self.model.status is not None:
            assert self.client.ttl(f"aijobs:job:{self.id}") > 0
            assert self.client.ttl(f"aijobs:job:{self.id}:events") > 0
            assert (self.client.ttl(f"aijobs:job:{self.id}:kept") > 0) == bool(self.model.kept)

    @invariant()
    def the_path_is_in_the_table(self) -> None:
        path = self.model.path
        assert path[:1] in ((), (JobStatus.QUEUED,))
        for before, after in itertools.pairwise(path):
            anew = before in FINISHED and after is JobStatus.QUEUED
            assert after in TRANSITIONS[before] or anew

    @invariant()
    def the_events_tell_the_same_story(self) -> None:
        events = self.store.run(self.store.events(self.id, limit=1_000))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        path, attempt, progress, output = replay(events)
        assert (path, attempt) == (self.model.path, self.model.attempt)
        found = self.store.run(self.store.output(self.id))
        assert (found[1].text if found and found[1] else "") == self.model.output
        assert self.model.status is not JobStatus.RUNNING or output == self.model.output
        # An attempt's last progress comes with its end, and is read from the record.
        assert self.model.status is not JobStatus.RUNNING or progress == self.model.progress


def test_any_order_of_reports(redis_store: RedisStore, redis_client: redis.Redis) -> None:
    class ThisStore(OneJob):
        store = redis_store
        client = redis_client

    run_state_machine_as_test(ThisStore, settings=EFFORT)
