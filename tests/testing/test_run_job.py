"""`run_job`: a job in this process, from its submission to its end."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import EncodeError
from pydantic import BaseModel

from aijobs import LLM_CALL, ErrorCode, FileGone, JobStatus, Progress, ProgressTask, UploadedFile, setup, submit
from aijobs.job import LogEntry, Piece
from aijobs.testing import Submitted, crash_at, run_job


class Page(BaseModel):
    number: int
    read_on: date


def declare(app: Celery, function: Any, **options: Any) -> Any:
    return app.task(base=ProgressTask, bind=True, shared=False, name=function.__name__, **options)(function)


class TestArgumentsAndResults:
    def test_a_job_runs_without_a_broker_a_store_or_a_worker(self, app: Celery) -> None:
        def add(self: Any, a: int, b: int = 2) -> int:
            return a + b

        run = run_job(declare(app, add), 1, b=3)
        assert (run.status, run.result, run.error, run.attempts) == ("success", 4, None, 1)
        assert run.timeline == ["queued", "running", "success"]
        assert run.task == "add"

    def test_a_plain_task_of_celery_runs_as_well(self, app: Celery) -> None:
        @app.task(shared=False, name="plain")
        def plain(x: int) -> int:
            return x

        assert run_job(plain, 1).result == 1

    def test_arguments_are_validated_and_results_become_json(self, app: Celery) -> None:
        def turn(self: Any, page: Page) -> Page:
            assert isinstance(page, Page)
            assert page.read_on == date(2026, 5, 1)
            return Page(number=page.number + 1, read_on=page.read_on)

        task = declare(app, turn)
        expected = {"number": 2, "read_on": "2026-05-01"}
        assert run_job(task, {"number": 1, "read_on": "2026-05-01"}).result == expected
        assert run_job(task, Page(number=1, read_on=date(2026, 5, 1))).result == expected
        refused = run_job(task, {"number": "one"})
        assert refused.error is not None
        assert refused.error.message.startswith(
            "TypeError: argument 'page' of the task is not what its annotation says"
        )

    def test_what_travels_is_json(self, app: Celery) -> None:
        def look(self: Any, pair: Any) -> Any:
            return [type(pair).__name__, pair]

        assert run_job(declare(app, look), (1, 2)).result == ["list", [1, 2]]

    def test_an_argument_that_no_message_can_hold_is_refused_as_by_delay(self, app: Celery) -> None:
        def look(self: Any, value: Any) -> None: ...

        with pytest.raises(EncodeError, match="not JSON serializable"):
            run_job(declare(app, look), object())

    def test_arguments_that_the_task_does_not_take_are_refused_as_by_delay(self, app: Celery) -> None:
        def look(self: Any, value: Any) -> None: ...

        with pytest.raises(TypeError, match="missing"):
            run_job(declare(app, look))

    def test_a_result_that_cannot_be_stored_fails_the_job(self, app: Celery) -> None:
        def make(self: Any) -> object:
            return object()

        run = run_job(declare(app, make))
        assert run.error is not None
        assert (run.status, run.error.code) == ("failed", ErrorCode.INVALID_RESULT)

    def test_a_result_may_be_what_pydantic_makes_json_of(self, app: Celery) -> None:
        def make(self: Any) -> Any:
            return {"names": {"a"}}

        assert run_job(declare(app, make)).assert_success() == {"names": ["a"]}

    def test_an_ignored_result_is_none(self, app: Celery) -> None:
        def make(self: Any) -> int:
            return 1

        run = run_job(declare(app, make, ignore_result=True))
        assert (run.status, run.result) == ("success", None)

    def test_files_are_there_while_the_job_runs_and_then_gone(self, app: Celery) -> None:
        seen: list[UploadedFile] = []

        def read(self: Any, file: UploadedFile) -> str:
            seen.append(file)
            return f"{file.name}: {file.read_bytes().decode()}"

        run = run_job(declare(app, read), UploadedFile.from_bytes(b"hello", "a.txt"))
        assert run.assert_success() == "a.txt: hello"
        with pytest.raises(FileGone):
            seen[0].read_bytes()

    def test_what_is_no_task_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"run_job\(\) takes a task"):
            run_job(len, [])


class TestWhatATaskSays:
    def test_everything_is_remembered_in_order(self, app: Celery) -> None:
        def write(self: Any, words: list[str]) -> str:
            with self.step("write"):
                for word in self.track(words, unit="words"):
                    self.emit(word)
            self.emit({"words": len(words)})
            self.log("done", words=len(words))
            return "ok"

        run = run_job(declare(app, write), ["a", "b"])
        assert run.output.text == "ab"
        assert list(run.output.pieces) == [Piece("ab"), Piece(None, {"words": 2})]
        assert run.logs == (LogEntry("done", "info", {"words": 2}),)
        assert run.progress[-2] == Progress(2, 2, "words", "write")
        assert run.timeline == [
            *("queued", "running", "progress", "output", "progress", "output", "progress", "output", "log"),
            "success",
        ]
        assert [event.seq for event in run.events] == list(range(1, len(run.events) + 1))
        assert run.events[-1].data["result"] == "ok"

    def test_output_is_that_of_the_last_attempt(self, app: Celery) -> None:
        def write(self: Any) -> None:
            self.emit(f"attempt {self.request.retries + 1}")
            if self.request.retries == 0:
                raise ConnectionError

        run = run_job(declare(app, write, **LLM_CALL.options()))
        assert (run.output.text, run.output.attempt) == ("attempt 2", 2)

    def test_helper_threads_are_heard(self, app: Celery) -> None:
        def write(self: Any) -> None:
            helper = threading.Thread(target=self.emit, args=("from a thread",))
            helper.start()
            helper.join()

        assert run_job(declare(app, write)).output.text == "from a thread"

    def test_submitted_jobs_are_noted_and_not_run(self, app: Celery) -> None:
        def child(self: Any, number: int) -> None:
            raise AssertionError("not to be run")

        children = declare(app, child)

        def parent(self: Any) -> str:
            children.apply_async((2,), queue="slow")
            return str(children.delay(number=1).id)

        run = run_job(declare(app, parent))
        assert run.assert_success()
        assert [(one.task, one.args, one.kwargs, one.queue) for one in run.submitted] == [
            ("child", [2], {}, "slow"),
            ("child", [], {"number": 1}, "celery"),
        ]

    def test_threads_of_a_task_send_nothing_either(self) -> None:
        app = Celery("tasks", broker="redis://localhost:1/0", backend="redis://localhost:1/0", set_as_current=False)

        def child(self: Any) -> None: ...

        children = declare(app, child)

        def parent(self: Any) -> None:
            for send in (children.delay, partial(submit, children)):
                helper = threading.Thread(target=send)
                helper.start()
                helper.join()

        assert len(run_job(declare(app, parent)).submitted) == 2

    def test_what_is_submitted_with_an_owner_is_noted_as_well(self, app: Celery) -> None:
        def child(self: Any, page: Page) -> None: ...

        children = declare(app, child)

        def parent(self: Any) -> str:
            page = Page(number=1, read_on=date(2026, 5, 1))
            job = submit(children, [page], owner="ann", metadata={"order": "1"}, queue="pages")
            assert (job.status, job.queue, job.owner) == ("queued", "pages", "ann")
            return job.id

        run = run_job(declare(app, parent))
        expected = [{"number": 1, "read_on": "2026-05-01"}]
        assert run.submitted == (
            Submitted(run.assert_success(), "child", expected, {}, "pages", "ann", {"order": "1"}),
        )

    def test_the_request_is_that_of_a_worker(self, app: Celery) -> None:
        def look(self: Any) -> Any:
            return [self.request.id, self.request.called_directly, self.request.retries, self.name]

        run = run_job(declare(app, look))
        assert run.result == [run.job_id, False, 0, "look"]

    def test_in_an_event_loop_a_task_may_run_its_own(self, app: Celery) -> None:
        async def answer() -> int:
            return 42

        def ask(self: Any) -> int:
            return asyncio.run(answer())

        task = declare(app, ask)

        async def test() -> Any:
            return run_job(task).result

        assert asyncio.run(test()) == 42

    def test_a_coroutine_task_runs(self, app: Celery) -> None:
        async def ask(self: Any, words: list[str]) -> str:
            for word in self.track(words):
                await asyncio.sleep(0)
                self.emit(word)
            return "ok"

        run = run_job(declare(app, ask), ["a", "b"])
        assert (run.assert_success(), run.output.text) == ("ok", "ab")


class TestFailures:
    def test_a_failure_has_its_exception(self, app: Celery) -> None:
        def fail(self: Any) -> None:
            raise LookupError("no such page")

        run = run_job(declare(app, fail))
        assert run.status is JobStatus.FAILED
        assert run.error is not None
        assert (run.error.code, run.error.message, run.error.attempt) == ("exception", "LookupError: no such page", 1)
        assert isinstance(run.exception, LookupError)
        assert "in fail" in (run.traceback or "")
        assert repr(run) == "<JobRun of fail: failed after 1 attempt: exception: LookupError: no such page>"

    def test_assert_success_tells_the_whole_story(self, app: Celery) -> None:
        def fail(self: Any) -> None:
            self.emit("half of")
            raise LookupError("no such page")

        run = run_job(declare(app, fail))
        with pytest.raises(AssertionError, match=r"(?s)to succeed.*output.*half of.*in fail.*no such page") as caught:
            run.assert_success()
        assert caught.value.__cause__ is run.exception

    def test_retries_come_at_once_and_their_waits_are_told(self, app: Celery) -> None:
        def ask(self: Any) -> int:
            if self.request.retries < 2:
                raise ConnectionError("no route")
            return int(self.request.retries)

        run = run_job(declare(app, ask, **LLM_CALL.but(jitter=False).options()))
        assert (run.result, run.attempts, run.waits, run.error) == (2, 3, (2.0, 4.0), None)
        assert [error.message for error in run.errors] == ["ConnectionError: no route"] * 2
        assert run.timeline == [
            *("queued", "running", "queued", "attempt", "running", "queued", "attempt", "running", "success"),
        ]

    def test_a_task_that_asks_for_a_retry_gets_it_with_its_new_arguments(self, app: Celery) -> None:
        def ask(self: Any, size: int) -> int:
            if size > 1:
                raise self.retry(args=(size // 2,), countdown=7)
            return size

        run = run_job(declare(app, ask, max_retries=None), 8)
        assert (run.result, run.attempts, run.waits) == (1, 4, (7.0, 7.0, 7.0))

    def test_a_retry_at_a_time_is_told_in_seconds(self, app: Celery) -> None:
        def ask(self: Any) -> int:
            if self.request.retries == 0:
                raise self.retry(eta=datetime.now(UTC) + timedelta(seconds=100))
            return 1

        (wait,) = run_job(declare(app, ask)).waits
        assert 90 < wait <= 100

    def test_a_retry_that_nobody_sent_comes_all_the_same(self, app: Celery) -> None:
        def ask(self: Any) -> int:
            if self.request.retries == 0:
                raise Retry("later")
            return 1

        run = run_job(declare(app, ask))
        assert (run.result, run.attempts) == (1, 2)

    def test_the_last_retry_is_the_end(self, app: Celery) -> None:
        def ask(self: Any) -> None:
            raise TimeoutError

        run = run_job(declare(app, ask, **LLM_CALL.but(max_retries=2).options()))
        assert (run.status, run.attempts, len(run.waits)) == ("failed", 3, 2)

    def test_a_job_without_end_is_ended(self, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aijobs.testing.run.MOST_ATTEMPTS", 20)

        def ask(self: Any) -> None:
            raise self.retry(countdown=0)

        with pytest.raises(AssertionError, match="did not end after 20 attempts"):
            run_job(declare(app, ask, max_retries=None))

    @pytest.mark.parametrize(
        ("exception", "status"), [(Reject("no"), JobStatus.FAILED), (Ignore("enough"), JobStatus.REVOKED)]
    )
    def test_a_task_may_refuse_its_job(self, app: Celery, exception: Exception, status: JobStatus) -> None:
        def refuse(self: Any) -> None:
            raise exception

        run = run_job(declare(app, refuse))
        assert run.error is not None
        assert (run.status, run.error.code) == (status, ErrorCode.REJECTED)

    def test_handlers_of_the_task_are_called(self, app: Celery) -> None:
        called: list[str] = []

        class Told(ProgressTask):
            abstract = True

            def on_retry(self, *_: Any) -> None:
                called.append("retry")

            def on_failure(self, *_: Any) -> None:
                called.append("failure")

        @app.task(base=Told, shared=False, name="told", autoretry_for=(KeyError,), max_retries=1)
        def told() -> None:
            raise KeyError

        run_job(told)
        assert called == ["retry", "failure"]

    def test_a_process_that_the_task_ends_is_lost(self, app: Celery) -> None:
        def leave(self: Any) -> None:
            raise SystemExit(1)

        run = run_job(declare(app, leave))
        assert run.error is not None
        assert (run.error.code, run.attempts) == (ErrorCode.POISON, 3)

    def test_what_is_kept_has_a_limit(self, app: Celery) -> None:
        def keep(self: Any) -> None:
            self.checkpoint("x" * 2_000)

        runtime = setup(app)
        runtime.settings = runtime.settings.model_copy(update={"checkpoint_bytes": 1_024})
        run = run_job(declare(app, keep))
        assert run.error is not None
        assert "AIJOBS_CHECKPOINT_BYTES allows 1,024" in run.error.message

    def test_attempts_do_not_share_what_a_crash_left(self, app: Celery) -> None:
        def write(self: Any) -> None:
            self.emit("a")
            with self.step("b"):
                self.emit("b")

        with crash_at("b"):
            assert run_job(declare(app, write)).output.text == "ab"
