"""A worker that is stopped is gone in time, loses no job, and burns no attempt."""

from __future__ import annotations

import random
import signal
from datetime import datetime
from pathlib import Path

import pytest
import redis

from aijobs import ErrorCode, EventType, Job, JobStatus, cancel
from aijobs.store.values import LiveWorker
from tests.helpers import wait_until

from .conftest import Fleet, Worker
from .fleet import SLACK_SECONDS, SOFT_SECONDS, begin, lines, stop_and_wait

POOLS = ["prefork", "threads", "solo", "asyncio"]


def assert_returned(worker: Worker, job: Job) -> None:
    assert (job.status, job.attempt, job.lost_deliveries) == (JobStatus.QUEUED, 0, 0)
    assert job.error is None


def assert_nothing_held(fleet: Fleet) -> None:
    with redis.Redis.from_url(fleet.url) as client:
        held = [entry for key in client.keys("*held:*") for entry in client.hvals(key)]
        # Workers of other tests were killed holding something; their leases take their time.
        assert not [entry for entry in held if entry.startswith(fleet.queue.encode())]


@pytest.mark.parametrize("pool", POOLS)
def test_jobs_that_end_in_time_are_done(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool, TEST_SOFT_SECONDS="30")
    job_id = begin(worker, fleet, "work", log, 1.0)
    assert stop_and_wait(worker) == 0
    job = worker.job(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, "worked", 1)
    assert_nothing_held(fleet)
    other = fleet.start(pool)
    assert other.run("work", log, 0, queue=fleet.queue).status is JobStatus.SUCCESS
    assert len(lines(log, "start")) == 2, "the message was acknowledged"


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("task", ["work", "wait_for", "sink"])
def test_jobs_that_do_not_go_back_to_their_queue(fleet: Fleet, log: str, tmp_path: Path, pool: str, task: str) -> None:
    worker = fleet.start(pool)
    until = tmp_path / "until"
    job_id = begin(worker, fleet, task, log, 30.0 if task == "work" else str(until))
    waiting = worker.send("work", log, 0, queue=fleet.queue)
    later = worker.send("work", log, 0, queue=fleet.queue, countdown=6)
    assert stop_and_wait(worker) == 0
    for one in (job_id, waiting, later):
        assert_returned(worker, worker.job(one))
    assert_nothing_held(fleet)

    until.touch()
    other = fleet.start("prefork", "-c", "3")
    if task == "work":
        other.until(job_id, lambda job: job.status is JobStatus.RUNNING, "the next start")
        cancel(other.app, job_id)
        assert other.end(job_id).status is JobStatus.REVOKED
    else:
        assert other.end(job_id).result == "found it"
    assert other.job(job_id).attempt == 1
    assert other.end(waiting).status is other.end(later).status is JobStatus.SUCCESS


@pytest.mark.parametrize("pool", POOLS)
def test_early_acknowledged_job_fails(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool)
    job_id = begin(worker, fleet, "work_early", log, 30.0)
    assert stop_and_wait(worker) == 0
    job = worker.job(job_id)
    assert (job.status, worker.code(job)) == (JobStatus.FAILED, ErrorCode.WORKER_LOST)
    assert not lines(log, "end")


def test_early_acknowledged_job_fails_in_a_cold_shutdown(fleet: Fleet, log: str) -> None:
    worker = fleet.start("prefork")
    job_id = begin(worker, fleet, "work_early", log, 30.0)
    stop_and_wait(worker, signal.SIGQUIT)
    job = worker.job(job_id)
    assert (job.status, worker.code(job), job.attempt) == (JobStatus.FAILED, ErrorCode.WORKER_LOST, 1)
    assert worker.events(job_id)[-1].type is EventType.COMPLETED


