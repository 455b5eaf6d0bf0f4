"""A batch's record keeps up with its jobs, whatever becomes of them, and leaves with the last of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aijobs import JobStatus
from aijobs.store import JobStore
from aijobs.store.batches import Batch, BatchEvent, BatchStatus, NewBatch
from aijobs.store.redis import RedisStore
from aijobs.store.values import Creation, Idempotency, Message, NewJob, Return
from tests.helpers import Run, claim, lasting_keys, new_job

from .conftest import MakeStore
from .story import BROKEN, HALF

KEY = Idempotency("ann POST /batches", "order-1", "digest")


@dataclass(frozen=True)
class Group:
    """A batch and its jobs."""

    run: Run
    store: JobStore
    new: NewBatch
    jobs: Sequence[NewJob]

    @property
    def id(self) -> str:
        return self.new.id

    def batch(self) -> Batch:
        batch = self.run(self.store.get_batch(self.id))
        assert batch is not None
        return batch

    def counts(self) -> dict[str, int]:
        return {status: count for status, count in self.batch().counts.items() if count}

    def events(self) -> Sequence[BatchEvent]:
        return self.run(self.store.batch_events(self.id, limit=1_000))

    def start(self, index: int, token: str = "first") -> None:
        assert self.run(self.store.start(claim(self.jobs[index], token))).accepted

    def finish(self, index: int, status: JobStatus = JobStatus.SUCCESS, token: str = "first") -> None:
        assert self.run(self.store.finish(claim(self.jobs[index], token), status)).accepted


def member(batch: NewBatch, number: int, **known: Any) -> NewJob:
    return new_job(batch_id=batch.id, metadata={"custom_id": f"item-{number}"}, **known)


def new_batch(run: Run, store: JobStore, jobs: int, total: int | None = None, **known: Any) -> Group:
    batch = NewBatch(str(uuid.uuid4()), jobs if total is None else total, **known)
    assert run(store.create_batch(batch)).outcome is Creation.CREATED
    members = [member(batch, number) for number in range(jobs)]
    for new in members:
        assert run(store.create(new)).outcome is Creation.CREATED
    return Group(run, store, batch, members)


def test_a_batch_counts_its_jobs(run: Run, store: JobStore) -> None:
    group = new_batch(run, store, 3, owner="ann", metadata={"ticket": "Ü"})
    first = group.batch()
    assert (first.id, first.total, first.owner, first.metadata) == (group.id, 3, "ann", {"ticket": "Ü"})
    assert (first.status, first.progress, group.counts()) == (BatchStatus.QUEUED, 0.0, {"queued": 3})
    assert (first.completed_at, first.expires_at, first.cancel_requested_at, first.submitted) == (None,) * 3 + (False,)
    group.start(0)
    assert (group.batch().status, group.counts()) == (BatchStatus.RUNNING, {"queued": 2, "running": 1})
    group.finish(0)
    assert group.batch().status is BatchStatus.RUNNING
    assert group.batch().progress == pytest.approx(1 / 3)
    run(store.cancel(group.jobs[1].id))
    group.start(2)
    group.finish(2, JobStatus.FAILED)
    end = group.batch()
    assert (end.status, end.progress, end.finished) == (BatchStatus.COMPLETED, 1.0, True)
    assert group.counts() == {"success": 1, "revoked": 1, "failed": 1}
    assert end.rev > first.rev


def test_an_unknown_batch(run: Run, store: JobStore) -> None:
    assert run(store.get_batch("no:such")) is None
    assert run(store.batch_submitted("no:such")) is None
    assert run(store.cancel_batch("no:such")) is None
    assert run(store.batch_events("no:such")) == []


def test_a_batch_id_without_a_record_only_lists(run: Run, store: JobStore, redis_client: redis.Redis) -> None:
    new = new_job(batch_id="b")
    run(store.create(new))
    run(store.start(claim(new)))
    assert run(store.get_batch("b")) is None
    assert redis_client.keys("aijobs:batch:*") == [b"aijobs:batch:b"]


def test_each_change_of_status_is_an_event(run: Run, store: JobStore) -> None:
    group = new_batch(run, store, 2)
    group.start(0)
    run(store.report(claim(group.jobs[0]), HALF))
    run(store.requeue(claim(group.jobs[0]), BROKEN, why=Return.RETRY))
    run(store.cancel(group.jobs[1].id))
    run(store.start(claim(group.jobs[0], "second", retries=1)))
    group.finish(0, token="second")
    told = [(one.custom_id, one.status, one.counts[JobStatus.QUEUED]) for one in group.events()[:-1]]
    assert told == [
        ("item-0", "queued", 1),
        ("item-1", "queued", 2),
        ("item-0", "running", 1),
        ("item-0", "queued", 2),
        ("item-1", "revoked", 1),
        ("item-0", "running", 0),
        ("item-0", "success", 0),
    ]
    end = group.events()[-1]
    assert (end.type, end.job_id, end.status) == ("batch.completed", None, None)
    assert [one.seq for one in group.events()] == list(range(1, group.batch().seq + 1))
    assert [one.seq for one in run(store.batch_events(group.id, after=3, limit=2))] == [4, 5]
    assert {one.job_id for one in group.events()[:-1]} == {new.id for new in group.jobs}


def test_a_revoke_after_a_cancel_is_one_change(run: Run, store: JobStore) -> None:
    group = new_batch(run, store, 1)
    group.start(0)
    run(store.cancel(group.jobs[0].id))
    before = group.batch().seq
    run(store.requeue(claim(group.jobs[0]), BROKEN, why=Return.LOST))
    assert [one.status for one in group.events()[before:]] == ["revoked", None]


def test_a_job_that_runs_anew_opens_its_batch_again(run: Run, store: JobStore) -> None:
    group = new_batch(run, store, 2)
    group.finish(0, JobStatus.FAILED)
    group.finish(1)
    assert group.batch().finished
    run(store.create(group.jobs[0], reopen=True))
    assert (group.batch().status, group.counts()) == (BatchStatus.RUNNING, {"queued": 1, "success": 1})
    assert (group.batch().completed_at, group.batch().expires_at) == (None, None)
    group.start(0, "second")
    group.finish(0, token="second")
    assert (group.batch().status, group.counts()) == (BatchStatus.COMPLETED, {"success": 2})
    assert sum(one.type == "batch.completed" for one in group.events()) == 2


def test_a_run_outside_of_the_batch_leaves_the_counts(run: Run, store: JobStore) -> None:
    group = new_batch(run, store, 1)
    group.finish(0)
    before = group.batch()
    run(store.create(replace(group.jobs[0], batch_id=None), reopen=True))
    group.start(0, "second")
    assert group.batch() == before


def test_a_deleted_job_stays_counted_once(run: Run, store: JobStore) -> None:
    group = new_batch(run, store, 1)
    group.finish(0, JobStatus.FAILED)
    assert run(store.delete(group.jobs[0].id))
    assert group.counts() == {"failed": 1}
    run(store.create(group.jobs[0]))
    group.start(0, "second")
    assert group.counts() == {"failed": 1}


class TestCancel:
    def test_what_is_not_over_is_named(self, run: Run, store: JobStore) -> None:
        group = new_batch(run, store, 3)
        group.finish(0)
        group.start(1)
        assert run(store.cancel_batch(group.id)) == [group.jobs[1].id, group.jobs[2].id]
        batch = group.batch()
        assert batch.cancel_requested_at is not None
        assert (batch.status, group.counts()) == (BatchStatus.RUNNING, {"success": 1, "running": 1, "queued": 1})
        for job_id in run(store.cancel_batch(group.id)) or ():
            run(store.cancel(job_id))
        group.finish(1, JobStatus.REVOKED)
        assert group.counts() == {"success": 1, "revoked": 2}
        assert run(store.cancel_batch(group.id)) == []
        assert group.batch().cancel_requested_at == batch.cancel_requested_at

    def test_what_comes_later_is_revoked_unsent(self, run: Run, store: JobStore, redis_client: redis.Redis) -> None:
        group = new_batch(run, store, 1, total=3)
        assert run(store.cancel_batch(group.id)) == [group.jobs[0].id]
        assert group.counts() == {"queued": 1, "revoked": 2}
        late = member(group.new, 1)
        reply = run(store.create(late, Message("list", b"message", 0)))
        assert reply.job is not None
        assert (reply.job.status, redis_client.llen("list")) == (JobStatus.REVOKED, 0)
        assert group.counts() == {"queued": 1, "revoked": 2}
        run(store.cancel(group.jobs[0].id))
        assert (group.batch().finished, group.counts()) == (True, {"revoked": 3})

    def test_a_batch_without_jobs_is_over_at_once(self, run: Run, store: JobStore) -> None:
        group = new_batch(run, store, 0, total=2)
        assert run(store.cancel_batch(group.id)) == []
        assert (group.batch().finished, group.counts()) == (True, {"revoked": 2})
        assert group.batch().expires_at is not None
        assert [one.type for one in group.events()] == ["batch.completed"]

    def test_a_completed_batch_stays_as_it_is(self, run: Run, store: JobStore) -> None:
        group = new_batch(run, store, 1)
        group.finish(0)
        before = group.batch()
        assert run(store.cancel_batch(group.id)) == []
        assert group.batch() == before

    def test_one_that_was_revoked_at_birth_may_run_anew(self, run: Run, store: JobStore) -> None:
        group = new_batch(run, store, 0, total=1)
        run(store.cancel_batch(group.id))
        late = member(group.new, 0)
        run(store.create(late))
        assert run(store.create(late, reopen=True)).outcome is Creation.CREATED
        assert (group.batch().finished, group.counts()) == (False, {"queued": 1})
        run(store.start(claim(late)))
        run(store.finish(claim(late), JobStatus.SUCCESS))
        assert (group.batch().finished, group.counts()) == (True, {"success": 1})


class TestIdempotency:
    def test_the_first_batch_of_a_key_is_found(self, run: Run, store: JobStore) -> None:
        group = new_batch(run, store, 2, idempotency=KEY)
        group.finish(0)
        again = run(store.create_batch(NewBatch("other", 9, idempotency=KEY)))
        assert (again.outcome, again.batch) == (Creation.EXISTS, group.batch())
        assert run(store.get_batch("other")) is None

    def test_other_content_is_a_conflict(self, run: Run, store: JobStore) -> None:
        new_batch(run, store, 1, idempotency=KEY)
        reply = run(store.create_batch(NewBatch("other", 1, idempotency=replace(KEY, fingerprint="another"))))
        assert (reply.outcome, reply.batch) == (Creation.CONFLICT, None)

    def test_it_is_noted_that_all_was_submitted(self, run: Run, store: JobStore) -> None:
        group = new_batch(run, store, 1, idempotency=KEY)
        assert run(store.batch_submitted(group.id)) == group.batch()
        assert group.batch().submitted
        found = run(store.create_batch(NewBatch("other", 1, idempotency=KEY))).batch
        assert found == group.batch()


class TestRetention:
    def test_it_leaves_with_the_last_of_its_jobs(
        self, make_store: MakeStore, redis_url: str, redis_client: redis.Redis
    ) -> None:
        store = make_store(retention_seconds=60, failed_retention_seconds=600, active_retention_seconds=6_000)
        group = new_batch(store.run, store, 3, idempotency=KEY)
        assert lasting_keys(redis_url) == []
        keys = redis_client.keys("aijobs:batch:*")
        assert len(keys) == 3
        assert all(5_900 < redis_client.ttl(key) <= 6_000 for key in keys)
        group.finish(0, JobStatus.FAILED)
        failed = store.run(store.get(group.jobs[0].id))
        assert failed is not None
        group.finish(1)
        group.finish(2)
        assert group.batch().expires_at == failed.expires_at
        assert all(500 < redis_client.ttl(key) <= 600 for key in keys)
        (idem,) = redis_client.keys("aijobs:idem:*")
        assert redis_client.ttl(idem) > 86_000

    def test_it_lives_as_long_as_a_job_that_goes_on(self, make_store: MakeStore, redis_client: redis.Redis) -> None:
        store = make_store(active_retention_seconds=200_000)
        group = new_batch(store.run, store, 1, idempotency=KEY)
        group.start(0)
        names = [*redis_client.keys("aijobs:batch:*"), *redis_client.keys("aijobs:idem:*")]
        for name in names:
            redis_client.expire(name, 100)
        store.run(store.report(claim(group.jobs[0]), HALF))
        assert [name for name in names if redis_client.ttl(name) < 190_000] == []

    def test_its_events_are_trimmed(self, make_store: MakeStore) -> None:
        store = make_store(max_events=10)
        group = new_batch(store.run, store, 400)
        assert len(group.events()) < 300
        assert group.events()[-1].seq == group.batch().seq == 400


@pytest.mark.anyio
async def test_watchers_are_woken(redis_store: RedisStore) -> None:
    new = NewBatch(str(uuid.uuid4()), 2)
    await redis_store.run_async(redis_store.create_batch(new))
    async with redis_store.watch_batch(new.id) as wait:
        await redis_store.run_async(redis_store.create(member(new, 0)))
        assert await wait(10)
        await redis_store.run_async(redis_store.cancel_batch(new.id))
        assert await wait(10)
    await redis_store.aclose()


class AnyOrder(RuleBasedStateMachine):
    """Whatever befalls its jobs, a batch counts each of them once, as what it is."""

    store: RedisStore

    @initialize(total=st.integers(1, 4))
    def begin(self, total: int) -> None:
        self.group = new_batch(self.store.run, self.store, 0, total)
        self.made: dict[int, NewJob] = {}
        self.tokens = 0
        self.cancelled = False

    def token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    @rule(number=st.integers(0, 3), reopen=st.booleans())
    def create(self, number: int, reopen: bool) -> None:
        if number < self.group.new.total:
            new = self.made.setdefault(number, member(self.group.new, number))
            self.store.run(self.store.create(new, reopen=reopen))

    @rule(number=st.integers(0, 3), change=st.sampled_from(["start", "requeue", "finish", "fail", "cancel", "lose"]))
    def change(self, number: int, change: str) -> None:
        if number not in self.made:
            return
        job = self.store.run(self.store.get(self.made[number].id))
        assert job is not None
        who = claim(self.made[number], self.token())
        bystander = replace(who, token="")
        operations = {
            "start": self.store.start(who),
            "requeue": self.store.requeue(who, BROKEN, why=Return.REJECTED),
            "lose": self.store.put_back(job.id),
            "finish": self.store.finish(bystander, JobStatus.SUCCESS, result_json=b"1"),
            "fail": self.store.finish(bystander, JobStatus.FAILED, failure=BROKEN),
            "cancel": self.store.cancel(job.id),
        }
        self.store.run(operations[change])

    @rule()
    def cancel(self) -> None:
        self.cancelled = self.cancelled or not self.group.batch().finished
        for job_id in self.store.run(self.store.cancel_batch(self.group.id)) or ():
            self.store.run(self.store.cancel(job_id))

    @invariant()
    def the_counts_are_right(self) -> None:
        batch = self.group.batch()
        jobs = [self.store.run(self.store.get(new.id)) for new in self.made.values()]
        missing = self.group.new.total - len(jobs) if self.cancelled else 0
        expected = {status: sum(job is not None and job.status is status for job in jobs) for status in JobStatus}
        expected[JobStatus.REVOKED] += missing
        assert batch.counts == expected
        assert batch.finished == (batch.progress == 1)
        assert (batch.expires_at is not None) == batch.finished

    @invariant()
    def the_events_are_whole(self) -> None:
        events = self.group.events()
        assert [one.seq for one in events] == list(range(1, self.group.batch().seq + 1))
        assert not events or self.cancelled or events[-1].counts == self.group.batch().counts


def test_any_order_of_changes(redis_store: RedisStore) -> None:
    class ThisStore(AnyOrder):
        store = redis_store

    effort = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(ThisStore, settings=effort)
