"""What becomes of exceptions that leave a `ProgressTask`, as far as it can be told without a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery, Task
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, SoftTimeLimitExceeded

from aijobs import LLM_CALL, ConfigurationError, ProgressTask
from aijobs.testing import rate_limited, run_job, scripted
from aijobs.worker.exceptions import JobCancelled


class Refused(Exception):
    """A provider's no."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status


class NotMine(Exception):
    """Of the task itself."""


@pytest.fixture
def app(redis_url: str) -> Celery:
    return Celery("retrying", broker=redis_url, backend=redis_url, set_as_current=False)


Runs = Callable[..., int]


@pytest.fixture
def runs(app: Celery) -> Runs:
    """How often a task runs that raises an exception each time; executed in place, so nobody waits."""
    count = 0

    def of(error: Exception, **options: Any) -> int:
        nonlocal count
        count += 1
        seen = 0

        @app.task(shared=False, name=f"task-{count}", **{"base": ProgressTask, "max_retries": 2, **options})
        def work() -> None:
            nonlocal seen
            seen += 1
            raise error

        app.finalize()
        result = app.tasks[f"task-{count}"].apply()
        assert result.result is error or isinstance(error, Ignore | Reject)
        return seen

    return of


def test_what_nothing_asks_to_retry_is_not_retried(runs: Runs) -> None:
    assert runs(NotMine()) == runs(ConnectionError()) == runs(Refused(500)) == 1


def test_what_is_named_is_retried(runs: Runs) -> None:
    assert runs(NotMine(), autoretry_for=(NotMine,)) == 3
    assert runs(NotMine(), autoretry_for=(NotMine,), max_retries=4) == 5
    assert runs(NotMine(), autoretry_for=(NotMine,), retry_kwargs={"max_retries": 1}) == 2
    assert runs(NotMine(), autoretry_for=(NotMine,), retry_backoff=True, retry_jitter=False) == 3
    assert runs(NotMine(), autoretry_for=[Exception], dont_autoretry_for=[NotMine]) == 1
    assert runs(SoftTimeLimitExceeded(), autoretry_for=(Exception,)) == 3


def test_a_plain_task_is_left_to_celery(runs: Runs) -> None:
    assert runs(Refused(401), base=Task, autoretry_for=(Refused,)) == 3


def test_what_is_fatal_is_not_retried_whatever_is_named(runs: Runs) -> None:
    assert runs(Refused(401), autoretry_for=(Exception,)) == 1
    assert runs(Refused(401), autoretry_for=(Exception,), obey_providers=False) == 3
    assert runs(Refused(401), **LLM_CALL.but(max_retries=2).options()) == 1


def test_what_is_transient_is_retried_where_that_is_on(runs: Runs) -> None:
    options = LLM_CALL.but(max_retries=2).options()
    assert runs(Refused(500), **options) == runs(ConnectionError(), **options) == 3
    assert runs(Refused(500), **options, dont_autoretry_for=(Refused,)) == 1
    assert runs(NotMine(), **options) == 1


def test_executed_in_place_a_rate_limit_is_like_any_failure(runs: Runs) -> None:
    assert runs(Refused(429)) == 1
    assert runs(Refused(429), retry_transient=True) == 3


@pytest.mark.parametrize("error", [JobCancelled(), Ignore(), Reject()])
def test_what_is_celerys_own_passes_by(runs: Runs, error: Exception) -> None:
    assert runs(error, autoretry_for=(Exception,), retry_transient=True) == 1


def test_the_cancel_of_a_job_is_nothing_to_retry_though_a_client_took_it_for_a_lost_connection(runs: Runs) -> None:
    error = ConnectionError()
    error.__cause__ = JobCancelled()
    assert runs(error, autoretry_for=(ConnectionError,), retry_transient=True) == 1


def test_a_time_limit_is_no_lost_connection_though_a_client_took_it_for_one(runs: Runs) -> None:
    error = Refused(500)
    error.__cause__ = SoftTimeLimitExceeded()
    assert runs(error, retry_transient=True) == 1
    assert runs(error, autoretry_for=(Refused,)) == 3


