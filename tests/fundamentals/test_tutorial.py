"""aijobs in six small stories, with a real worker. Read them in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from aijobs import ErrorCode, EventType, JobStatus, cancel, submit
from tests.fundamentals.conftest import Watcher
from tests.fundamentals.tutorial import add, app, ask, embed, parse


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The task `embed` waits until this file is there."""
    return tmp_path / "gate"


def test_a_job_tells_how_far_it_is_and_keeps_its_result(jobs: Watcher, worker: Path, gate: Path) -> None:
    # Submitting makes the record at once: there is never a job that nobody knows of.
    job = submit(embed, [["a", "b", "c", "d"], str(gate)], owner="alice")
    assert (job.owner, job.attempt, job.result) == ("alice", 0, None)

    # While it runs, its record is up to date.
    job = jobs.until(job.id, lambda job: job.progress == 0.25)
    assert job.status is JobStatus.RUNNING
    assert job.progress_detail is not None
    assert (job.progress_detail.unit, job.progress_detail.message) == ("texts", "embedding")

    # In the end it holds the result, and how long all that took.
    gate.touch()
    job = jobs.end(job.id)
    assert (job.status, job.progress, job.result) == (JobStatus.SUCCESS, 1, {"texts": 4})
    assert job.queue_seconds is not None
    assert job.run_seconds is not None

    # The whole story can be read again, from any point on.
    first, second, *_, last = jobs.events(job.id)
    assert [first.data["status"], second.data["status"]] == ["queued", "running"]
    assert last.type is EventType.COMPLETED


def test_a_job_that_was_unlucky_is_tried_again(jobs: Watcher, worker: Path) -> None:
    job = jobs.end(submit(ask, ["What is the answer?"]).id)
    assert (job.status, job.result) == (JobStatus.SUCCESS, "What is the answer? 42.")
    assert (job.attempt, job.max_attempts, job.error) == (2, 3, None)

    # What went wrong the first time is in its story.
    (retry,) = (event for event in jobs.events(job.id) if "error_code" in event.data)
    assert retry.data["status"] == "queued"


def test_a_job_that_fails_says_why(jobs: Watcher, worker: Path) -> None:
    job = jobs.end(submit(parse, ["photo.png"]).id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.EXCEPTION
    assert job.error.message == "ValueError: photo.png is no document"


def test_a_queued_job_is_cancelled_at_once(jobs: Watcher) -> None:
    # No worker listens to this queue, and none is needed.
    job = submit(parse, ["photo.png"], queue="nobody-listens")
    cancel(app, job.id)
    assert jobs.get(job.id).status is JobStatus.REVOKED


def test_a_running_job_is_cancelled_at_its_next_report(jobs: Watcher, worker: Path, gate: Path) -> None:
    job = submit(embed, [["a", "b"], str(gate)])
    jobs.until(job.id, lambda job: job.status is JobStatus.RUNNING)
    assert cancel(app, job.id).cancel_requested
    job = jobs.end(job.id)
    assert job.status is JobStatus.REVOKED
    assert not gate.exists()


def test_any_celery_task_has_a_record_and_celery_works_as_ever(jobs: Watcher, worker: Path) -> None:
    result = add.delay(2, 3)
    assert result.get(timeout=60) == 5
    assert jobs.get(result.id).result == 5
