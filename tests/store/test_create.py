"""Making records: what is in them, once per id and idempotency key, with their message or not at all."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from aijobs import JobStatus, StoreUnavailable
from aijobs.store.base import JobStore
from aijobs.store.redis import RedisStore
from aijobs.store.values import CreateReply, Creation, Idempotency, JobFilter, Message, NewJob
from tests.helpers import Run, claim, new_job

KEY = Idempotency("alice embed", "order-1", "digest of the content")


def keyed(key: Idempotency = KEY, **known: Any) -> NewJob:
    return new_job(idempotency=key, **known)


def test_a_new_job_is_queued_and_keeps_what_was_said_of_it(run: Run, store: JobStore) -> None:
    new = new_job(
        owner="alice",
        batch_id="b-1",
        metadata={"ticket": "Ünicode ✓"},
        max_attempts=4,
        arguments_json='[["text"], {}]',
    )
    before = datetime.now(UTC)
    reply = run(store.create(new))
    assert reply.outcome is Creation.CREATED
    job = reply.job
    assert job is not None
    assert (job.id, job.task, job.queue, job.owner) == (new.id, "embed", "celery", "alice")
    assert (job.batch_id, job.metadata, job.max_attempts) == ("b-1", {"ticket": "Ünicode ✓"}, 4)
    assert job.arguments_json == '[["text"], {}]'
    assert (job.status, job.attempt, job.rev, job.seq) == (JobStatus.QUEUED, 0, 1, 1)
    assert (job.progress, job.result, job.error, job.started_at, job.completed_at) == (None,) * 5
    assert abs(job.created_at - before) < timedelta(minutes=5)
    assert job.expires_at > job.created_at
    assert run(store.get(new.id)) == replace(job, queue_position=1)


def test_an_id_that_was_never_created_is_unknown(run: Run, store: JobStore) -> None:
    assert run(store.get("never")) is None
    assert run(store.get_result("never")) is None
    assert run(store.events("never")) == []


def test_creating_an_id_again_gives_the_first_job_unchanged(run: Run, store: JobStore) -> None:
    new = new_job()
    first = run(store.create(new)).job
    again = run(store.create(replace(new, task="other", owner="mallory")))
    assert (again.outcome, again.job) == (Creation.EXISTS, first)


class TestReopen:
    """An id that Celery is given again begins a new run, once the one before has ended."""

    @pytest.mark.parametrize("starts", [False, True])
    def test_what_is_not_finished_goes_on(self, run: Run, store: JobStore, starts: bool) -> None:
        new = new_job()
        run(store.create(new))
        if starts:
            run(store.start(claim(new)))
        before = run(store.get(new.id))
        assert run(store.create(new, reopen=True)).outcome is Creation.EXISTS
        assert run(store.get(new.id)) == before

    def test_what_is_finished_begins_anew(self, run: Run, store: JobStore) -> None:
        new = new_job(owner="alice", batch_id="b")
        run(store.create(new))
        run(store.finish(claim(new), JobStatus.SUCCESS, result_json=b"9" * 100_000))
        anew = run(store.create(replace(new, task="other", owner=None, batch_id=None), reopen=True))
        assert anew.outcome is Creation.CREATED
        job = run(store.get(new.id))
        assert job is not None
        assert (job.status, job.attempt, job.task, job.owner, job.rev) == ("queued", 0, "other", None, 3)
        assert (job.result_bytes, job.completed_at, job.progress, run(store.get_result(new.id))) == (None,) * 4
        assert [event.seq for event in run(store.events(new.id))] == list(range(1, job.seq + 1))
        for where in (JobFilter(owner="alice"), JobFilter(batch_id="b"), JobFilter(task="embed")):
            assert run(store.list(where, 10)).jobs == []

    def test_an_attempt_of_the_run_before_stays_fenced_off(self, run: Run, store: JobStore) -> None:
        new = new_job()
        run(store.create(new))
        run(store.start(claim(new)))
        run(store.finish(claim(new, ""), JobStatus.REVOKED))
        run(store.create(new, reopen=True))
        assert not run(store.finish(claim(new), JobStatus.SUCCESS)).accepted
        assert run(store.start(claim(new, "second"))).attempt == 1


def test_a_delayed_job_outlives_the_day_it_is_due(run: Run, store: JobStore) -> None:
    due = datetime.now(UTC) + timedelta(days=400)
    run(store.create(delayed := new_job(scheduled_at=due)))
    job = run(store.get(delayed.id))
    assert job is not None
    assert job.scheduled_at == due
    assert job.expires_at > due


def test_the_queue_position_counts_the_jobs_ahead_in_the_same_queue(run: Run, store: JobStore) -> None:
    ahead, elsewhere, behind = new_job(), new_job(queue="gpu"), new_job()
    for new in (ahead, elsewhere, behind):
        run(store.create(new))
    found = [run(store.get(new.id)) for new in (ahead, elsewhere, behind)]
    assert [job and job.queue_position for job in found] == [1, 1, 2]


def test_the_same_key_and_content_give_the_same_job(run: Run, store: JobStore) -> None:
    first = run(store.create(keyed()))
    again = run(store.create(keyed()))
    assert (first.outcome, again.outcome) == (Creation.CREATED, Creation.EXISTS)
    assert again.job == first.job


def test_the_same_key_with_other_content_is_a_conflict(run: Run, store: JobStore) -> None:
    run(store.create(keyed()))
    other = keyed(replace(KEY, fingerprint="another digest"))
    reply = run(store.create(other))
    assert (reply.outcome, reply.job) == (Creation.CONFLICT, None)
    assert run(store.get(other.id)) is None


def test_a_key_outlives_its_job(run: Run, redis_store: RedisStore, redis_client: redis.Redis) -> None:
    first, store = keyed(), redis_store
    run(store.create(first))
    assert redis_client.delete(*redis_client.keys(f"*:job:{first.id}")) == 1
    again, other = keyed(), keyed(replace(KEY, fingerprint="another digest"))
    assert run(store.create(again)) == CreateReply(Creation.GONE, None)
    assert run(store.create(other)) == CreateReply(Creation.CONFLICT, None)
    assert run(store.get(again.id)) is None


@pytest.mark.parametrize(
    "other",
    [
        Idempotency("bob embed", "order-1", KEY.fingerprint),
        Idempotency("alice embed", "order-2", KEY.fingerprint),
        Idempotency("alice", "embed:order-1", KEY.fingerprint),
        Idempotency("alice%20embed", "order-1", KEY.fingerprint),
    ],
    ids=["other owner", "other key", "parts split elsewhere", "looks escaped"],
)
def test_keys_of_other_scopes_are_other_keys(run: Run, store: JobStore, other: Idempotency) -> None:
    run(store.create(keyed()))
    assert run(store.create(keyed(other))).outcome is Creation.CREATED


def test_a_hundred_threads_with_one_key_make_one_job(store: JobStore) -> None:
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: store.run(store.create(keyed())), range(100)))
    assert_one_job([reply.outcome for reply in replies], {reply.job.id for reply in replies if reply.job})
    assert len(store.run(store.list(JobFilter(), 10)).jobs) == 1


@pytest.mark.anyio
async def test_a_hundred_coroutines_with_one_key_make_one_job(store: JobStore) -> None:
    replies = await asyncio.gather(*(store.run_async(store.create(keyed())) for _ in range(100)))
    await store.aclose()
    assert_one_job([reply.outcome for reply in replies], {reply.job.id for reply in replies if reply.job})


def assert_one_job(outcomes: list[Creation], ids: set[str]) -> None:
    assert outcomes.count(Creation.CREATED) == 1
    assert outcomes.count(Creation.EXISTS) == 99
    assert len(ids) == 1


def test_the_message_is_pushed_with_the_record(redis_store: RedisStore, redis_client: redis.Redis) -> None:
    redis_store.run(redis_store.create(new_job(), Message("celery", b"\x00 first", 0)))
    redis_store.run(redis_store.create(new_job(), Message("celery", b"second", 0)))
    assert redis_client.lrange("celery", 0, -1) == [b"second", b"\x00 first"]


def test_the_message_may_go_to_another_database(redis_store: RedisStore, redis_url: str) -> None:
    new = new_job()
    redis_store.run(redis_store.create(new, Message("celery", b"body", 5)))
    assert redis_store.run(redis_store.get(new.id)) is not None
    with redis.Redis.from_url(redis_url.replace("/0", "/5")) as broker:
        assert broker.lrange("celery", 0, -1) == [b"body"]
        assert broker.keys() == [b"celery"]


def test_a_repeated_submission_pushes_nothing(redis_store: RedisStore, redis_client: redis.Redis) -> None:
    for key in (KEY, KEY, replace(KEY, fingerprint="another")):
        redis_store.run(redis_store.create(keyed(key), Message("celery", b"body", 0)))
    assert redis_client.llen("celery") == 1


@pytest.mark.parametrize(
    "message",
    [Message("not-a-list", b"body", 0), Message("celery", b"body", 9_999)],
    ids=["the key holds something else", "no such database"],
)
def test_without_its_message_there_is_no_record(
    redis_store: RedisStore, redis_client: redis.Redis, message: Message
) -> None:
    redis_client.set("not-a-list", "", ex=60)
    before = redis_client.dbsize()
    with pytest.raises(StoreUnavailable):
        redis_store.run(redis_store.create(keyed(), message))
    assert redis_client.dbsize() == before
    assert redis_store.run(redis_store.create(keyed())).outcome is Creation.CREATED
