"""What an attempt has done is not done again, however it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aijobs import JobStatus, cancel
from aijobs.dead import replay
from aijobs.embedded import EmbeddedServer, start_server
from tests.helpers import frozen, wait_until

from .conftest import Worker, running_worker, short_lease

RESULT = [10, 20, 30, 40, 50]
#: What is run when the third step is run twice.
ONCE = ["step 1", "step 2", "step 3", "step 3", "step 4", "step 5"]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with start_server(use_environment=False) as server:
        yield server


@pytest.fixture(scope="module", params=["prefork"])
def worker(request: pytest.FixtureRequest, server: EmbeddedServer, folder: Path) -> Iterator[Worker]:
    with running_worker("checkpoints_app", folder, short_lease(server.url), request.param, "-c", "2") as running:
        yield running


@pytest.fixture
def until(tmp_path: Path) -> Path:
    """The file for which a step waits."""
    return tmp_path / "until"


def done(log: str, what: str = "step") -> list[str]:
    found = Path(log).read_text().splitlines() if Path(log).exists() else []
    return [line for line in found if line.startswith(what)]


def kill_children(worker: Worker) -> None:
    for child in psutil.Process(worker.process.pid).children():
        if "celery" in " ".join(child.cmdline()):
            child.kill()


@pytest.mark.parametrize("task", ["steps", "steps_async"])
def test_steps_before_the_one_that_took_its_process_down_are_not_run_again(
    worker: Worker, log: str, until: Path, task: str
) -> None:
    job_id = worker.send(task, log, 3, str(until))
    wait_until(lambda: "step 3" in done(log), "the third step")
    kill_children(worker)
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, RESULT, 2)
    assert sorted(done(log)) == ONCE


def test_steps_are_not_run_again_when_the_whole_worker_was_lost(
    server: EmbeddedServer, log: str, until: Path, tmp_path: Path
) -> None:
    queue = tmp_path.name
    for number in (1, 2):
        folder = tmp_path / f"worker-{number}"
        folder.mkdir()
        options = ("-c", "1", "-Q", queue, "-n", f"w{number}@{queue}")
        with running_worker("checkpoints_app", folder, short_lease(server.url), "prefork", *options) as worker:
            if number == 1:
                job_id = worker.send("steps", log, 3, str(until), queue=queue)
                wait_until(lambda: "step 3" in done(log), "the third step")
                os.killpg(worker.process.pid, signal.SIGKILL)
                worker.process.wait()
            else:
                job = worker.end(job_id)
    assert (job.status, job.result, job.attempt, job.lost_deliveries) == (JobStatus.SUCCESS, RESULT, 2, 1)
    assert done(log) == ONCE
    assert done(log, "attempt") == ["attempt 1", "attempt 2"]


def test_a_retry_goes_on(worker: Worker, log: str, until: Path) -> None:
    until.write_text("raise")
    job = worker.run("steps", log, 3, str(until), True)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, RESULT, 2)
    assert done(log) == ONCE


def test_a_replay_of_a_failed_job_goes_on(worker: Worker, log: str, until: Path) -> None:
    until.write_text("raise")
    job_id = worker.run("steps", log, 3, str(until)).id
    assert worker.job(job_id).status is JobStatus.FAILED
    replay(worker.app, job_id)
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, RESULT, 1)
    assert done(log) == ONCE


def test_a_replay_of_a_cancelled_job_goes_on(worker: Worker, log: str, until: Path) -> None:
    job_id = worker.send("pages", log, 5, 3, str(until))
    wait_until(lambda: "step 3" in done(log), "the third page")
    cancel(worker.app, job_id)
    assert worker.end(job_id).status is JobStatus.REVOKED
    replay(worker.app, job_id)
    assert worker.end(job_id).status is JobStatus.SUCCESS
    assert done(log) == ONCE


def test_another_run_under_the_same_id_starts_anew(worker: Worker, log: str, until: Path) -> None:
    until.write_text("raise")
    job_id = worker.run("steps", log, 3, str(until)).id
    worker.send("steps", log, 0, str(until), task_id=job_id)
    assert worker.end(job_id).result == RESULT
    assert done(log) == ["step 1", "step 2", "step 3", "step 1", "step 2", "step 3", "step 4", "step 5"]
    assert done(log, "attempt") == ["attempt 1", "attempt 1"]


def test_a_task_that_replaces_another_starts_anew(worker: Worker, log: str) -> None:
    job = worker.run("replaced", log)
    assert (job.status, job.result) == (JobStatus.SUCCESS, RESULT)
    assert done(log, "attempt") == ["attempt 1"]


@pytest.mark.parametrize("task", ["steps", "steps_async"])
def test_a_step_waits_for_a_store_that_is_away(
    worker: Worker, server: EmbeddedServer, log: str, until: Path, task: str
) -> None:
    job_id = worker.send(task, log, 3, str(until))
    wait_until(lambda: "step 3" in done(log), "the third step")
    before = worker.log.read_text().count("trying again in")
    with frozen(server):
        until.touch()
        wait_until(lambda: worker.log.read_text().count("trying again in") > before, "a try in vain")
        assert "step 4" not in done(log)
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, RESULT, 1)
    assert sorted(done(log)) == ["step 1", "step 2", "step 3", "step 4", "step 5"]


def test_nothing_is_left_of_what_was_kept(worker: Worker, log: str) -> None:
    job = worker.run("steps", log, 0, "")
    assert job.status is JobStatus.SUCCESS
    assert worker.runtime.store.run(worker.runtime.store.kept(job.id)) == {}


@pytest.mark.parametrize(("pool", "task"), [("threads", "steps"), ("solo", "steps_async"), ("asyncio", "steps_async")])
def test_it_is_the_same_in_every_pool(
    server: EmbeddedServer, log: str, until: Path, tmp_path: Path, pool: str, task: str
) -> None:
    until.write_text("raise")
    queue = tmp_path.name
    options = ("-c", "4", "-Q", queue, "-n", f"w@{queue}")
    with running_worker("checkpoints_app", tmp_path, short_lease(server.url), pool, *options) as worker:
        jobs = [worker.send(task, f"{log}-{number}", 3, str(until), queue=queue) for number in range(4)]
        assert [worker.end(job_id).status for job_id in jobs] == [JobStatus.FAILED] * 4
        for job_id in jobs:
            replay(worker.app, job_id)
        assert [worker.end(job_id).result for job_id in jobs] == [RESULT] * 4
    assert [sorted(done(f"{log}-{number}")) for number in range(4)] == [ONCE] * 4
    assert [done(f"{log}-{number}", "attempt") for number in range(4)] == [["attempt 1", "attempt 2"]] * 4
