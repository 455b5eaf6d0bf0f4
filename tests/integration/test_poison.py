"""Jobs that take their workers down: run so many times and no more, and what else the worker has is unharmed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from aijobs import ErrorCode, JobStatus
from aijobs.broker.held import redelivered
from aijobs.job import EventType

from .conftest import Worker, running_worker


@pytest.fixture(scope="module")
def worker(environ: dict[str, str], folder: Path) -> Iterator[Worker]:
    with running_worker("losses_app", folder, environ, "prefork", "-c", "2", "-n", "poison@host") as running:
        yield running


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    return tmp_path / "starts"


@pytest.mark.parametrize("task", ["kill_process", "leave", "segfault"])
def test_a_job_that_kills_its_process_is_given_up(worker: Worker, starts: Path, tmp_path: Path, task: str) -> None:
    until, others = tmp_path / "until", tmp_path / "others"
    other = worker.send("wait_for", str(others), str(until))
    worker.until(other, lambda job: job.status is JobStatus.RUNNING, "the other job's start")
    job = worker.run(task, str(starts))
    until.touch()
    assert starts.read_text().count("started") == 3
    assert (job.status, worker.code(job), job.attempt, job.lost_deliveries) == ("failed", ErrorCode.POISON, 3, 3)
    assert job.error is not None
    assert not job.error.retryable
    assert [event.type for event in worker.events(job.id)].count(EventType.COMPLETED) == 1
    assert worker.app.AsyncResult(job.id).state == "FAILURE"
    assert worker.end(other).result == "done"
    assert others.read_text().count("started") == 1
    assert worker.process.poll() is None


def test_a_task_that_runs_out_of_memory_has_failed(worker: Worker, starts: Path) -> None:
    job = worker.run("run_out_of_memory", str(starts))
    assert (job.status, worker.code(job), job.attempt) == ("failed", ErrorCode.EXCEPTION, 1)
    assert job.error is not None
    assert job.error.message == "MemoryError: no more"
    assert worker.run("add", 1, 2).result == 3
    assert worker.process.poll() is None


def test_a_job_that_kills_worker_after_worker_is_given_up(environ: dict[str, str], folder: Path, starts: Path) -> None:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                running_worker(
                    "losses_app", folder, environ, "prefork", "-c", "1", "-n", f"k{number}@host", "-Q", "kill"
                )
            )
            for number in range(4)
        ]
        job = workers[0].run("kill_worker", str(starts), queue="kill")
        assert starts.read_text().count("started") == 3
        assert (job.status, workers[0].code(job), job.lost_deliveries) == ("failed", ErrorCode.POISON, 3)
        assert sum(worker.process.poll() is None for worker in workers) == 1
        assert workers[0].run("add", 1, 2, queue="kill").result == 3


def test_a_job_that_waited_in_workers_that_were_lost_is_no_poison(environ: dict[str, str], folder: Path) -> None:
    with redis.Redis.from_url(environ["TEST_BROKER_URL"]) as client:
        with running_worker("losses_app", folder, environ, "prefork", "-c", "1", "-n", "w@host", "-Q", "none") as idle:
            job_id = idle.send("add", 1, 2, queue="waited")
            (key,) = client.keys("waited*")
            text = client.rpop(key)
            # As it comes back from workers that held it until it was due, and were lost before.
            client.rpush(key, redelivered(text, lambda _: 3))
        with running_worker(
            "losses_app", folder, environ, "prefork", "-c", "1", "-n", "v@host", "-Q", "waited"
        ) as worker:
            assert worker.end(job_id).result == 3
