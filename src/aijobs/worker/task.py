"""`ProgressTask`: the base class through which a task tells how far it has come."""

from __future__ import annotations

import contextlib
import logging
import operator
import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from typing import Any, TypeVar

from celery import Celery, Task

from aijobs.job import Progress
from aijobs.runtime import runtime_of
from aijobs.worker.arguments import FileOwner, adapt, dump_models
from aijobs.worker.claims import TOKEN, claim_of
from aijobs.worker.progress import Reporter, enter_job, open_reporter, reporter_of_helper

T = TypeVar("T")
logger = logging.getLogger(__name__)


class ProgressTask(Task):
    """A Celery task that reports progress and is exposed by `job_router`.

    Use it as the base of a task, with `bind=True` to have `self`:

        @celery_app.task(base=ProgressTask, bind=True)
        def embed(self, texts: list[str], model: str = "small") -> dict:
            for text in self.track(texts, unit="texts"):
                ...

    Reports are coalesced: a call costs about two microseconds, what is reported is written at most ten times a second
    (`AIJOBS_PROGRESS_INTERVAL_SECONDS`), the first report at once and the last one always. They may come from helper
    threads of the task. Outside a worker they do nothing, so a task stays a plain function to its unit tests.

    Annotated parameters arrive as what they are annotated with: a pydantic model, a `datetime`, an `Enum` is made from
    the JSON that travelled; a pydantic model that is returned becomes JSON.
    """

    abstract = True

    #: Whether `job_router` gives the task a route.
    expose: bool = True

    @classmethod
    def bind(cls, app: Celery) -> Any:
        """Connects the task to its app, which is set up with it."""
        from aijobs.attach import setup

        setup(app)
        adapt(cls)
        return super().bind(app)

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, *rest: Any, **options: Any
    ) -> Any:
        """Sends the task, as Celery's own does; pydantic models among the arguments travel as JSON.

        Uploaded files among them become the new job's: they are stored now, or copied from the job they belong to.

        Raises:
            StoreUnavailable: there are files, and the job store does not answer.
            FileGone: a file of another job is not there any more.
        """
        owner = FileOwner(self.app, task_id)
        args, kwargs = dump_models(args, owner), dump_models(kwargs, owner)
        return super().apply_async(args, kwargs, owner.job_id, *rest, **options)

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Reports how far the job has come.

        Args:
            current: units done so far.
            total: units in all; by default as reported before.
            message: a line for people; by default as reported before.

        Raises:
            ValueError: a number is negative, infinite or not a number.
            JobCancelled: somebody asked for the job to be cancelled.
        """
        if not all(0 <= number <= sys.float_info.max for number in (current, total or 0)):
            raise ValueError(f"progress() takes numbers from 0 up, not current={current!r}, total={total!r}.")
        reporter = self._reporter()
        if reporter is None:
            return
        before = reporter.latest
        reporter.report(
            Progress(
                current,
                before.total if total is None else total,
                before.unit,
                before.step,
                before.message if message is None else message,
            )
        )

    def track(
        self,
        iterable: Iterable[T],
        total: float | None = None,
        unit: str | None = None,
        description: str | None = None,
    ) -> Iterator[T]:
        """Yields the items of an iterable and reports each as done when the next one is asked for.

        Args:
            iterable: what to go through.
            total: how many items there are; by default `len(iterable)` when it has one.
            unit: what an item is called, such as "documents".
            description: a line for people.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
        """
        if total is None:
            total = len(iterable) if isinstance(iterable, Sized) else operator.length_hint(iterable, 0) or None
        self._begin(total, unit, description)
        for done, item in enumerate(iterable, 1):
            yield item
            self.progress(done, total)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Names what the job does inside the `with` block; counting begins anew in it.

        Args:
            name: of the step, such as "embed".

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
        """
        reporter = self._reporter()
        if reporter is None:
            yield
            return
        outer = reporter.latest
        reporter.report(Progress(step=name))
        yield
        reporter.report(replace(reporter.latest, step=outer.step))

    def _begin(self, total: float | None, unit: str | None, description: str | None) -> None:
        reporter = self._reporter()
        if reporter is not None:
            reporter.report(replace(reporter.latest, current=0, total=total, unit=unit, message=description))

    def _reporter(self) -> Reporter | None:
        request = self.request_stack.top
        if request is None:
            return reporter_of_helper()
        try:
            found: Reporter | None = request.aijobs_reporter
        except AttributeError:
            found = None
        return found

    def open_reports(self) -> None:
        """Called by the worker before the task runs."""
        request = self.request_stack.top
        token = getattr(request, TOKEN, "")
        if not token:
            return
        runtime = runtime_of(self.app)
        claim = claim_of(self.app, request.id, request)
        request.aijobs_reporter = open_reporter(runtime.store, claim, runtime.settings.progress_interval_seconds)
        enter_job(token)
