"""Everything leaves in time, and what is alive stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis

from aijobs import JobStatus
from aijobs.store.base import JobStore
from aijobs.store.redis import RedisStore
from aijobs.store.values import Creation, Idempotency, JobFilter, ProgressWrite
from tests.helpers import PATIENT, Run, claim, new_job, wait_until

from .conftest import MakeStore

#: Seconds; the tests wait for it to pass.
BRIEF = 0.05


@pytest.fixture
def brief(make_store: MakeStore) -> JobStore:
    return make_store(retention_seconds=BRIEF, active_retention_seconds=BRIEF, inline_result_bytes=0)


def gone(store: JobStore, job_id: str) -> bool:
    return store.run(store.get(job_id)) is None


def test_a_finished_job_leaves_with_all_it_had(brief: JobStore) -> None:
    new = new_job()
    brief.run(brief.create(new))
    brief.run(brief.start(claim(new)))
    brief.run(brief.finish(claim(new), JobStatus.SUCCESS, result_json=b'"large"'))
    wait_until(lambda: gone(brief, new.id), "the end of the retention")
    wait_until(lambda: brief.run(brief.get_result(new.id)) is None, "the end of its result")
    wait_until(lambda: not brief.run(brief.events(new.id)), "the end of its events")


def test_a_job_that_nobody_works_on_leaves_too(brief: JobStore) -> None:
    new = new_job()
    brief.run(brief.create(new))
    wait_until(lambda: gone(brief, new.id), "the end of the retention")


def test_lists_and_counts_know_nothing_of_jobs_that_left(run: Run, brief: JobStore) -> None:
    left = [new_job(owner="alice", batch_id="b") for _ in range(5)]
    for new in left:
        brief.run(brief.create(new))
    for new in left:
        wait_until(lambda new=new: gone(brief, new.id), "the end of the retention")  # type: ignore[misc]
    for where in (JobFilter(), JobFilter(owner="alice"), JobFilter(task="embed"), JobFilter(batch_id="b")):
        assert run(brief.list(where, 10)).jobs == []
    # Whoever comes next takes them out of the indexes.
    brief.run(brief.create(new_job(task="other", queue="other")))
    stats = run(brief.stats(["embed"], "alice"))
    assert set(stats.statuses.values()) == {0}
    assert "celery" not in run(brief.stats([])).queues


def test_an_idempotency_key_outlives_the_retention_of_its_job(brief: JobStore) -> None:
    key = Idempotency("scope", "key", "digest")
    first = new_job(idempotency=key)
    brief.run(brief.create(first))
    wait_until(lambda: gone(brief, first.id), "the end of the retention")
    assert brief.run(brief.create(new_job(idempotency=key))).outcome is Creation.GONE


class TestTimeToLive:
    """Every change sets the time to live anew, of all that belongs to the job."""

    @pytest.mark.parametrize("action", ["create", "start", "report", "requeue", "cancel"])
    def test_unfinished(self, redis_store: RedisStore, redis_client: redis.Redis, action: str) -> None:
        new = new_job()
        store = redis_store
        store.run(store.create(new))
        if action != "create":
            store.run(store.start(claim(new)))
        self.shorten(redis_client, new.id)
        {
            "create": lambda: store.run(store.start(claim(new))),
            "start": lambda: store.run(store.start(claim(new, "second"))),
            "report": lambda: store.run(store.report(claim(new), ProgressWrite(0.5, "{}"))),
            "requeue": lambda: store.run(store.requeue(claim(new), None)),
            "cancel": lambda: store.run(store.cancel(new.id)),
        }[action]()
        self.assert_lives(store, redis_client, new.id, PATIENT.active_retention_seconds)

    def test_finished(self, make_store: MakeStore, redis_store: RedisStore, redis_client: redis.Redis) -> None:
        store = make_store(inline_result_bytes=0)
        new = new_job()
        store.run(store.finish(claim(new), JobStatus.SUCCESS, result_json=b"1"))
        self.assert_lives(redis_store, redis_client, new.id, PATIENT.retention_seconds, ":result")

    def test_revoked_while_queued(self, redis_store: RedisStore, redis_client: redis.Redis) -> None:
        new = new_job()
        redis_store.run(redis_store.create(new))
        redis_store.run(redis_store.cancel(new.id))
        self.assert_lives(redis_store, redis_client, new.id, PATIENT.retention_seconds)

    def test_an_idempotency_key_is_kept_a_day_at_least(self, brief: JobStore, redis_client: redis.Redis) -> None:
        new = new_job(idempotency=Idempotency("scope", "key", "digest"))
        brief.run(brief.create(new))
        brief.run(brief.cancel(new.id))
        (reservation,) = redis_client.scan_iter("aijobs:idem:*")
        assert redis_client.ttl(reservation) == pytest.approx(86_400, abs=60)

    @pytest.mark.parametrize("later", ["create", "requeue"])
    def test_a_batch_lives_as_long_as_the_last_of_its_jobs(
        self, redis_store: RedisStore, redis_client: redis.Redis, later: str
    ) -> None:
        due = datetime.now(UTC) + timedelta(days=400)
        last = new_job(batch_id="b", scheduled_at=due if later == "create" else None)
        redis_store.run(redis_store.create(last))
        if later == "requeue":
            redis_store.run(redis_store.requeue(claim(last), None, due))
        first = new_job(batch_id="b")
        redis_store.run(redis_store.create(first))
        redis_store.run(redis_store.cancel(first.id))
        assert redis_client.ttl("aijobs:batch:b") > 400 * 86_400

    def shorten(self, client: redis.Redis, job_id: str) -> None:
        for key in client.scan_iter(f"aijobs:job:{job_id}*"):
            client.expire(key, 60)

    def assert_lives(self, store: RedisStore, client: redis.Redis, job_id: str, seconds: float, *more: str) -> None:
        for name in ("", ":events", *more):
            assert client.ttl(f"aijobs:job:{job_id}{name}") == pytest.approx(seconds, abs=60)
        job = store.run(store.get(job_id))
        assert job is not None
        left = job.expires_at - (job.completed_at or job.started_at or job.created_at)
        assert left == pytest.approx(timedelta(seconds=seconds), abs=timedelta(seconds=60))
