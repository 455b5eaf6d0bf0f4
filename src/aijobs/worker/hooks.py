"""Where aijobs holds on to Celery in the process that runs tasks and in the one that sends them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from celery import Celery, current_task, signals, states
from kombu.exceptions import OperationalError

from aijobs._waiting import call_aside
from aijobs.errors import StoreUnavailable
from aijobs.job import ErrorCode, Job, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.values import Claim, Failure, NewJob
from aijobs.worker.attempts import close_attempt, flush_attempt
from aijobs.worker.backend import JobBackendMixin
from aijobs.worker.claims import DUE, REFUSED, TOKEN, claim_of, is_job
from aijobs.worker.defaults import default_priority
from aijobs.worker.exceptions import StartRefused
from aijobs.worker.messages import head_of, new_job
from aijobs.worker.patience import SHORT_PATIENCE_SECONDS, call_patiently, run_patiently
from aijobs.worker.task import ProgressTask

logger = logging.getLogger(__name__)


class Draft(Protocol):
    """A submission that takes a message over before it is published."""

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        """Makes the job's record and has the message published."""


#: Set while `submit()` has Celery build a message.
_drafting: ContextVar[Draft | None] = ContextVar("aijobs_draft", default=None)
#: What takes over where a context knows of none, as in the threads of a task that a test runs; the newest counts.
_standing: list[Draft] = []


def draft_here() -> Draft | None:
    """What takes over the messages of the running code; None when they are published."""
    draft = _drafting.get()
    return _standing[-1] if draft is None and _standing else draft


@contextlib.contextmanager
def handing_to(draft: Draft) -> Iterator[None]:
    """Has a draft take over what Celery publishes inside the `with` block."""
    token = _drafting.set(draft)
    try:
        yield
    finally:
        _drafting.reset(token)


@contextlib.contextmanager
def handing_all_to(draft: Draft) -> Iterator[None]:
    """The same for all threads of the process that hand to no other draft."""
    _standing.append(draft)
    try:
        with handing_to(draft):
            yield
    finally:
        _standing.remove(draft)


def record_publishes(app: Celery) -> None:
    """Has every task message of an app preceded by its job record, whoever sends it and however."""
    amqp: Any = app.amqp
    stock: list[Callable[..., Any]] = []

    def send(producer: Any, name: str, message: Any, **options: Any) -> Any:
        if not stock:
            stock.append(amqp._create_task_sender())
        draft = draft_here()
        is_known = draft is None and is_job(name) and _is_known(message)
        job = new_job(app, name, message, options) if draft or (is_job(name) and not is_known) else None
        if options.get("priority") is None:
            options["priority"] = default_priority(app)

        def publish() -> Any:
            return stock[0](producer, name, message, **options)

        if is_known:
            # Celery would give the job up, as rejected, when its retry cannot be sent at once.
            return call_patiently(publish, (OperationalError, *producer.connection.connection_errors))
        if job is None:
            return publish()
        return publish_recorded(app, job, publish) if draft is None else draft.send(job, options, publish)

    def send_task_message(*args: Any, **options: Any) -> Any:
        return call_aside(partial(send, *args, **options))

    amqp.send_task_message = send_task_message


def guard_tasks(app: Celery) -> None:
    """Gives every task of a worker our request class, and has it stop before it runs when its job is over already."""
    for task in app.tasks.values():
        if is_job(task.name):
            if task.Request == "celery.worker.request:Request":
                task.Request = "aijobs.worker.request:JobRequest"
            _guard(type(task))


def connect_signals() -> None:
    """Connects what only signals tell; connecting twice does nothing."""
    signals.task_prerun.connect(_before_run, dispatch_uid="aijobs.before_run", weak=False)
    signals.task_retry.connect(_on_retry, dispatch_uid="aijobs.on_retry", weak=False)
    signals.task_postrun.connect(_after_run, dispatch_uid="aijobs.after_run", weak=False)


