"""A job's life: attempts, their fencing, retries, ends and cancels; what is refused changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aijobs import ErrorCode, JobStatus, Progress
from aijobs.job import JobError
from aijobs.store.base import JobStore, Operation
from aijobs.store.values import Change, Claim, Failure, ProgressWrite, Return
from tests.helpers import Run, claim, new_job

from .story import BROKEN, HALF, WRITES, Story

every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
fenced_writes = pytest.mark.parametrize(
    "write", [write for name, write in WRITES.items() if name not in ("start", "cancel")]
)


def test_a_start_makes_the_job_run_under_its_claim(story: Story) -> None:
    change = story.run(story.store.start(story.claim(worker="w1@host")))
    assert change == Change(True, JobStatus.RUNNING, 1, False)
    job = story.job()
    assert (job.status, job.attempt, job.worker, job.rev, job.queue_position) == ("running", 1, "w1@host", 2, None)
    assert job.started_at is not None
    assert job.queue_seconds == (job.started_at - job.created_at).total_seconds()
    assert job.run_seconds is None


def test_starting_twice_under_one_claim_is_one_attempt(story: Story) -> None:
    story.write("start")
    before = story.everything()
    assert story.write("start") == Change(True, JobStatus.RUNNING, 1, False)
    assert story.everything() == before


def test_a_redelivered_job_is_taken_over_by_the_newer_attempt(story: Story) -> None:
    story.write("start", "first")
    story.write("report", "first")
    assert story.write("start", "second") == Change(True, JobStatus.RUNNING, 2, False)
    assert story.job().progress is None


@fenced_writes
def test_the_attempt_that_was_taken_over_is_refused(
    story: Story, write: Callable[[JobStore, Claim], Operation[Change]]
) -> None:
    story.write("start", "first")
    story.write("start", "second")
    before = story.everything()
    change = story.run(write(story.store, story.claim("first")))
    assert change == Change(False, JobStatus.RUNNING, 2, False)
    assert story.everything() == before


@pytest.mark.parametrize("name", [name for name in WRITES if name != "cancel"])
def test_every_earlier_attempt_is_refused_while_the_job_waits_for_its_next(story: Story, name: str) -> None:
    for token in ("first", "second"):
        story.write("start", token)
    story.write("requeue", "second")
    before = story.everything()
    for token in ("first", "second"):
        assert story.write(name, token) == Change(False, JobStatus.QUEUED, 2, False)
    assert story.everything() == before


@every_write
@pytest.mark.parametrize("end", ["succeed", "fail", "revoke"])
@pytest.mark.parametrize("token", ["first", "second", ""])
def test_a_finished_job_absorbs_every_write(
    story: Story, write: Callable[[JobStore, Claim], Operation[Change]], end: str, token: str
) -> None:
    story.write("start")
    story.write(end)
    before = story.everything()
    change = story.run(write(story.store, story.claim(token)))
    assert change == Change(False, before[0].status, 1, False)
    assert story.everything() == before


def test_a_bystander_may_end_a_running_job(story: Story) -> None:
    story.write("start")
    assert story.write("fail", "").accepted
    assert story.job().status == "failed"


def test_a_bystander_cannot_return_a_job_that_waits(story: Story) -> None:
    before = story.everything()
    assert story.write("requeue", "") == Change(False, JobStatus.QUEUED, 0, False)
    assert story.everything() == before


def test_progress_is_kept_and_returns_whether_to_stop(story: Story) -> None:
    story.write("start")
    assert story.write("report") == Change(True, JobStatus.RUNNING, 1, False)
    job = story.job()
    assert (job.progress, job.progress_detail) == (0.5, Progress(current=1, total=2, unit="pages"))
    story.write("cancel")
    assert story.write("ask") == Change(True, JobStatus.RUNNING, 1, True)


def test_progress_of_unknown_extent_has_no_fraction(story: Story) -> None:
    story.write("start")
    story.run(story.store.report(story.claim(), ProgressWrite(None, '{"message": "looking"}')))
    job = story.job()
    assert (job.progress, job.progress_detail) == (None, Progress(message="looking"))


def test_asking_changes_nothing(story: Story) -> None:
    story.write("start")
    before = story.everything()
    assert story.write("ask").accepted
    assert story.everything() == before


def test_success_keeps_result_and_times_and_is_whole(story: Story) -> None:
    story.write("start")
    story.run(story.store.finish(story.claim(), JobStatus.SUCCESS, result_json=b'{"n": 1}'))
    job = story.job()
    assert (job.status, job.result, job.result_bytes, job.progress, job.error) == ("success", {"n": 1}, 8, 1, None)
    assert job.completed_at is not None
    assert job.started_at is not None
    assert job.run_seconds == (job.completed_at - job.started_at).total_seconds()


def test_the_last_progress_comes_with_the_end(story: Story) -> None:
    story.write("start")
    story.run(story.store.finish(story.claim(), JobStatus.FAILED, failure=BROKEN, progress=HALF))
    job = story.job()
    assert (job.progress, job.progress_detail) == (0.5, Progress(current=1, total=2, unit="pages"))


def test_a_failure_says_why(story: Story) -> None:
    story.write("start")
    story.write("fail")
    job = story.job()
    assert job.error is not None
    assert job.error.to_dict() == {
        "code": "exception",
        "message": "ValueError: no",
        "retryable": True,
        "attempt": 1,
    }
    assert (job.status, job.traceback, job.result, job.result_bytes) == ("failed", "Traceback: …", None, None)


def test_a_retry_waits_with_its_reason_and_runs_again(story: Story) -> None:
    due = datetime.now(UTC) + timedelta(seconds=90)
    story.write("start")
    story.run(story.store.requeue(story.claim(), BROKEN, scheduled_at=due, progress=HALF))
    waiting = story.job()
    assert waiting.progress == 0.5
    assert (waiting.status, waiting.attempt, waiting.scheduled_at) == ("queued", 1, due)
    assert waiting.error is not None
    assert waiting.error.attempt == 1
    assert waiting.run_seconds is not None

    again = story.run(story.store.start(story.claim("second", retries=1)))
    assert again == Change(True, JobStatus.RUNNING, 2, False)
    running = story.job()
    assert (running.scheduled_at, running.run_seconds, running.queue_seconds) == (None, None, waiting.queue_seconds)
    story.write("succeed", "second")
    assert (story.job().error, story.job().traceback, story.job().attempt) == (None, None, 2)


def test_a_wait_for_a_provider_takes_no_attempt(story: Story) -> None:
    due = datetime.now(UTC) + timedelta(seconds=20)
    story.write("start")
    busy = Failure(ErrorCode.RATE_LIMITED, "The provider asked to wait 20 s.")
    change = story.run(story.store.requeue(story.claim(), busy, due, progress=HALF, why=Return.WAITED))
    assert change == Change(True, JobStatus.QUEUED, 0, False)
    waiting = story.job()
    assert (waiting.attempt, waiting.max_attempts, waiting.scheduled_at) == (0, 3, due)
    assert waiting.error == JobError(ErrorCode.RATE_LIMITED, busy.message, retryable=True, attempt=1)
    told = story.events()[-1].data
    assert (told["status"], told["attempt"], told["error_code"]) == ("queued", 0, "rate_limited")

    # The message that waited is of its own, and the one that came before it counts no more.
    assert not story.run(story.store.start(story.claim("late"))).accepted
    again = story.run(story.store.start(story.claim("second", waits=1)))
    assert again == Change(True, JobStatus.RUNNING, 1, False)
    assert story.events()[-2].type == "job.attempt"


def test_a_message_that_waited_may_come_while_its_sender_still_runs(story: Story) -> None:
    story.write("start")
    assert story.run(story.store.start(story.claim("second", waits=1))).accepted
    assert story.job().lost_deliveries == 0
    assert not story.run(story.store.requeue(story.claim(), None, why=Return.WAITED)).accepted


def test_a_job_that_is_to_be_cancelled_does_not_wait(story: Story) -> None:
    story.write("start")
    story.write("cancel")
    story.run(story.store.requeue(story.claim(), None, why=Return.WAITED))
    assert (story.job().status, story.job().attempt) == ("revoked", 1)


def test_waits_and_retries_count_together(story: Story) -> None:
    for sent_again, (why, token) in enumerate([(Return.WAITED, "a"), (Return.RETRY, "b"), (Return.WAITED, "c")]):
        waits = (sent_again + 1) // 2
        who = story.claim(token, waits=waits, retries=sent_again - waits)
        assert story.run(story.store.start(who)).accepted
        assert story.run(story.store.requeue(who, BROKEN, why=why)).accepted
    assert story.job().attempt == 1
    assert story.run(story.store.start(story.claim("d", waits=2, retries=1))) == Change(
        True, JobStatus.RUNNING, 2, False
    )


@pytest.mark.parametrize("known", [True, False])
def test_an_error_may_know_better_than_its_code(story: Story, known: bool) -> None:
    story.write("start")
    failure = Failure(ErrorCode.EXCEPTION, "AuthenticationError: no such key", retryable=known)
    story.run(story.store.requeue(story.claim(), failure))
    assert story.job().error == JobError(failure.code, failure.message, known, attempt=1)
    story.run(story.store.start(story.claim("second", retries=1)))
    story.run(story.store.finish(story.claim("second"), JobStatus.FAILED, failure=failure))
    assert story.job().error == JobError(failure.code, failure.message, known, attempt=2)

    story.run(story.store.create(story.new, reopen=True))
    (before,) = story.job().history
    assert before.error == JobError(failure.code, failure.message, known, attempt=2)
    story.write("start", "third")
    story.write("fail", "third")
    assert story.job().error == JobError(ErrorCode.EXCEPTION, BROKEN.message, retryable=True, attempt=1)


def test_a_retry_in_the_far_future_keeps_its_record_until_then(story: Story) -> None:
    due = datetime.now(UTC) + timedelta(days=400)
    story.write("start")
    story.run(story.store.requeue(story.claim(), BROKEN, scheduled_at=due))
    assert story.job().expires_at > due


def test_a_job_that_fails_while_it_waits_took_no_longer_to_run(story: Story) -> None:
    story.write("start")
    story.write("requeue")
    before = story.job().run_seconds
    story.write("fail", "")
    assert story.job().run_seconds == before


@pytest.mark.parametrize("name", ["report", "ask", "requeue", "succeed"])
def test_an_attempt_whose_start_was_not_told_counts_from_its_first_word(story: Story, name: str) -> None:
    change = story.write(name)
    assert (change.accepted, change.attempt) == (True, 1)
    job = story.job()
    assert (job.attempt, job.rev) == (1, 2)
    assert job.started_at is not None


def test_a_job_that_never_started_can_fail(story: Story) -> None:
    assert story.write("fail") == Change(True, JobStatus.FAILED, 0, False)
    job = story.job()
    assert (job.attempt, job.started_at, job.run_seconds, job.queue_seconds) == (0, None, None, None)
    assert job.error is not None
    assert job.error.attempt == 0


@pytest.mark.parametrize(
    ("name", "status", "attempt"),
    [
        ("start", "running", 1),
        ("report", "running", 1),
        ("ask", "running", 1),
        ("requeue", "queued", 1),
        ("succeed", "success", 1),
        ("fail", "failed", 0),
        ("revoke", "revoked", 0),
    ],
)
def test_a_job_of_a_stranger_gets_its_record_from_its_first_report(
    run: Run, store: JobStore, name: str, status: str, attempt: int
) -> None:
    who = claim(new_job(), worker="w1@host", max_attempts=5)
    assert run(WRITES[name](store, who)) == Change(True, JobStatus(status), attempt, False)
    job = run(store.get(who.job_id))
    assert job is not None
    assert (job.task, job.queue, job.max_attempts, job.rev) == ("embed", "celery", 5, 1)


@every_write
def test_a_write_that_names_no_task_makes_no_record(
    run: Run, store: JobStore, write: Callable[[JobStore, Claim], Operation[Change]]
) -> None:
    assert run(write(store, Claim("unknown", "first"))) == Change(False, None, 0, False)
    assert run(store.get("unknown")) is None


def test_what_a_bystander_returns_gets_no_record(run: Run, store: JobStore) -> None:
    who = claim(new_job(), "")
    assert run(store.requeue(who, None)) == Change(False, None, 0, False)
    assert run(store.get(who.job_id)) is None


def test_text_that_is_no_unicode_is_kept_as_far_as_it_goes(story: Story) -> None:
    story.write("start")
    failure = replace(BROKEN, message="lone \ud800 surrogate \x00", traceback="\udfff")
    story.run(story.store.finish(story.claim(), JobStatus.FAILED, failure=failure))
    job = story.job()
    assert job.error is not None
    assert (job.error.message, job.traceback) == ("lone ? surrogate \x00", "?")
