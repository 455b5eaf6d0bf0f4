"""Every way in which an attempt can end gives the right record, in each pool, with and without `ignore_result`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import states

from aijobs import ErrorCode, EventType, Job, JobStatus, cancel
from aijobs.store.values import Claim
from tests.helpers import wait_until

from .conftest import Worker, running_worker, stop


@pytest.fixture(scope="module", params=["prefork", "threads", "solo", "asyncio"])
def worker(request: pytest.FixtureRequest, server_url: str, folder: Path) -> Iterator[Worker]:
    environ = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    with running_worker("events_app", folder, environ, request.param, "-c", "2") as running:
        yield running


@pytest.fixture(params=[False, True], ids=["stored", "ignored"])
def options(request: pytest.FixtureRequest) -> dict[str, bool]:
    return {"ignore_result": request.param}


@pytest.fixture
def prefork(worker: Worker) -> Worker:
    if worker.pool != "prefork":
        pytest.skip("only a prefork pool has processes of its own to lose")
    return worker


def ends_of(worker: Worker, job: Job) -> int:
    return sum(event.type is EventType.COMPLETED for event in worker.events(job.id))


def assert_ended(worker: Worker, job: Job, status: JobStatus, code: ErrorCode | None, attempt: int = 1) -> None:
    assert (job.status, worker.code(job), job.attempt) == (status, code, attempt)
    assert ends_of(worker, job) == 1
    assert job.completed_at is not None


def test_success(worker: Worker, options: dict[str, bool]) -> None:
    job = worker.run("succeed", 40, **options)
    assert_ended(worker, job, JobStatus.SUCCESS, None)
    assert job.result == (None if options["ignore_result"] else 42)
    assert job.progress == 1
    assert job.queue_seconds is not None
    assert job.run_seconds is not None


def test_exception_keeps_its_text(worker: Worker, options: dict[str, bool]) -> None:
    job = worker.run("fail", **options)
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION)
    assert job.error is not None
    assert job.error.message == "ValueError: the text of the error"
    assert "ValueError" in str(job.traceback)


def test_soft_time_limit_reads_as_one(prefork: Worker, options: dict[str, bool]) -> None:
    job = prefork.run("exceed_soft_limit", **options)
    assert_ended(prefork, job, JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    assert job.error is not None
    assert job.error.message == "The job exceeded its soft time limit of 1 seconds."


def test_hard_time_limit_is_one_end(prefork: Worker, options: dict[str, bool]) -> None:
    job = prefork.run("exceed_hard_limit", **options)
    assert_ended(prefork, job, JobStatus.FAILED, ErrorCode.TIME_LIMIT)
    assert job.error is not None
    assert "time limit of 1" in job.error.message
    # The process that was killed is replaced by now, and Celery has heard of its end a second time.
    assert prefork.run("succeed", 1).status is JobStatus.SUCCESS
    told = [line for line in prefork.log.read_text().splitlines() if f"task_failure {job.id}" in line]
    assert len(told) == 1


@pytest.mark.parametrize("task", ["be_killed", "leave"])
def test_lost_process(prefork: Worker, options: dict[str, bool], task: str) -> None:
    assert_ended(prefork, prefork.run(task, **options), JobStatus.FAILED, ErrorCode.POISON, attempt=3)


def test_lost_process_with_requeue(prefork: Worker, options: dict[str, bool], marker: str) -> None:
    job = prefork.run("be_killed_once", marker, **options)
    assert_ended(prefork, job, JobStatus.SUCCESS, None, attempt=2)


def test_exit(prefork: Worker, options: dict[str, bool]) -> None:
    assert_ended(prefork, prefork.run("exit_python", **options), JobStatus.FAILED, ErrorCode.POISON, attempt=3)


def test_memory_error_spares_the_worker(worker: Worker, options: dict[str, bool]) -> None:
    job = worker.run("run_out_of_memory", **options)
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION)
    assert worker.run("succeed", 1).status is JobStatus.SUCCESS


def test_reject(worker: Worker, options: dict[str, bool]) -> None:
    job = worker.run("reject", **options)
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.REJECTED)
    assert job.error is not None
    assert "not for me" in job.error.message


def test_reject_with_requeue(worker: Worker, options: dict[str, bool], marker: str) -> None:
    assert_ended(worker, worker.run("reject_once", marker, **options), JobStatus.SUCCESS, None, attempt=2)


def test_retries_are_attempts(worker: Worker, options: dict[str, bool]) -> None:
    job = worker.run("retry_thrice", **options)
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION, attempt=3)
    assert job.max_attempts == 3
    attempts = [event.data["attempt"] for event in worker.events(job.id) if event.type is EventType.ATTEMPT]
    assert attempts == [2, 3]
    assert job.error is not None
    assert (job.error.message, job.error.attempt) == ("ConnectionError: provider away", 3)


def test_waiting_retry_says_when(worker: Worker, options: dict[str, bool]) -> None:
    job_id = worker.send("retry_once", 2.0, **options)
    waiting = worker.until(job_id, lambda job: job.attempt == 1 and job.status is JobStatus.QUEUED, "the retry")
    assert waiting.scheduled_at is not None
    assert waiting.scheduled_at > waiting.created_at
    assert waiting.error is not None
    assert waiting.error.retryable
    job = worker.end(job_id)
    assert_ended(worker, job, JobStatus.SUCCESS, None, attempt=2)
    assert job.scheduled_at is None


def test_unserialisable_result(worker: Worker) -> None:
    assert_ended(worker, worker.run("give_unserialisable"), JobStatus.FAILED, ErrorCode.INVALID_RESULT)


def test_models_and_sets_become_json(worker: Worker) -> None:
    job = worker.run("give_values")
    assert_ended(worker, job, JobStatus.SUCCESS, None)
    assert job.result == {"page": {"points": [{"x": 1}]}, "names": ["a"]}
    assert worker.app.AsyncResult(job.id).get(timeout=10) == job.result


def test_nan_becomes_null(worker: Worker) -> None:
    job = worker.run("give_nan")
    assert (job.status, job.result_json) == (JobStatus.SUCCESS, "null")


def test_ignore_is_an_end(worker: Worker, options: dict[str, bool]) -> None:
    assert_ended(worker, worker.run("ignore", **options), JobStatus.REVOKED, ErrorCode.REJECTED)


def test_failure_by_hand(worker: Worker) -> None:
    job = worker.run("give_up")
    assert_ended(worker, job, JobStatus.FAILED, ErrorCode.EXCEPTION)
    assert job.error is not None
    assert job.error.message == "bad file"


def test_replaced_task_goes_on_under_its_id(worker: Worker) -> None:
    job = worker.run("replace")
    assert (job.status, job.result) == (JobStatus.SUCCESS, 42)


def test_unregistered_task(worker: Worker) -> None:
    job_id = worker.app.send_task("events_app.unheard_of").id
    job = worker.end(job_id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "unheard_of" in job.error.message


def test_expired(worker: Worker, options: dict[str, bool]) -> None:
    past = datetime.now(UTC) - timedelta(seconds=5)
    assert_ended(worker, worker.run("succeed", 1, expires=past, **options), JobStatus.REVOKED, ErrorCode.EXPIRED, 0)


def test_revoked_by_celery_before_its_time(worker: Worker, options: dict[str, bool]) -> None:
    job_id = worker.send("succeed", 1, countdown=3, **options)
    worker.until(job_id, lambda job: job.scheduled_at is not None, "the schedule")
    wait_until(lambda: job_id in worker.log.read_text(), "the reception")
    worker.app.control.revoke(job_id)
    assert_ended(worker, worker.end(job_id), JobStatus.REVOKED, ErrorCode.CANCELLED, 0)


def test_terminated(prefork: Worker, options: dict[str, bool], marker: str) -> None:
    job_id = prefork.send("wait", marker, **options)
    wait_until(Path(marker).exists, "the start of the task")
    prefork.app.control.revoke(job_id, terminate=True)
    assert_ended(prefork, prefork.end(job_id), JobStatus.REVOKED, ErrorCode.CANCELLED)


def test_cancelled_while_queued_never_runs(worker: Worker, options: dict[str, bool], marker: str) -> None:
    job_id = worker.send("wait", marker, 0, countdown=1, **options)
    assert cancel(worker.app, job_id).status is JobStatus.REVOKED
    if not options["ignore_result"]:
        assert worker.app.AsyncResult(job_id).state == states.REVOKED
    # The message comes, and is dropped; the jobs after it run.
    wait_until(lambda: f"{job_id}] ignored" in worker.log.read_text(), "the drop")
    assert worker.run("succeed", 1).status is JobStatus.SUCCESS
    assert not Path(marker).exists()
    assert_ended(worker, worker.job(job_id), JobStatus.REVOKED, ErrorCode.CANCELLED, 0)


def test_cancel_of_a_running_job_reaches_the_task(worker: Worker, options: dict[str, bool], marker: str) -> None:
    job_id = worker.send("clean_up", marker, **options)
    worker.until(job_id, lambda job: job.progress is not None, "progress")
    change = cancel(worker.app, job_id)
    assert (change.status, change.cancel_requested) == (JobStatus.RUNNING, True)
    job = worker.end(job_id)
    assert_ended(worker, job, JobStatus.REVOKED, ErrorCode.CANCELLED)
    assert Path(marker).exists()


@pytest.mark.parametrize(
    ("task", "fraction", "detail"),
    [
        ("tutorial_started", 0.4, {}),
        ("tutorial_progress", 3 / 9, {"current": 3, "total": 9}),
        ("tutorial_processing", 0.5, {"step": "embedding"}),
    ],
)
def test_tutorial_shapes_show_while_running(
    worker: Worker, task: str, fraction: float, detail: dict[str, object]
) -> None:
    job = worker.run(task)
    assert_ended(worker, job, JobStatus.SUCCESS, None)
    shown = [event.data for event in worker.events(job.id) if event.type is EventType.PROGRESS]
    matching = [data for data in shown if data["progress"] == pytest.approx(fraction, abs=1e-5)]
    assert matching, shown
    assert detail.items() <= matching[0]["progress_detail"].items()


def test_first_and_last_progress_are_never_lost(worker: Worker, options: dict[str, bool]) -> None:
    job = worker.run("work", 20, 0.01, **options)
    shown = [event.data for event in worker.events(job.id) if event.type is EventType.PROGRESS]
    assert shown[0]["progress_detail"]["current"] == 0
    assert job.progress_detail is not None
    assert (job.progress_detail.current, job.progress_detail.total, job.progress_detail.unit) == (20, 20, "steps")


def test_late_write_of_an_older_attempt_is_refused(worker: Worker, marker: str) -> None:
    store = worker.runtime.store
    job = worker.run("reject_once", marker)
    late = store.run(store.finish(Claim(job.id, token="of-an-older-attempt"), JobStatus.FAILED))
    assert not late.accepted
    assert worker.job(job.id) == job


def test_warm_shutdown_says_goodbye(server_url: str, folder: Path) -> None:
    environ = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    with running_worker("events_app", folder, environ, "prefork", "-c", "1", "-n", "short@host") as short:
        store = short.runtime.store
        wait_until(lambda: "short@host" in store.run(store.stats([])).workers or None, "the heartbeat")
        stop(short.process)
        assert "short@host" not in store.run(store.stats([])).workers


@pytest.mark.parametrize("how", ["soft", "cold"])
def test_shutdown_returns_the_job_to_the_queue(server_url: str, folder: Path, marker: str, how: str) -> None:
    environ = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    with running_worker("events_app", folder, environ, "prefork", "-c", "1", "-n", "leaver@host", "-Q", how) as first:
        job_id = first.send("wait", marker, 60, queue=how)
        wait_until(Path(marker).exists, "the start of the task")
        first.process.send_signal(signal.SIGQUIT)
        if how == "cold":
            first.process.send_signal(signal.SIGQUIT)
        first.process.wait(30)
        waiting = first.job(job_id)
    assert (waiting.status, waiting.attempt, waiting.lost_deliveries) == (JobStatus.QUEUED, 0, 0)


def test_an_id_used_again_is_a_new_run(worker: Worker) -> None:
    first = worker.run("succeed", 1, task_id=f"nightly-{worker.pool}")
    job_id = worker.send("succeed", 2, task_id=first.id)
    job = worker.until(job_id, lambda job: job.result == 4, "the second run")
    assert (job.status, job.attempt) == (JobStatus.SUCCESS, 1)
    assert job.rev > first.rev
    assert ends_of(worker, job) == 2


def test_cancel_wins_over_a_retry(worker: Worker, options: dict[str, bool], marker: str) -> None:
    job_id = worker.send("retry_when_told", marker, **options)
    worker.until(job_id, lambda job: job.status is JobStatus.RUNNING, "the start")
    cancel(worker.app, job_id)
    Path(marker).touch()
    job = worker.end(job_id)
    assert_ended(worker, job, JobStatus.REVOKED, ErrorCode.CANCELLED)
    if not options["ignore_result"]:
        wait_until(lambda: worker.app.AsyncResult(job_id).state == states.REVOKED, "Celery's own result")
