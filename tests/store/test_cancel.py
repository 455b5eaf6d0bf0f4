"""Cancelling: at once where nothing runs, at the next report where something does."""

from __future__ import annotations

import pytest

from aijobs import JobStatus
from aijobs.store.values import Change

from .story import Story


def test_cancelling_a_queued_job_revokes_it_at_once(story: Story) -> None:
    assert story.write("cancel") == Change(True, JobStatus.REVOKED, 0, True)
    job = story.job()
    assert job.status == "revoked"
    assert job.completed_at == job.cancel_requested_at is not None
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("cancelled", False)
    assert story.write("start") == Change(False, JobStatus.REVOKED, 0, True)


def test_cancelling_a_running_job_asks_it_to_stop(story: Story) -> None:
    story.write("start")
    assert story.write("cancel") == Change(True, JobStatus.RUNNING, 1, True)
    first = story.job().cancel_requested_at
    assert first is not None
    story.write("cancel")
    assert story.job().cancel_requested_at == first
    assert story.write("report").cancel_requested
    assert story.write("revoke") == Change(True, JobStatus.REVOKED, 1, True)


def test_cancelling_a_job_that_waits_for_its_retry_revokes_it(story: Story) -> None:
    story.write("start")
    story.write("requeue")
    assert story.write("cancel") == Change(True, JobStatus.REVOKED, 1, True)
    assert story.job().scheduled_at is None


@pytest.mark.parametrize("name", ["start", "requeue"])
def test_a_job_that_should_stop_is_not_run_again(story: Story, name: str) -> None:
    story.write("start")
    story.write("cancel")
    change = story.write(name, "second" if name == "start" else "first")
    assert (change.status, change.attempt, change.cancel_requested) == (JobStatus.REVOKED, 1, True)
    job = story.job()
    assert job.error is not None
    assert (job.error.code, job.error.attempt, job.scheduled_at) == ("cancelled", 1, None)
    assert job.completed_at is not None
    assert job.run_seconds is not None
