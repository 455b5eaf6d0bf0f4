"""Jobs whose message was lost: found and run, or ended, by whichever worker looks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from aijobs import ErrorCode, JobStatus
from aijobs.store.values import Claim

from .conftest import Worker, running_worker


@pytest.fixture(scope="module")
def worker(environ: dict[str, str], folder: Path) -> Iterator[Worker]:
    with running_worker("losses_app", folder, environ, "prefork", "-c", "1", "-n", "finder@host") as running:
        yield running


@pytest.fixture
def client(server_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server_url) as client:
        yield client


def lose_message(client: redis.Redis, queue: str) -> None:
    """Takes the one message of a queue away, as a consumer does that dies with it."""
    taken = [client.rpop(f"{queue}{end}") for end in ("", "\x06\x163", "\x06\x166", "\x06\x169")]
    assert sum(message is not None for message in taken) == 1


def send_lost(worker: Worker, client: redis.Redis, task: str, *args: object) -> str:
    """Sends a job to a queue that nobody consumes, takes its message away, and has the worker consume the queue."""
    queue = f"lost-{uuid.uuid4()}"
    job_id = worker.send(task, *args, queue=queue)
    lose_message(client, queue)
    worker.app.control.add_consumer(queue, destination=["finder@host"])
    return job_id


def test_a_queued_job_in_no_queue_is_published_again(worker: Worker, client: redis.Redis) -> None:
    job_id = send_lost(worker, client, "add", 1, 2)
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, 3, 1)


def test_a_retry_in_no_queue_goes_on_where_it_was(worker: Worker, client: redis.Redis, tmp_path: Path) -> None:
    store = worker.runtime.store
    starts = tmp_path / "starts"
    job_id = send_lost(worker, client, "fail_twice", str(starts))
    store.run(store.start(Claim(job_id, "first", max_attempts=3)))
    store.run(store.requeue(Claim(job_id, "first"), None))
    job = worker.end(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCESS, 3)
    assert starts.read_text().count("started") == 2


def test_a_running_job_without_worker_and_message_runs_again(worker: Worker, client: redis.Redis) -> None:
    store = worker.runtime.store
    job_id = send_lost(worker, client, "add", 1, 2)
    store.run(store.start(Claim(job_id, "gone.1")))
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt, job.lost_deliveries) == (JobStatus.SUCCESS, 3, 2, 1)


def test_a_job_whose_arguments_were_not_kept_ends(worker: Worker, client: redis.Redis) -> None:
    job_id = send_lost(worker, client, "add", "x" * 300_000, "y")
    job = worker.end(job_id)
    assert (job.status, worker.code(job)) == (JobStatus.FAILED, ErrorCode.WORKER_LOST)
    assert job.error is not None
    assert "arguments" in job.error.message


def test_a_job_that_waits_behind_others_is_left_alone(worker: Worker, client: redis.Redis) -> None:
    queue = f"behind-{uuid.uuid4()}"
    waiting = [worker.send("add", number, 0, queue=queue) for number in range(5)]
    for number in range(2):
        worker.end(send_lost(worker, client, "add", number, 1))
    assert {worker.job(job_id).status for job_id in waiting} == {JobStatus.QUEUED}
    assert client.llen(f"{queue}\x06\x163") == 5


def test_an_early_acknowledged_job_of_a_dead_worker_has_failed(
    worker: Worker, environ: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    with running_worker(
        "losses_app", folder, environ, "prefork", "-c", "1", "-n", "early@host", "-Q", "early"
    ) as dying:
        job = dying.run("kill_worker_early_ack", str(tmp_path / "starts"), queue="early")
    assert (job.status, dying.code(job), job.attempt) == (JobStatus.FAILED, ErrorCode.WORKER_LOST, 1)


#: What plain Celery writes of a task that failed.
FAILED = {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}


@pytest.mark.parametrize(
    ("state", "result", "status", "error"),
    [("SUCCESS", {"n": 5}, JobStatus.SUCCESS, None), ("FAILURE", FAILED, JobStatus.FAILED, "ValueError: no")],
)
def test_a_job_that_a_plain_celery_worker_ran_is_not_run_again(
    worker: Worker, client: redis.Redis, state: str, result: object, status: JobStatus, error: str | None
) -> None:
    job_id = send_lost(worker, client, "add", 1, 2)
    meta = {"task_id": job_id, "status": state, "result": result, "traceback": None, "children": []}
    client.set(f"celery-task-meta-{job_id}", json.dumps(meta))
    job = worker.end(job_id)
    assert (job.status, job.error and job.error.message) == (status, error)
    assert job.result == (result if error is None else None)
    assert not [line for line in worker.log.read_text().splitlines() if job_id in line and "received" in line]
