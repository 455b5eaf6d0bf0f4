"""The asyncio pool: hundreds of jobs on one event loop, and what befalls them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from celery import Celery

from aijobs import ErrorCode, Job, JobStatus, StoreUnavailable, cancel, setup
from aijobs.embedded import start_server
from aijobs.store.base import JobStore
from aijobs.store.values import LiveWorker
from tests.helpers import wait_until

from .conftest import Worker, celery_worker, running_worker, short_lease, stop

Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def worker(server_url: str, folder: Path) -> Iterator[Worker]:
    """Soon gives up what does not end."""
    environ = short_lease(server_url, AIJOBS_CANCEL_GRACE_SECONDS="0.5")
    with running_worker("async_app", folder, environ, "asyncio", "-c", "200", "-Q", "crowd") as running:
        yield running


@pytest.fixture
def start(server_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts workers on a queue of this test's own."""
    with contextlib.ExitStack() as stack:

        def begin(*options: str, **environ: str) -> Worker:
            folder = tmp_path / os.urandom(4).hex()
            folder.mkdir()
            given = ("-c", "1", "-Q", tmp_path.name, "-n", f"{folder.name}@{tmp_path.name}", *options)
            running = running_worker("async_app", folder, short_lease(server_url, **environ), "asyncio", *given)
            return stack.enter_context(running)

        yield begin


@pytest.fixture
def queue(tmp_path: Path) -> str:
    return tmp_path.name


def begun(marker: str) -> None:
    wait_until(Path(f"{marker}.began").exists, "the start")


def assert_ended(worker: Worker, job: Job, status: JobStatus, code: ErrorCode | None, attempt: int = 1) -> None:
    assert (job.status, worker.code(job), job.attempt) == (status, code, attempt), job


def test_two_hundred_at_once(worker: Worker) -> None:
    jobs = [worker.send("meet", 200, queue="crowd") for _ in range(200)]
    assert {worker.end(job_id).result for job_id in jobs} == {200}


def test_worker_says_what_it_is(worker: Worker) -> None:
    store = worker.runtime.store

    def seen() -> LiveWorker | None:
        return next((one for one in store.run(store.workers()) if one.facts["pid"] == worker.process.pid), None)

    facts = wait_until(seen, "the worker").facts
    assert (facts["pool"], facts["concurrency"]) == ("asyncio", 200)


def test_no_more_than_allowed_at_once(start: Start, queue: str, tmp_path: Path) -> None:
    worker = start("-c", "2")
    markers = [str(tmp_path / str(number)) for number in range(4)]
    # Acknowledged early, they do not count as held.
    jobs = [worker.send("wait_early", marker, 1, queue=queue) for marker in markers]
    begun(markers[1])
    assert not Path(f"{markers[3]}.began").exists()
    assert {worker.end(job_id).status for job_id in jobs} == {JobStatus.SUCCESS}


def test_what_outlives_its_hard_limit_is_given_up(worker: Worker, marker: str) -> None:
    job = worker.run("outlive_hard_limit", marker, queue="crowd")
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    given_up = f"Job {job.id} does not end and is given up; its coroutine stands at"
    wait_until(lambda: given_up in worker.log.read_text(), "the end of patience")
    assert "async_app.py" in worker.log.read_text().partition("its coroutine stands at")[2].splitlines()[0]
    Path(f"{marker}.enough").touch()
    assert worker.run("add", 1, queue="crowd").status is JobStatus.SUCCESS


def test_what_ignores_its_cancel_is_given_up(start: Start, queue: str, marker: str) -> None:
    worker = start(AIJOBS_CANCEL_GRACE_SECONDS="0.5")
    job_id = worker.send("refuse_to_end", marker, queue=queue)
    begun(marker)
    cancel(worker.app, job_id)
    assert_ended(worker, worker.end(job_id), JobStatus.REVOKED, ErrorCode.CANCELLED)
    assert worker.run("add", 1, queue=queue).status is JobStatus.SUCCESS, "its place is free"
    Path(f"{marker}.enough").touch()


