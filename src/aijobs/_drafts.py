"""How a submission reaches store and broker: in one step where they are one server, else the record first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

from celery import Celery, Task

from aijobs.broker.outbox import Outbox, can_push
from aijobs.errors import PublishFailed
from aijobs.job import Job
from aijobs.runtime import Runtime
from aijobs.store.base import Operation
from aijobs.store.values import CreateReply, Creation, Message, NewJob
from aijobs.worker.hooks import Draft, draft_here, handing_to, record_publish_failure, result_key
from aijobs.worker.resending import send_again
from aijobs.worker.stencil import draw, stencil_of


class _NotPushable(Exception):
    """The message is routed in a way that a list push cannot stand for."""


class _PushDraft:
    """Takes record and message, to be written in one step."""

    def __init__(self) -> None:
        self.job: NewJob | None = None

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        if not can_push(options):
            raise _NotPushable
        self.job = job
        return publish()


class _RecordedDraft:
    """Makes the record, then publishes, to a broker that is not the store's server."""

    def __init__(self, runtime: Runtime, request: Sending) -> None:
        self.runtime = runtime
        self.request = request
        self.reply: CreateReply | None = None

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        self.reply = self.runtime.store.run(creation(self.runtime, self.request, job))
        if self.reply.outcome is not Creation.CREATED:
            return None
        try:
            return publish()
        except Exception as error:
            record_publish_failure(self.runtime.app, job.id, error)
            raise PublishFailed(job.id, type(error).__name__) from error


class Sending(Protocol):
    """Something that Celery can be made to publish."""

    @property
    def known(self) -> Mapping[str, Any]:
        """Fields of the record that only the caller knows."""

    @property
    def at_rev(self) -> int | None:
        """The revision of the finished job that is to run anew; None for a new job."""

    def send(self, draft: Draft, **options: Any) -> None:
        """Has Celery publish the message, through a draft."""


@dataclass(frozen=True, slots=True)
class AnotherRun:
    """A finished job that is to run anew."""

    app: Celery
    job: Job
    known: Mapping[str, Any]

    @property
    def at_rev(self) -> int | None:
        """Where the job is now."""
        return self.job.rev

    def send(self, draft: Draft, **options: Any) -> None:
        """Has Celery publish the message, through a draft."""
        send_again(self.app, self.job, draft, anew=True, **options)


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a caller wants to have run."""

    task: Task[Any, Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    known: Mapping[str, Any]
    at_rev: int | None = None

    @property
    def is_eager(self) -> bool:
        """Whether the app runs its tasks in the caller's process, as tests do."""
        return bool(self.task.app.conf.task_always_eager)

    def send(self, draft: Draft, **options: Any) -> None:
        """Has Celery publish the message, through a draft."""
        with handing_to(draft):
            self.task.apply_async(tuple(self.args), dict(self.kwargs), **{**self.options, **options})


@runtime_checkable
class Catching(Protocol):
    """Takes over what is submitted, as in a test: nothing is recorded or sent."""

    def catch(self, request: NewRun) -> CreateReply:
        """Stands in for store and broker."""


def caught(request: NewRun) -> CreateReply | None:
    """What the one who takes submissions over says to it; None when there is nobody."""
    draft = draft_here()
    return draft.catch(request) if draft is not None and isinstance(draft, Catching) else None


def submit_drafted(runtime: Runtime, request: Sending) -> CreateReply:
    """Makes record and message, and waits for both."""
    drafted = _draft_push(runtime, request)
    if drafted is None:
        return send_recorded(runtime, request)
    return runtime.store.run(creation(runtime, request, *drafted))


def creation(runtime: Runtime, request: Sending, job: NewJob, message: Message | None = None) -> Operation[CreateReply]:
    """What makes the record of a drafted job, and pushes its message if there is one."""
    new, at_rev = replace(job, **request.known), request.at_rev
    if at_rev is None:
        return runtime.store.create(new, message)
    return runtime.store.create(new, message, reopen=True, at_rev=at_rev, result_key=result_key(runtime.app, new.id))


def draft_quickly(runtime: Runtime, request: NewRun) -> tuple[NewJob, Message] | None:
    """As `_draft_push`, without Celery where the task's messages differ in nothing but id and arguments."""
    if request.options.keys() != {"task_id"}:
        return _draft_push(runtime, request)
    stencil = stencil_of(runtime, request.task)
    if stencil is not None:
        return stencil.fill(request.options["task_id"], request.args, request.kwargs)
    drafted = _draft_push(runtime, request)
    if drafted is not None:
        draw(runtime, request.task, request.args, request.kwargs, drafted)
    return drafted


def _draft_push(runtime: Runtime, request: Sending) -> tuple[NewJob, Message] | None:
    """Record and message of a job, for one step; None when they have to be written one after the other."""
    outbox = Outbox.of(runtime)
    if outbox is None:
        return None
    draft = _PushDraft()
    try:
        # What is kept is not sent, so there is nothing to try again, and no queue to declare.
        request.send(draft, producer=outbox.producer, retry=False, declare=())
    except _NotPushable:
        return None
    return cast(NewJob, draft.job), outbox.take()


def send_recorded(runtime: Runtime, request: Sending) -> CreateReply:
    """Makes the record, then has Celery publish the message.

    Raises:
        PublishFailed: the broker did not take it; the record says so.
    """
    draft = _RecordedDraft(runtime, request)
    request.send(draft)
    return cast(CreateReply, draft.reply)
