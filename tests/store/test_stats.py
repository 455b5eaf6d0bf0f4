"""Counts, workers, and what all processes of a store share."""

from __future__ import annotations

import pytest

from aijobs import JobStatus
from aijobs.store.base import JobStore
from tests.helpers import Run, claim, new_job

from .conftest import MakeStore


def counts(**some: int) -> dict[JobStatus, int]:
    return {status: some.get(status, 0) for status in JobStatus}


def test_an_empty_store_counts_nothing(run: Run, store: JobStore) -> None:
    stats = run(store.stats(["embed"]))
    assert (stats.statuses, stats.tasks, stats.queues, stats.workers) == (counts(), {"embed": counts()}, {}, {})


def test_jobs_are_counted_by_status_task_queue_and_owner(run: Run, store: JobStore) -> None:
    for owner, task, queue in (("alice", "embed", "gpu"), ("alice", "ingest", "celery"), (None, "embed", "gpu")):
        waits, runs, ends = (new_job(owner=owner, task=task, queue=queue) for _ in range(3))
        for new in (waits, runs, ends):
            run(store.create(new))
        run(store.start(claim(runs)))
        run(store.finish(claim(ends), JobStatus.SUCCESS))
    of_all, of_alice = run(store.stats(["embed", "unknown"])), run(store.stats(["embed"], "alice"))
    assert of_all.statuses == counts(queued=3, running=3, success=3)
    assert of_all.tasks == {"embed": counts(queued=2, running=2, success=2), "unknown": counts()}
    assert of_all.queues == {"gpu": 2, "celery": 1}
    assert of_alice.statuses == counts(queued=2, running=2, success=2)
    assert of_alice.tasks == {"embed": counts(queued=1, running=1, success=1)}


def test_the_secret_is_one_for_all_processes_and_stays(run: Run, make_store: MakeStore, store: JobStore) -> None:
    secret = run(store.secret())
    assert len(secret) >= 32
    assert run(store.secret()) == make_store().run(make_store().secret()) == secret


def test_stores_of_other_prefixes_share_nothing(make_store: MakeStore, store: JobStore) -> None:
    other = make_store(key_prefix="other:app")
    new = new_job()
    store.run(store.create(new))
    assert other.run(other.get(new.id)) is None
    assert other.run(other.stats([])).statuses == counts()
    assert other.run(other.secret()) != store.run(store.secret())


def test_a_ping_only_answers(run: Run, store: JobStore) -> None:
    run(store.ping())


@pytest.mark.anyio
async def test_a_store_can_be_closed_twice_and_used_again(store: JobStore) -> None:
    for _ in range(2):
        await store.run_async(store.ping())
        await store.aclose()
    await store.aclose()
