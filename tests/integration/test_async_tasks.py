"""Tasks that are coroutine functions run in every pool, and are limited, cancelled and recorded as any other."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs import ErrorCode, EventType, Job, JobStatus, cancel
from tests.helpers import wait_until

from .conftest import Worker, running_worker, short_lease

POOLS = ["prefork", "threads", "solo", "asyncio"]


@pytest.fixture(scope="module", params=POOLS)
def worker(
    request: pytest.FixtureRequest, server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """Waits long before it ends a process, so that what stops must have heard."""
    environ = short_lease(server_url, AIJOBS_CANCEL_GRACE_SECONDS="60")
    folder = tmp_path_factory.mktemp(request.param)
    with running_worker("async_app", folder, environ, request.param, "-c", "2") as running:
        yield running


@pytest.fixture
def limited(worker: Worker) -> Worker:
    if worker.pool not in ("prefork", "asyncio"):
        pytest.skip("Celery knows no time limits in this pool")
    return worker


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that a task connects to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def began(marker: str) -> None:
    wait_until(Path(f"{marker}.began").exists, "the start")


def cleaned(marker: str) -> bool:
    return Path(f"{marker}.cleaned").exists()


def assert_ended(worker: Worker, job: Job, status: JobStatus, code: ErrorCode | None, attempt: int = 1) -> None:
    assert (job.status, worker.code(job), job.attempt) == (status, code, attempt), job
    assert sum(event.type is EventType.COMPLETED for event in worker.events(job.id)) == 1


def run_and_cancel(worker: Worker, task: str, marker: str) -> Job:
    job_id = worker.send(task, marker)
    began(marker)
    cancel(worker.app, job_id)
    return worker.end(job_id)


def test_models_come_and_go(worker: Worker) -> None:
    job = worker.run("answer", {"text": "why"})
    assert (job.status, job.result) == (JobStatus.SUCCESS, {"text": "WHY", "length": 3})


def test_invalid_argument(worker: Worker) -> None:
    job = worker.run("answer", {"text": 5})
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION)
    assert job.error is not None
    assert "argument 'question'" in job.error.message


def test_plain_celery_tasks_run(worker: Worker) -> None:
    assert worker.run("add", 40).result == 42


def test_ignored_results(worker: Worker) -> None:
    job = worker.run("add", 40, ignore_result=True)
    assert (job.status, job.result) == (JobStatus.SUCCESS, None)


def test_cancel_reaches_the_await_and_closes_sockets(worker: Worker, listener: socket.socket, marker: str) -> None:
    job_id = worker.send("hold", *listener.getsockname(), marker)
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(60)
        cancel(worker.app, job_id)
        assert connection.recv(1) == b"", "the task closed its end"
        job = worker.end(job_id)
    assert_ended(worker, job, JobStatus.REVOKED, ErrorCode.CANCELLED)
    assert Path(f"{marker}.closed").exists(), "what cleans up is not interrupted"
    assert "Cancelled" in Path(f"{marker}.cleaned").read_text()
    assert worker.run("add", 1).status is JobStatus.SUCCESS


@pytest.mark.parametrize("task", ["swallow", "wrap", "retry_all", "report", "gather_all"])
def test_cancel_ends_as_revoked(worker: Worker, marker: str, task: str) -> None:
    job = run_and_cancel(worker, task, marker)
    assert_ended(worker, job, JobStatus.REVOKED, ErrorCode.CANCELLED)
    assert cleaned(marker)
    if task == "gather_all":
        assert all(Path(f"{marker}.child{number}").exists() for number in range(3))


def test_a_task_may_make_an_end_of_its_own(worker: Worker, marker: str) -> None:
    job = run_and_cancel(worker, "end_well", marker)
    assert (job.status, job.result) == (JobStatus.SUCCESS, "stopped in time")


def test_soft_limit_is_raised_at_the_await(limited: Worker, marker: str) -> None:
    job = limited.run("exceed_soft_limit", marker)
    assert_ended(limited, job, JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    assert job.error is not None
    assert job.error.message == "The job exceeded its soft time limit of 1 seconds."
    assert "SoftLimit" in Path(f"{marker}.cleaned").read_text()


def test_soft_limit_can_be_heeded(limited: Worker) -> None:
    assert limited.run("heed_soft_limit").result == "as far as it came"


def test_soft_limit_ends_the_children(limited: Worker, marker: str) -> None:
    job = limited.run("exceed_soft_limit_in_group", marker)
    assert_ended(limited, job, JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    assert Path(f"{marker}.child").exists()


def test_hard_limit(limited: Worker, marker: str) -> None:
    job = limited.run("exceed_hard_limit", marker)
    assert_ended(limited, job, JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    assert job.error is not None
    assert "time limit of 1" in job.error.message
    assert limited.run("add", 1).status is JobStatus.SUCCESS


def test_children_that_are_left_behind_end_with_the_job(worker: Worker, marker: str) -> None:
    assert worker.run("leave_children", marker).result == "left 1"
    wait_until(Path(f"{marker}.child").exists, "the end of the child")


def test_generators_that_are_left_before_their_end_are_closed(worker: Worker) -> None:
    if worker.pool == "prefork":
        pytest.skip("another process may answer")
    before = worker.run("count_closed").result
    worker.run("leave_generator")
    assert worker.run("count_closed").result == before + 1


def test_request_and_reports_hold_wherever_its_code_runs(worker: Worker) -> None:
    job = worker.run("look_around")
    assert job.status is JobStatus.SUCCESS, job
    assert job.result == [[job.id, "async_app.look_around"]] * len(job.result)
    assert job.progress_detail is not None
    assert job.progress_detail.current == 9


def test_contexts_of_jobs_are_apart(worker: Worker) -> None:
    jobs = [(name, worker.send("keep_color", name)) for name in ("red", "blue", "green", "white")]
    for name, job_id in jobs:
        assert worker.end(job_id).result == ["none", name, name]


def test_a_thread_keeps_its_loop(worker: Worker) -> None:
    seen = {tuple(worker.run("identify_loop").result) for _ in range(6)}
    assert len({loop[:2] for loop in seen}) == len(seen), "one loop for each thread"


@pytest.mark.parametrize(
    ("kind", "status", "code", "text"),
    [
        ("value", JobStatus.FAILED, ErrorCode.EXCEPTION, "ValueError: the text of the error"),
        ("memory", JobStatus.FAILED, ErrorCode.EXCEPTION, "MemoryError: no more"),
        ("cancelled", JobStatus.FAILED, ErrorCode.EXCEPTION, "cancelled by its own code"),
        ("group", JobStatus.FAILED, ErrorCode.EXCEPTION, "several"),
        ("stop", JobStatus.FAILED, ErrorCode.EXCEPTION, "StopAsyncIteration"),
        ("ignore", JobStatus.REVOKED, ErrorCode.REJECTED, ""),
        ("reject", JobStatus.FAILED, ErrorCode.REJECTED, "not for me"),
    ],
)
def test_exceptions(worker: Worker, kind: str, status: JobStatus, code: ErrorCode, text: str) -> None:
    job = worker.run("raise_one", kind)
    assert_ended(worker, job, status, code)
    assert job.error is not None
    assert text in job.error.message
    assert worker.run("add", 1).status is JobStatus.SUCCESS


@pytest.mark.parametrize("task", ["retry_thrice", "retry_by_itself"])
def test_retries(worker: Worker, task: str) -> None:
    job = worker.run(task)
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION, attempt=3)


def test_replaced_task_goes_on_under_its_id(worker: Worker) -> None:
    assert worker.run("replace").result == 42


def test_canvas(worker: Worker) -> None:
    module = worker.module
    assert module.send_chain().get(timeout=60) == 9
    assert [worker.end(child.id).result for child in module.send_group()] == [0, 2, 4, 6, 8]
    assert module.send_chord().get(timeout=60) == 12


def test_jobs_submitted_by_a_job(worker: Worker) -> None:
    assert worker.end(str(worker.run("submit_more").result)).result == 2


def test_eager(worker: Worker) -> None:
    assert worker.module.answer.apply(({"text": "why"},)).get() == {"text": "WHY", "length": 3}
    assert worker.module.answer({"text": "hm"}) == {"text": "HM", "length": 2}


async def _eagerly(worker: Worker) -> object:
    with contextlib.suppress(ZeroDivisionError):
        return worker.module.answer.apply(({"text": "why"},)).get()
    return None


def test_eager_on_a_loop(worker: Worker) -> None:
    import asyncio

    assert asyncio.run(_eagerly(worker)) == {"text": "WHY", "length": 3}
