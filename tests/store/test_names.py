"""Names from outside never reach another's jobs, whatever characters are in them."""

from __future__ import annotations

import pytest
import redis

from aijobs import JobStatus
from aijobs.store.base import JobStore
from aijobs.store.values import Beat, Idempotency, JobFilter
from tests.helpers import Run, claim, lasting_keys, new_job, wait_until

from .conftest import MakeStore

HOSTILE = [
    "a",
    "a:queued",
    "a:task:embed",
    "a\n",
    "\n\n\n",
    "a\nb\nc\nd",
    "\x00",
    "a%3Aqueued",
    "%",
    "%%",
    "*",
    "a b",
    "'\"\\",
    "{tag}",
    "Ünï ✓ 漢",
    "\u202e",
    "x" * 1_000,
    "..",
    "0",
]
each_name = pytest.mark.parametrize("name", HOSTILE, ids=[f"{name!a:.20}" for name in HOSTILE])


@each_name
def test_a_job_comes_back_as_it_was_named(run: Run, store: JobStore, name: str) -> None:
    new = new_job(name, task=name, queue=name, owner=name, batch_id=name, metadata={name: name})
    run(store.create(new))
    run(store.start(claim(new, worker=name)))
    job = run(store.get(name))
    assert job is not None
    assert (job.id, job.task, job.queue, job.owner, job.batch_id) == (name,) * 5
    assert (job.worker, job.metadata, job.status) == (name, {name: name}, "running")


def test_every_owner_task_and_batch_lists_its_own_job_alone(run: Run, store: JobStore) -> None:
    for name in HOSTILE:
        run(store.create(new_job(name, task=name, owner=name, batch_id=name, queue=name)))
    for name in HOSTILE:
        for where in (JobFilter(owner=name), JobFilter(task=name), JobFilter(batch_id=name), JobFilter(name, name)):
            assert [job.id for job in run(store.list(where, 100)).jobs] == [name]
    stats = run(store.stats(HOSTILE))
    assert stats.queues == dict.fromkeys(HOSTILE, 1)
    assert {task: counts[JobStatus.QUEUED] for task, counts in stats.tasks.items()} == dict.fromkeys(HOSTILE, 1)


def test_idempotency_keys_are_as_many_as_they_look(run: Run, store: JobStore) -> None:
    jobs = {
        reply.job.id
        for scope in HOSTILE
        for key in HOSTILE
        if (reply := run(store.create(new_job(idempotency=Idempotency(scope, key, "digest"))))).job
    }
    assert len(jobs) == len(HOSTILE) ** 2


@each_name
def test_a_worker_may_have_any_name(run: Run, store: JobStore, name: str) -> None:
    run(store.beat(Beat("session", name, "{}")))
    assert list(run(store.stats([])).workers) == [name]
    assert [worker.name for worker in run(store.workers())] == [name]


@each_name
def test_a_job_of_any_name_leaves_the_indexes(
    run: Run, make_store: MakeStore, redis_client: redis.Redis, redis_url: str, name: str
) -> None:
    brief = make_store(retention_seconds=0.001)
    new = new_job(name, task=name, owner=name, batch_id=name, queue=name)
    run(brief.create(new))
    run(brief.cancel(name))
    wait_until(lambda: not redis_client.exists(f"aijobs:job:{name}"), "the end of the retention")
    run(brief.create(new_job("another", owner="another", task="another")))
    for index in redis_client.scan_iter("aijobs:*", _type="zset"):
        assert name.encode() not in redis_client.zrange(index, 0, -1)
    assert redis_client.zcard("aijobs:expiry") == 1
    assert lasting_keys(redis_url) == []