@pytest.mark.parametrize("kind", ["exit", "interrupt", "base group"])
@pytest.mark.parametrize("task", ["raise_one", "raise_in_child"])
def test_exceptions_end_only_their_job(worker: Worker, task: str, kind: str) -> None:
    other = worker.send("nap", 0.5, queue="crowd")
    job = worker.run(task, kind, queue="crowd")
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION)
    assert worker.end(other).status is JobStatus.SUCCESS


def test_what_comes_after_the_hard_limit_does_not_count(worker: Worker, marker: str) -> None:
    link = worker.module.wait_early.si(f"{marker}.next", 0).set(queue="crowd")
    job_id = worker.module.return_late.apply_async(queue="crowd", link=link).id
    assert_ended(worker, worker.end(job_id), JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    assert worker.run("nap", 0.5, queue="crowd").status is JobStatus.SUCCESS
    assert not Path(f"{marker}.next.began").exists()


def test_terminated(worker: Worker, marker: str) -> None:
    job_id = worker.send("wait", marker, queue="crowd")
    begun(marker)
    worker.app.control.revoke(job_id, terminate=True)
    assert_ended(worker, worker.end(job_id), JobStatus.REVOKED, ErrorCode.CANCELLED)
    wait_until(Path(f"{marker}.cleaned").exists, "the end of the coroutine")


def test_killed_worker(start: Start, queue: str, marker: str) -> None:
    first = start("-c", "50")
    waiting = first.send("wait", marker, 2, queue=queue)
    more = [first.send("nap", 2.0, queue=queue) for _ in range(40)]
    begun(marker)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    second = start("-c", "50")
    assert_ended(second, second.end(waiting), JobStatus.SUCCESS, None, attempt=2)
    assert {second.end(job_id).status for job_id in more} == {JobStatus.SUCCESS}


def test_stop_returns_jobs_and_closes_their_sockets(start: Start, queue: str, marker: str) -> None:
    worker = start("-c", "10", TEST_SOFT_SECONDS="0.5")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        jobs = [worker.send("hold", *server.getsockname(), marker, queue=queue) for _ in range(5)]
        connections = [server.accept()[0] for _ in jobs]
        stop(worker.process)
        for connection in connections:
            with connection:
                connection.settimeout(60)
                assert connection.recv(1) == b""
    assert worker.process.returncode == 0
    for job in map(worker.job, jobs):
        assert (job.status, job.attempt, job.lost_deliveries) == (JobStatus.QUEUED, 0, 0)


def test_jobs_that_end_in_time_are_done(start: Start, queue: str, marker: str) -> None:
    worker = start("-c", "100", TEST_SOFT_SECONDS="30")
    jobs = [worker.send("nap", 1.5, queue=queue) for _ in range(50)]
    job_id = worker.send("wait", marker, 1.5, queue=queue)
    begun(marker)
    stop(worker.process)
    assert worker.process.returncode == 0
    assert {worker.job(one).status for one in (*jobs, job_id)} == {JobStatus.SUCCESS}


def test_a_restart_of_the_server_loses_nothing(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data", use_environment=False)
    try:
        client = Celery("client", broker=server.url, backend=server.url, set_as_current=False)
        store = setup(client).store
        environ = {**os.environ, **short_lease(server.url)}
        with celery_worker("async_app", tmp_path / "log", environ, "-P", "asyncio", "-c", "20") as (_, log):
            wait_until(lambda: " ready." in log.read_text(), "the worker's start")
            jobs = [client.send_task("async_app.nap", [3.0]).id for _ in range(40)]
            wait_until(lambda: _statuses(store, jobs)[JobStatus.RUNNING] == 20, "all places to be taken")
            server.stop()
            server = start_server(tmp_path / "data", port=server.port, use_environment=False)
            wait_until(lambda: _statuses(store, jobs)[JobStatus.SUCCESS] == 40, "the end of all jobs")
            assert {job.attempt for job in _jobs(store, jobs)} == {1}
    finally:
        server.stop()


def _statuses(store: JobStore, jobs: Sequence[str]) -> Counter[JobStatus]:
    with contextlib.suppress(StoreUnavailable):
        return Counter(job.status for job in _jobs(store, jobs))
    return Counter()


def _jobs(store: JobStore, jobs: Sequence[str]) -> list[Job]:
    return [job for job_id in jobs if (job := store.run(store.get(job_id))) is not None]


def test_functions_run_in_threads(worker: Worker, marker: str) -> None:
    job = worker.run("work_in_thread", marker, queue="crowd")
    assert job.result == [job.id, "async_app.work_in_thread", False]
    assert job.progress == 1
    assert worker.run("keep_color", "blue", queue="crowd").result == ["none", "blue", "blue"]


def test_functions_are_cancelled_when_they_report(worker: Worker, marker: str) -> None:
    job_id = worker.send("report_in_thread", marker, queue="crowd")
    begun(marker)
    cancel(worker.app, job_id)
    assert_ended(worker, worker.end(job_id), JobStatus.REVOKED, ErrorCode.CANCELLED)


def test_functions_can_be_refused(start: Start, queue: str) -> None:
    worker = start(AIJOBS_SYNC_TASKS="refuse")
    job = worker.run("add_sync", 1, queue=queue)
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.REJECTED)
    assert job.error is not None
    assert "asyncio pool" in job.error.message
    assert "AIJOBS_SYNC_TASKS" in job.error.message
    assert worker.run("add", 1, queue=queue).status is JobStatus.SUCCESS


def test_a_loop_that_is_held_up_is_noticed(worker: Worker) -> None:
    # Longer than the lease of the worker: another thread, and the keeper, see to that.
    assert worker.run("block", 7, queue="crowd").attempt == 1
    complaints = [line for line in worker.log.read_text().splitlines() if "has been held up" in line]
    assert [line for line in complaints if "async_app.py" in line and " in block" in line]
    assert worker.run("block", 2, queue="crowd").status is JobStatus.SUCCESS
    again = [line for line in worker.log.read_text().splitlines() if "has been held up" in line]
    assert len(again) == len(complaints), "each place is named once"


def test_grow_and_shrink(start: Start, queue: str) -> None:
    worker = start("-c", "1")
    inspect = worker.app.control.inspect([f"{worker.log.parent.name}@{queue}"])

    def allowed() -> int:
        stats = inspect.stats() or {}
        return next(iter(stats.values()))["pool"]["max-concurrency"] if stats else 0

    wait_until(lambda: allowed() == 1, "the worker to listen")
    worker.app.control.pool_grow(3)
    wait_until(lambda: allowed() == 4, "growth")
    worker.app.control.pool_shrink(2)
    wait_until(lambda: allowed() == 2, "the end of it")


def test_pool_named_by_the_app(server_url: str, tmp_path: Path) -> None:
    module = "import os\nfrom async_app import app\napp.conf.worker_pool = 'asyncio'\n"
    (tmp_path / "configured_app.py").write_text(module)
    environ = {**os.environ, **short_lease(server_url), "PYTHONPATH": f"{tmp_path}{os.pathsep}."}
    with celery_worker("configured_app", tmp_path / "log", environ, "-c", "7", "-Q", tmp_path.name) as (_, log):
        wait_until(lambda: " ready." in log.read_text(), "the worker's start")
        assert "concurrency: 7 (pool)" in log.read_text()


def test_without_greenlet_it_says_what_to_install(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "greenlet.py").write_text("raise ImportError")
    environ = {**os.environ, **short_lease(server_url), "PYTHONPATH": str(tmp_path)}
    with celery_worker("async_app", tmp_path / "log", environ, "-P", "asyncio") as (process, log):
        process.wait(60)
        assert "pip install 'aijobs[asyncio]'" in log.read_text()
