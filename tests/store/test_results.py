"""Results: inline, large, and Celery's own beside them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from aijobs import JobStatus
from aijobs.store.base import JobStore, Operation
from aijobs.store.redis import RedisStore
from aijobs.store.values import Change, Claim, NewJob, ResultWrite
from tests.helpers import Run, claim, new_job

from .conftest import MakeStore

LIMIT = 100


@pytest.fixture
def store(make_store: MakeStore) -> JobStore:
    return make_store(inline_result_bytes=LIMIT)


@pytest.fixture
def new(run: Run, store: JobStore) -> NewJob:
    new = new_job()
    run(store.create(new))
    run(store.start(claim(new)))
    return new


@pytest.mark.parametrize("size", [1, LIMIT, LIMIT + 1, 3_000_000])
def test_a_result_can_be_fetched_whole_whatever_its_size(run: Run, store: JobStore, new: NewJob, size: int) -> None:
    result = b"9" * size
    run(store.finish(claim(new), JobStatus.SUCCESS, result_json=result))
    assert run(store.get_result(new.id)) == result
    job = run(store.get(new.id))
    assert job is not None
    assert job.result_bytes == size
    assert job.result_json == (result.decode() if size <= LIMIT else None)


def test_a_result_may_be_any_json(run: Run, store: JobStore, new: NewJob) -> None:
    value = {"text": 'quotes " and \\ and \x00 and ✓', "list": [1, 2.5, None, True]}
    run(store.finish(claim(new), JobStatus.SUCCESS, result_json=json.dumps(value).encode()))
    job = run(store.get(new.id))
    assert job is not None
    assert job.result == value


def test_a_job_without_a_result_has_none(run: Run, store: JobStore, new: NewJob) -> None:
    run(store.finish(claim(new), JobStatus.SUCCESS))
    job = run(store.get(new.id))
    assert job is not None
    assert (job.result, job.result_bytes, run(store.get_result(new.id))) == (None, None, None)


def test_a_null_result_is_a_result(run: Run, store: JobStore, new: NewJob) -> None:
    run(store.finish(claim(new), JobStatus.SUCCESS, result_json=b"null"))
    assert run(store.get_result(new.id)) == b"null"


class TestCeleryResult:
    """The result that Celery keeps is set and published with the change, and only with it."""

    WRITE = ResultWrite("celery-task-meta-1", b'{"status": "SUCCESS"}', 3_600)

    def test_it_is_set_with_its_time_to_live_and_published(
        self, redis_store: RedisStore, redis_client: redis.Redis
    ) -> None:
        new = new_job()
        with redis_client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(self.WRITE.key)
            redis_store.run(redis_store.start(claim(new), self.WRITE))
            kinds = [channel.get_message(timeout=30) for _ in range(2)]
        assert redis_client.get(self.WRITE.key) == self.WRITE.payload
        assert 0 < redis_client.ttl(self.WRITE.key) <= 3_600
        assert kinds[1] is not None
        assert kinds[1]["data"] == self.WRITE.payload

    def test_without_a_time_to_live_it_stays(self, redis_store: RedisStore, redis_client: redis.Redis) -> None:
        redis_store.run(redis_store.start(claim(new_job()), ResultWrite("celery-task-meta-1", b"{}", 0)))
        assert redis_client.ttl(self.WRITE.key) == -1

    def test_each_kind_of_change_brings_its_own(self, redis_store: RedisStore, redis_client: redis.Redis) -> None:
        new = new_job()
        who = claim(new)
        steps: dict[bytes, Callable[[ResultWrite], Operation[Change]]] = {
            b"started": lambda write: redis_store.start(who, write),
            b"progress": lambda write: redis_store.report(who, None, write),
            b"retry": lambda write: redis_store.requeue(who, None, result=write),
            b"revoked": lambda write: redis_store.cancel(new.id, write),
        }
        for payload, step in steps.items():
            redis_store.run(step(ResultWrite(self.WRITE.key, payload, 3_600)))
            assert redis_client.get(self.WRITE.key) == payload

    def test_a_refused_change_leaves_it_alone(self, redis_store: RedisStore, redis_client: redis.Redis) -> None:
        new = new_job()
        redis_store.run(redis_store.start(claim(new, "newer")))
        redis_store.run(redis_store.finish(claim(new, "older"), JobStatus.FAILED, result=self.WRITE))
        assert not redis_client.exists(self.WRITE.key)

    def test_a_running_job_that_is_asked_to_stop_is_not_revoked_yet(
        self, redis_store: RedisStore, redis_client: redis.Redis
    ) -> None:
        new = new_job()
        redis_store.run(redis_store.start(claim(new)))
        redis_store.run(redis_store.cancel(new.id, self.WRITE))
        assert not redis_client.exists(self.WRITE.key)

    @pytest.mark.parametrize("operation", ["start", "report", "requeue", "finish"])
    def test_it_is_kept_for_a_task_that_has_no_record(
        self, redis_store: RedisStore, redis_client: redis.Redis, operation: str
    ) -> None:
        nameless = Claim("1")
        {
            "start": lambda: redis_store.run(redis_store.start(nameless, self.WRITE)),
            "report": lambda: redis_store.run(redis_store.report(nameless, None, self.WRITE)),
            "requeue": lambda: redis_store.run(redis_store.requeue(nameless, None, result=self.WRITE)),
            "finish": lambda: redis_store.run(redis_store.finish(nameless, JobStatus.SUCCESS, result=self.WRITE)),
        }[operation]()
        assert redis_client.get(self.WRITE.key) == self.WRITE.payload
