"""`ProgressTask` as its author sees it: a plain function outside a worker, a reporter inside one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from aijobs import Job, Progress, ProgressTask
from aijobs.runtime import runtime_of
from aijobs.store.values import JobFilter, NewJob
from aijobs.worker.attempts import attempt_of_helper, close_attempt
from aijobs.worker.claims import TOKEN
from tests.helpers import claim, new_job


class Page(BaseModel):
    number: int
    when: datetime | None = None


@pytest.fixture
def app(redis_url: str) -> Celery:
    return Celery("tasks", broker=redis_url, backend=redis_url, set_as_current=False)


@pytest.fixture
def task(app: Celery) -> Any:
    @app.task(base=ProgressTask, bind=True, shared=False, name="embed")
    def embed(self: Any, texts: list[str], page: Page | None = None) -> Any:
        """What the task gives back is what it was given."""
        for text in self.track(texts, unit="texts"):
            with self.step("look"):
                self.progress(len(text), 10, "looking")
        return page

    app.finalize()
    return app.tasks["embed"]


class TestOutsideAWorker:
    def test_a_task_is_a_plain_function(self, task: Any) -> None:
        assert task(["a", "b"], Page(number=1)) == {"number": 1, "when": None}
        assert task(["a", "b"], {"number": 1}) == {"number": 1, "when": None}

    def test_it_can_be_applied_eagerly(self, task: Any) -> None:
        assert task.apply((["a"],), {"page": {"number": 2}}).get() == {"number": 2, "when": None}

    def test_reports_do_nothing(self, task: Any) -> None:
        assert list(task.track(iter("ab"))) == ["a", "b"]
        with task.step("embed"):
            task.progress(1)

    @pytest.mark.parametrize("current", [-1, math.nan, math.inf])
    def test_numbers_that_mean_nothing_are_refused(self, task: Any, current: float) -> None:
        with pytest.raises(ValueError, match="progress\\(\\) takes numbers from 0 up, not current="):
            task.progress(current)

    @pytest.mark.parametrize("total", [-1, math.nan, math.inf])
    def test_totals_that_mean_nothing_are_refused(self, task: Any, total: float) -> None:
        with pytest.raises(ValueError, match="takes numbers from 0 up"):
            task.progress(1, total)
        with pytest.raises(ValueError, match="track\\(\\) takes a total from 0 up, not"):
            list(task.track("ab", total))


class TestInsideAWorker:
    @pytest.fixture
    def new(self, task: Any) -> Iterator[NewJob]:
        """A job whose task runs in this process, as a worker would have it."""
        store = runtime_of(task.app).store
        new = new_job(task="embed")
        store.run(store.create(new))
        task.push_request(id=new.id, task="embed", **{TOKEN: "token"})
        task.open_attempt()
        yield new
        task.pop_request()
        close_attempt("token")

    def job(self, task: Any, new: NewJob) -> Job:
        store = runtime_of(task.app).store
        # The last word is written with the job's end.
        store.run(store.report(claim(new, "token"), close_attempt("token").progress))
        job = store.run(store.get(new.id))
        assert job is not None
        return job

    def test_progress_keeps_what_is_not_said_anew(self, task: Any, new: NewJob) -> None:
        task.progress(1, 4, "first")
        task.progress(2)
        job = self.job(task, new)
        assert job.progress == 0.5
        assert job.progress_detail is not None
        assert (job.progress_detail.total, job.progress_detail.message) == (4, "first")

    def test_decimals_count_as_numbers(self, task: Any, new: NewJob) -> None:
        task.progress(Decimal(1), Decimal(4))
        task.progress(Decimal(2), Decimal(4))
        job = self.job(task, new)
        assert job.progress == 0.5
        assert job.progress_detail is not None
        assert (job.progress_detail.current, job.progress_detail.total) == (2, 4)

    @pytest.mark.parametrize(("items", "total"), [([1, 2, 3], 3), (iter([1, 2, 3]), 3), ((n for n in "abc"), None)])
    def test_tracking_counts_what_is_done(self, task: Any, new: NewJob, items: Any, total: int | None) -> None:
        assert len(list(task.track(items, unit="texts", description="going on"))) == 3
        detail = self.job(task, new).progress_detail
        assert detail is not None
        assert (detail.current, detail.total, detail.unit, detail.message) == (3, total, "texts", "going on")

    def test_an_item_is_done_when_the_next_is_asked_for(self, task: Any, new: NewJob) -> None:
        for item in task.track([1, 2, 3, 4]):
            if item == 3:
                break
        assert self.job(task, new).progress == 0.5

    def test_a_step_has_a_name_and_counts_anew(self, task: Any, new: NewJob) -> None:
        task.progress(9, 10)
        with task.step("embed"):
            assert self.latest() == Progress(step="embed")
            with task.step("retry"):
                assert self.latest() == Progress(step="retry")
            assert self.latest().step == "embed"
        assert self.latest().step is None

    def latest(self) -> Progress:
        attempt = attempt_of_helper()
        assert attempt is not None
        return attempt.latest


def test_models_travel_as_json(task: Any, app: Celery) -> None:
    task.apply_async(([],), {"page": Page(number=3)})
    (job,) = runtime_of(app).store.run(runtime_of(app).store.list(JobFilter(), 10)).jobs
    assert job.arguments_json == '[[[]], {"page": {"number": 3, "when": null}}]'
