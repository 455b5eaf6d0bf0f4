"""`ProgressTask`: the base class through which a task tells how far it has come, what it makes, and what to keep."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from aijobs.runtime import runtime_of
from aijobs.worker.arguments import FileOwner, adapt, dump_models
from aijobs.worker.attempt import Attempt
from aijobs.worker.attempts import attempt_of_helper, enter_job, open_attempt
from aijobs.worker.claims import ATTEMPT, TOKEN, claim_of
from aijobs.worker.coroutines import is_coroutine_task
from aijobs.worker.emitting import Emitting
from aijobs.worker.reporting import Reporting
from aijobs.worker.resuming import Resuming
from aijobs.worker.retrying import Retrying, settle_exceptions
from aijobs.worker.stacks import keep_request_by_context


class ProgressTask(Reporting, Emitting, Resuming, Retrying, Task):
    """A Celery task that reports progress, gives out what it makes, resumes, and is exposed by `job_router`.

    Use it as the base of a task, with `bind=True` to have `self`:

        @celery_app.task(base=ProgressTask, bind=True)
        def embed(self, texts: list[str], model: str = "small") -> dict:
            for text in self.track(texts, unit="texts"):
                ...

    - `progress`, `track` and `step` report how far it has come;
    - `emit`, `stream` and `log` give out tokens, data and lines for people while it runs;
    - `run_step`, `checkpoint`, `resume` and `track(…, resume=True)` have the next attempt go on where this one ended.

    Reports are coalesced: a call costs about two microseconds, what is reported is written at most ten times a second
    (`AIJOBS_PROGRESS_INTERVAL_SECONDS`), what is given out twenty times (`AIJOBS_OUTPUT_INTERVAL_SECONDS`), the first
    of it at once and the last always. Both may come from helper threads and child tasks of the task. What is to be
    kept is in the store when the call returns. Outside a worker nothing is written, so a task stays a plain function
    to its unit tests.

    A task may be an `async def`. Annotated parameters arrive as what they are annotated with: a pydantic model, a
    `datetime`, an `Enum` is made from the JSON that travelled; what is returned becomes JSON, models included.

    What providers say is obeyed: see `obey_providers`, `retry_transient` and `patience`.
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
        settle_exceptions(cls, app)
        bound = super().bind(app)
        if is_coroutine_task(cls):
            keep_request_by_context(cls)
        return bound

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

    def _attempt(self) -> Attempt | None:
        request = self.request_stack.top
        if request is None:
            return attempt_of_helper()
        found: Attempt | None = getattr(request, ATTEMPT, None)
        return found

    def open_attempt(self) -> None:
        """Called by the worker before the task runs."""
        request = self.request_stack.top
        token = getattr(request, TOKEN, "")
        if not token:
            return
        runtime, claim = runtime_of(self.app), claim_of(self.app, request.id, request)
        setattr(request, ATTEMPT, open_attempt(runtime.store, claim, runtime.settings))
        enter_job(token)
