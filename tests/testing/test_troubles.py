"""Workers that are killed, jobs that are cancelled and limits that pass, at a named point of a task's work."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from aijobs import ErrorCode, JobCancelled, JobStatus, ProgressTask
from aijobs.testing import cancel_at, crash_after, crash_at, run_job, time_out_at


@pytest.fixture
def paid() -> list[str]:
    """What tasks did beyond their process: what was paid for."""
    return []


@pytest.fixture
def ingest(app: Celery, paid: list[str]) -> Any:
    def pay(what: str) -> str:
        paid.append(what)
        return what

    @app.task(base=ProgressTask, bind=True, shared=False, name="ingest")
    def ingest(self: Any, texts: list[str]) -> int:
        self.run_step("extract", pay, "extract")
        with self.step("embed"):
            for text in self.track(texts, resume=True):
                pay(text)
        return int(self.run_step("count", len, texts))

    return ingest


TEXTS = ["a", "b", "c"]


class TestCrashes:
    def test_a_task_that_resumes_pays_nothing_twice(self, ingest: Any, paid: list[str]) -> None:
        with crash_at("embed", item=3):
            run = run_job(ingest, TEXTS)
        assert (run.assert_success(), run.attempts) == (3, 2)
        assert paid == ["extract", "a", "b", "c"]
        assert run.waits == (0.0,)
        assert [error.code for error in run.errors] == [ErrorCode.WORKER_LOST]
        assert run.timeline[-5:] == ["queued", "attempt", "running", "progress", "success"]

    def test_what_was_kept_can_be_looked_at(self, ingest: Any) -> None:
        kept = run_job(ingest, TEXTS).kept
        assert (kept["extract"], kept["count"]) == ("extract", 3)

    def test_a_coroutine_task_resumes_as_well(self, app: Celery, paid: list[str]) -> None:
        async def pay(what: str) -> str:
            paid.append(what)
            return what

        @app.task(base=ProgressTask, bind=True, shared=False, name="ingest_async")
        async def ingest_async(self: Any, texts: list[str]) -> int:
            await self.run_step("extract", pay, "extract")
            with self.step("embed"):
                for text in self.track(texts, resume=True):
                    await pay(text)
            return int(self.run_step("count", len, texts))

        with crash_after("extract"), crash_at("embed", item=3):
            run = run_job(ingest_async, TEXTS)
        assert (run.assert_success(), run.attempts) == (3, 3)
        assert paid == ["extract", "extract", "a", "b", "c"]

    def test_a_step_that_was_done_is_not_done_again(self, ingest: Any, paid: list[str]) -> None:
        with crash_at("embed"):
            run_job(ingest, TEXTS).assert_success()
        assert paid == ["extract", "a", "b", "c"]

    @pytest.mark.parametrize(
        ("trouble", "expected"),
        [
            (crash_after("extract"), ["extract", "extract", "a", "b", "c"]),
            (crash_after("embed", item=2), ["extract", "a", "b", "b", "c"]),
        ],
        ids=str,
    )
    def test_what_nobody_knows_to_be_done_is_done_again(
        self, ingest: Any, paid: list[str], trouble: Any, expected: list[str]
    ) -> None:
        with trouble:
            run_job(ingest, TEXTS).assert_success()
        assert paid == expected

    def test_a_loop_that_does_not_resume_begins_anew(self, app: Celery, paid: list[str]) -> None:
        @app.task(base=ProgressTask, bind=True, shared=False, name="forgetful")
        def forgetful(self: Any, texts: list[str]) -> None:
            for text in self.track(texts):
                paid.append(text)

        with crash_at(item=2):
            run_job(forgetful, TEXTS).assert_success()
        assert paid == ["a", "a", "b", "c"]

    def test_a_task_that_swallows_everything_is_dead_all_the_same(self, app: Celery, paid: list[str]) -> None:
        @app.task(base=ProgressTask, bind=True, shared=False, name="stubborn")
        def stubborn(self: Any) -> str:
            try:
                with self.step("embed"):
                    paid.append("embed")
            except BaseException:
                try:
                    self.emit("still here")
                finally:
                    return "done"  # noqa: B012
            return "proper"

        with crash_at("embed"):
            run = run_job(stubborn)
        assert (run.result, run.attempts, run.output.text) == ("proper", 2, "")

    def test_what_a_dead_task_submits_is_not_there(self, app: Celery) -> None:
        @app.task(base=ProgressTask, shared=False, name="child")
        def child() -> None: ...

        @app.task(base=ProgressTask, bind=True, shared=False, name="parent")
        def parent(self: Any) -> None:
            try:
                with self.step("embed"):
                    pass
            finally:
                child.delay()

        with crash_at("embed"):
            assert len(run_job(parent).submitted) == 1

    def test_a_job_that_kills_one_worker_after_the_other_is_poison(self, ingest: Any) -> None:
        with crash_at("embed", times=5):
            run = run_job(ingest, TEXTS)
        assert run.error is not None
        assert (run.status, run.error.code, run.attempts) == ("failed", ErrorCode.POISON, 3)

    def test_a_job_acknowledged_early_is_lost_with_its_worker(self, app: Celery) -> None:
        @app.task(base=ProgressTask, bind=True, shared=False, name="early", acks_late=False)
        def early(self: Any) -> None:
            with self.step("embed"):
                pass

        with crash_at("embed"):
            run = run_job(early)
        assert run.error is not None
        assert (run.status, run.error.code) == ("failed", ErrorCode.WORKER_LOST)


class TestCancels:
    def test_a_cancelled_job_is_revoked_and_its_task_cleans_up(self, app: Celery) -> None:
        seen: list[Any] = []

        @app.task(base=ProgressTask, bind=True, shared=False, name="long")
        def long(self: Any) -> None:
            try:
                for number in self.track(range(10)):
                    seen.append(number)
            finally:
                self.progress(10)
                seen.append("closed")

        with cancel_at(item=3):
            run = run_job(long)
        assert run.error is not None
        assert (run.status, run.error.code) == (JobStatus.REVOKED, ErrorCode.CANCELLED)
        assert isinstance(run.exception, JobCancelled)
        assert seen == [0, 1, "closed"]
        assert run.timeline == ["queued", "running", "progress", "cancel_requested", "progress", "revoked"]

    def test_a_coroutine_task_cleans_up(self, app: Celery) -> None:
        seen: list[str] = []

        @app.task(base=ProgressTask, bind=True, shared=False, name="long_async")
        async def long_async(self: Any) -> None:
            try:
                for _ in self.track(range(10)):
                    await asyncio.sleep(0)
            finally:
                await asyncio.sleep(0)
                seen.append("closed")

        with cancel_at(item=3):
            assert run_job(long_async).status is JobStatus.REVOKED
        assert seen == ["closed"]

    def test_a_task_that_swallows_it_hears_it_again(self, app: Celery) -> None:
        seen: list[int] = []

        @app.task(base=ProgressTask, bind=True, shared=False, name="deaf")
        def deaf(self: Any) -> None:
            for number in range(3):
                try:
                    with self.step("embed"):
                        pass
                except JobCancelled:
                    seen.append(number)

        with cancel_at("embed"):
            run_job(deaf)
        assert seen == [0, 1, 2]

    def test_a_cancelled_job_is_not_retried(self, app: Celery) -> None:
        @app.task(base=ProgressTask, bind=True, shared=False, name="retrying")
        def retrying(self: Any) -> None:
            try:
                with self.step("embed"):
                    pass
            finally:
                raise self.retry(countdown=1)

        with cancel_at("embed"):
            assert run_job(retrying).status is JobStatus.REVOKED


def test_a_time_limit_ends_the_job(app: Celery) -> None:
    seen: list[str] = []

    @app.task(base=ProgressTask, bind=True, shared=False, name="slow", soft_time_limit=30)
    def slow(self: Any) -> None:
        try:
            with self.step("embed"):
                pass
        except SoftTimeLimitExceeded:
            seen.append("cleaned up")
            raise

    with time_out_at("embed"):
        run = run_job(slow)
    assert run.error is not None
    assert run.error.code is ErrorCode.TIME_LIMIT
    assert run.error.message == "The job exceeded its soft time limit of 30 seconds."
    assert seen == ["cleaned up"]


def test_several_troubles_befall_one_job(ingest: Any, paid: list[str]) -> None:
    with crash_at("embed", item=2), crash_at("count"):
        assert run_job(ingest, TEXTS).attempts == 3
    assert paid == ["extract", "a", "b", "c"]


def test_a_point_that_is_never_reached_fails_the_test(ingest: Any) -> None:
    with (
        pytest.raises(
            AssertionError, match=r"The crash at step 'embedd' never happened.*It passed extract, embed, count"
        ),
        crash_at("embedd"),
    ):
        run_job(ingest, TEXTS)


def test_the_block_of_an_error_says_nothing_of_points() -> None:
    with pytest.raises(LookupError), crash_at("embed"):
        raise LookupError


@pytest.mark.parametrize(("given", "what"), [({}, "Say where"), ({"item": 0}, "counted from 1")])
def test_a_point_must_be_one(given: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        crash_at(**given)
