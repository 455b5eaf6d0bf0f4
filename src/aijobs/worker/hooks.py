"""Where aijobs holds on to Celery in the process that runs tasks and in the one that sends them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

from celery import Celery, current_task, signals, states
from celery.exceptions import Ignore
from kombu.utils.json import dumps

from aijobs.errors import StoreUnavailable
from aijobs.job import ErrorCode, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.base import Claim, Failure, NewJob
from aijobs.worker.backend import JobBackendMixin
from aijobs.worker.claims import DUE, REFUSED, TOKEN, is_job, max_attempts
from aijobs.worker.defaults import default_priority
from aijobs.worker.progress import close_reporter
from aijobs.worker.task import ProgressTask

logger = logging.getLogger(__name__)


class Draft(Protocol):
    """A submission that takes a message over before it is published."""

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        """Makes the job's record and has the message published."""


#: Set while `submit()` has Celery build a message.
drafting: ContextVar[Draft | None] = ContextVar("aijobs_draft", default=None)


def record_publishes(app: Celery) -> None:
    """Has every task message of an app preceded by its job record, whoever sends it and however."""
    amqp: Any = app.amqp
    stock: list[Callable[..., Any]] = []

    def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
        if not stock:
            stock.append(amqp._create_task_sender())
        if options.get("priority") is None:
            options["priority"] = default_priority(app)

        def publish() -> Any:
            return stock[0](producer, name, message, **options)

        draft = drafting.get()
        if draft is not None:
            return draft.send(new_job(app, name, message, queue_name(app, options)), options, publish)
        if not is_job(name) or _is_known(message):
            return publish()
        return publish_recorded(app, new_job(app, name, message, queue_name(app, options)), publish)

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


def new_job(app: Celery, name: str, message: Any, queue: str) -> NewJob:
    """What a task message says of its job."""
    head = _head(message)
    # Protocol 1 has a mapping as its body, protocol 2 a sequence.
    args, kwargs = (head["args"], head["kwargs"]) if head is message.body else message.body[:2]
    return NewJob(
        id=head["id"],
        task=name,
        queue=queue,
        max_attempts=max_attempts(app, name),
        scheduled_at=_read_time(head.get("eta")),
        arguments_json=_encode_arguments(args, kwargs, runtime_of(app).settings.arguments_bytes),
    )


def queue_name(app: Celery, options: dict[str, Any]) -> str:
    """The queue that a message goes to, as far as its options tell."""
    queue = options.get("queue") or options.get("routing_key") or app.conf.task_default_queue
    return str(getattr(queue, "name", queue))


def publish_recorded(app: Celery, job: NewJob, publish: Callable[[], Any]) -> Any:
    """Makes a job's record and publishes its message; without a store the message goes out all the same."""
    store = runtime_of(app).store
    try:
        store.run(store.create(job, reopen=True))
    except StoreUnavailable as error:
        # The worker that starts the job makes the record then.
        logger.warning("Job %s is sent without a record: %s", job.id, error)
        return publish()
    try:
        return publish()
    except Exception as error:
        record_publish_failure(app, job.id, error)
        raise


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


def _head(message: Any) -> Mapping[str, Any]:
    """Where a message says what it is: in its headers, or in its body when it speaks Celery's task protocol 1."""
    head: Mapping[str, Any] = message.headers if "id" in message.headers else message.body
    return head


def _is_known(message: Any) -> bool:
    """Whether a running task sends itself again: a retry, or a replacement under the same id.

    Its record exists, and the task's own report goes on with it; only the time it is due has to be remembered.
    """
    request = current_task.request if current_task else None
    head = _head(message)
    if request is None or request.id != head["id"]:
        return False
    setattr(request, DUE, head.get("eta"))
    return True


def _guard(task_class: Any) -> None:
    stock = task_class.before_start
    if hasattr(stock, "__aijobs_guard__"):
        return

    def before_start(self: Any, task_id: str, args: Any, kwargs: Any) -> None:
        if getattr(self.request, REFUSED, False):
            raise Ignore("The job is over already.")
        stock(self, task_id, args, kwargs)

    before_start.__aijobs_guard__ = True  # type: ignore[attr-defined]
    task_class.before_start = before_start


def _before_run(sender: Any = None, task: Any = None, **_: Any) -> None:
    if not isinstance(task.backend, JobBackendMixin) or task.request.is_eager:
        return
    if isinstance(task, ProgressTask):
        task.open_reports()
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
    close_reporter(getattr(task.request, TOKEN, ""))


def _encode_arguments(args: Any, kwargs: Any, limit: int) -> str | None:
    try:
        text = str(dumps([args, kwargs]))
    except (TypeError, ValueError, LookupError):
        return None
    return text if len(text) <= limit else None


def _read_time(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