def publish_recorded(app: Celery, job: NewJob, publish: Callable[[], Any]) -> Any:
    """Makes a job's record and publishes its message; without a store the message goes out all the same."""
    store = runtime_of(app).store
    try:
        before = store.run(store.create(job)).job
        if before is not None and before.finished:
            if _is_sent_again(job, before):
                return None
            store.run(store.create(job, reopen=True, result_key=result_key(app, job.id)))
    except StoreUnavailable as error:
        # The worker that starts the job makes the record then.
        logger.warning("Job %s is sent without a record: %s", job.id, error)
        return publish()
    try:
        return publish()
    except Exception as error:
        record_publish_failure(app, job.id, error)
        raise


def result_key(app: Celery, job_id: str) -> str:
    """Where in the store Celery's result of a job is; empty when it is elsewhere."""
    backend = app.backend
    return backend.result_key(job_id) if isinstance(backend, JobBackendMixin) else ""


def _is_sent_again(job: NewJob, before: Job) -> bool:
    """Whether a job that is executed once more, as its end was lost, sends what followed it already.

    That is the next link of its chain, for one: what that has come to, stands.
    """
    was_sent = before.error is None or before.error.code is not ErrorCode.PUBLISH_FAILED
    return was_sent and job.parent_id is not None and job.parent_id == before.parent_id


def record_publish_failure(app: Celery, job_id: str, error: BaseException) -> None:
    """Ends the record of a job whose message the broker did not take."""
    store = runtime_of(app).store
    try:
        store.run(store.finish(Claim(job_id), JobStatus.FAILED, failure=publish_failure(error)))
    except StoreUnavailable as also:
        logger.warning("Job %s stays queued though it was not sent: %s", job_id, also)


def publish_failure(error: BaseException) -> Failure:
    """Why a job that was never sent failed."""
    return Failure(ErrorCode.PUBLISH_FAILED, f"The broker did not take the message ({type(error).__name__}).")


def _is_known(message: Any) -> bool:
    """Whether a running task sends itself again: a retry, or a replacement under the same id.

    Its record exists, and the task's own report goes on with it; only the time it is due has to be remembered.
    """
    request = current_task.request if current_task else None
    head = head_of(message)
    if request is None or request.id != head["id"]:
        return False
    setattr(request, DUE, head.get("eta"))
    # Whoever takes the message may begin the next attempt before this one has ended.
    flush_attempt(getattr(request, TOKEN, ""))
    return True


def _guard(task_class: Any) -> None:
    stock = task_class.before_start
    if hasattr(stock, "__aijobs_guard__"):
        return

    def before_start(self: Any, task_id: str, args: Any, kwargs: Any) -> None:
        if getattr(self.request, REFUSED, False):
            raise StartRefused("The job is over already, or runs elsewhere.")
        stock(self, task_id, args, kwargs)

    before_start.__aijobs_guard__ = True  # type: ignore[attr-defined]
    task_class.before_start = before_start


def _before_run(sender: Any = None, task: Any = None, **_: Any) -> None:
    if not isinstance(task.backend, JobBackendMixin) or task.request.is_eager or not is_job(task.name):
        return
    if isinstance(task, ProgressTask):
        task.open_attempt()
    if (
        not task.track_started
        or task.request.ignore_result
        or (task.request.ignore_result is None and task.ignore_result)
    ):
        # Celery will not report this start.
        task.backend.record_start(task.request.id, task.request)


def _on_retry(sender: Any = None, request: Any = None, reason: Any = None, einfo: Any = None, **_: Any) -> None:
    ignores = request.ignore_result if request.ignore_result is not None else sender.ignore_result
    if ignores and not sender.store_errors_even_if_ignored and isinstance(sender.backend, JobBackendMixin):
        traceback = getattr(einfo, "traceback", None)
        sender.backend.record_only(request.id, reason.exc or reason, states.RETRY, traceback, request)


def _after_run(task: Any = None, **_: Any) -> None:
    # What ended without a result (Ignore, Reject) leaves its reporter open.
    last = close_attempt(getattr(task.request, TOKEN, ""))
    if not last.unwritten:
        return
    store, claim = runtime_of(task.app).store, claim_of(task.app, task.request.id, task.request)
    try:
        run_patiently(store, store.report(claim, last.progress, None, last.output), SHORT_PATIENCE_SECONDS)
    except StoreUnavailable as error:
        logger.warning("The last output of job %s is lost: %s", claim.job_id, error)