class TestByHand:
    def test_a_retry_is_made_once(self, app: Celery) -> None:
        seen: list[int] = []

        @app.task(base=ProgressTask, bind=True, shared=False, name="work", max_retries=1, retry_transient=True)
        def work(self: Any) -> None:
            seen.append(self.request.retries)
            try:
                raise Refused(500)
            except Refused as error:
                raise self.retry(exc=error) from error

        app.finalize()
        assert isinstance(app.tasks["work"].apply().result, Refused)
        assert seen == [0, 1]

    def test_without_an_exception_it_says_that_no_retry_is_left(self, app: Celery) -> None:
        @app.task(base=ProgressTask, bind=True, shared=False, name="work", max_retries=0, autoretry_for=(Exception,))
        def work(self: Any) -> None:
            self.retry()

        app.finalize()
        assert isinstance(app.tasks["work"].apply().result, MaxRetriesExceededError)


class TestOutsideAWorker:
    def test_an_exception_stays_what_it_is(self, app: Celery) -> None:
        @app.task(base=ProgressTask, shared=False, name="work", **LLM_CALL.options())
        def work(status: int) -> None:
            raise Refused(status)

        app.finalize()
        for status in (401, 429, 500):
            with pytest.raises(Refused):
                app.tasks["work"](status)

    def test_a_task_may_call_another_ones_function(self, app: Celery) -> None:
        @app.task(base=ProgressTask, shared=False, name="inner", autoretry_for=(NotMine,))
        def inner() -> None:
            raise NotMine

        @app.task(base=ProgressTask, shared=False, name="outer")
        def outer() -> str:
            for call in (app.tasks["inner"], app.tasks["inner"].run):
                with pytest.raises(NotMine):
                    call()
            return "caught"

        app.finalize()
        assert app.tasks["outer"].apply().get() == "caught"


def test_what_fails_when_all_patience_is_used_up_is_no_rate_limit(app: Celery) -> None:
    ask = scripted(rate_limited(retry_after=4), ConnectionError("lost"), "42")

    @app.task(base=ProgressTask, shared=False, name="work", patience=4, autoretry_for=(ConnectionError,))
    def work() -> Any:
        return ask()

    app.finalize()
    run = run_job(app.tasks["work"])
    assert run.assert_success() == "42"
    assert run.waits[0] == 4, "not longer than the patience lasts"


@pytest.mark.parametrize("patience", [None, -1, "3600", float("nan")])
def test_a_patience_that_is_none_is_refused(app: Celery, patience: Any) -> None:
    with pytest.raises(ConfigurationError, match="The task 'work': patience must be a number of seconds from 0 up"):

        @app.task(base=ProgressTask, shared=False, name="work", lazy=False, patience=patience)
        def work() -> None: ...


class TestTasksAsClasses:
    def test_are_decided_upon_too(self, app: Celery) -> None:
        class Base(ProgressTask):
            abstract = True
            autoretry_for = (Exception,)
            max_retries = 2
            seen = 0

            def run(self, error: Exception) -> None:
                self.seen += 1
                raise error

        class Work(Base):
            name = "work"

        work: Any = app.register_task(Work())
        work.apply((Refused(401),))
        assert work.seen == 1
        work.apply((NotMine(),))
        assert work.seen == 4

    def test_may_inherit_a_coroutine(self, app: Celery) -> None:
        class Base(ProgressTask):
            abstract = True

            async def run(self, number: int) -> int:
                return number + 1

        class Work(Base):
            name = "work"

        assert app.register_task(Work()).apply((41,)).get() == 42

    def test_are_wrapped_once_however_often_they_are_bound(self, app: Celery) -> None:
        @app.task(base=ProgressTask, shared=False, name="work")
        def work() -> None: ...

        app.finalize()
        before = type(app.tasks["work"]).__dict__["run"]
        app.tasks["work"].bind(app)
        assert type(app.tasks["work"]).__dict__["run"] is before