@pytest.mark.parametrize("pool", POOLS)
def test_worker_says_what_it_is_and_runs_and_when_it_goes(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool)
    store = worker.runtime.store
    job_id = begin(worker, fleet, "work", log, 30.0)

    def seen() -> LiveWorker | None:
        return next((one for one in store.run(store.workers()) if one.name == f"w0@{fleet.queue}"), None)

    def busy() -> LiveWorker | None:
        one = seen()
        return one if one and one.jobs else None

    alive = wait_until(busy, "the worker to tell what it runs")
    assert [job.id for job in alive.jobs] == [job_id]
    facts = dict(alive.facts)
    assert (facts["pid"], facts["pool"], facts["concurrency"]) == (worker.process.pid, pool, 1)
    assert facts["queues"] == [fleet.queue]
    assert facts["versions"].keys() == {"python", "celery", "aijobs"}
    assert datetime.fromisoformat(facts["started_at"]).tzinfo is not None
    assert stop_and_wait(worker) == 0
    assert seen() is None


def test_without_a_time_out_jobs_take_as_long_as_they_take(fleet: Fleet, log: str) -> None:
    worker = fleet.start(TEST_SOFT_SECONDS="0")
    job_id = begin(worker, fleet, "work", log, 4.0)
    assert stop_and_wait(worker) == 0
    assert worker.job(job_id).status is JobStatus.SUCCESS


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_prefetched_jobs_are_taken_by_others_at_once(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool, TEST_PREFETCH="8")
    begin(worker, fleet, "work", log, 30.0)
    waiting = [worker.send("work", log, 0, queue=fleet.queue) for _ in range(6)]
    assert stop_and_wait(worker) == 0
    other = fleet.start("prefork", "-c", "2")
    for job_id in waiting:
        job = other.end(job_id)
        assert (job.status, job.attempt, job.lost_deliveries) == (JobStatus.SUCCESS, 1, 0)


def test_a_second_signal_changes_nothing(fleet: Fleet, log: str) -> None:
    worker = fleet.start(TEST_SOFT_SECONDS="30")
    job_id = begin(worker, fleet, "work", log, 2.0)
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.log.read_text(), "the first signal to be heard")
    assert stop_and_wait(worker) == 0
    assert worker.job(job_id).status is JobStatus.SUCCESS


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("how", "environ"), [(signal.SIGQUIT, {}), (signal.SIGTERM, {"REMAP_SIGTERM": "SIGQUIT"})], ids=["quit", "remapped"]
)
def test_cold_shutdown_burns_no_attempt(
    fleet: Fleet, log: str, pool: str, how: signal.Signals, environ: dict[str, str]
) -> None:
    worker = fleet.start(pool, **environ)
    job_id = begin(worker, fleet, "work", log, 30.0)
    stop_and_wait(worker, how)
    assert_returned(worker, worker.job(job_id))
    assert_nothing_held(fleet)


@pytest.mark.parametrize("pool", POOLS)
def test_remote_shutdown(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool)
    job_id = begin(worker, fleet, "work", log, 30.0 if pool != "solo" else 2.0)
    worker.app.control.shutdown()
    assert worker.process.wait(SOFT_SECONDS + 4 + SLACK_SECONDS) == 0
    job = worker.job(job_id)
    # A solo worker hears it only between two jobs.
    assert job.status is (JobStatus.SUCCESS if pool == "solo" else JobStatus.QUEUED)


def test_rolling_restart_under_load(fleet: Fleet, log: str) -> None:
    workers = [fleet.start("prefork", "-c", "2") for _ in range(3)]
    chance = random.Random(3)
    sender = workers[0]
    seconds = [chance.choice([0.05, 0.1, 0.3, 2.0]) for _ in range(60)]
    job_ids = [sender.send("work", f"{log}.{i}", s, queue=fleet.queue) for i, s in enumerate(seconds)]
    for worker in workers:
        fleet.start("prefork", "-c", "2")
        assert stop_and_wait(worker) == 0
    for job_id in job_ids:
        job = sender.end(job_id)
        assert (job.status, job.attempt, job.lost_deliveries) == (JobStatus.SUCCESS, 1, 0)
    for i in range(len(job_ids)):
        words = [line.split() for line in Path(f"{log}.{i}").read_text().splitlines()]
        assert [what for what, _, _ in words].count("end") == 1
        ends = [float(at) for what, _, at in words if what == "end"]
        assert all(float(at) <= ends[0] for what, _, at in words if what == "start"), "it never ran twice at once"
