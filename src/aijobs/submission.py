"""Submitting and cancelling jobs: the record first, then the message, in one step where they live on one server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from celery import Celery, Task, states
from celery.exceptions import TaskRevokedError

from aijobs.attach import setup
from aijobs.errors import IdempotencyConflict, JobNotFound, PublishFailed
from aijobs.job import Job
from aijobs.runtime import Runtime
from aijobs.store.base import Change, CreateReply, Creation, Idempotency, Message, NewJob, ResultWrite
from aijobs.worker.backend import JobBackendMixin
from aijobs.worker.hooks import Draft, drafting, record_publish_failure
from aijobs.worker.outbox import Outbox, can_push
from aijobs.worker.outcome import encode_json

#: How long the broker may take for a message when it is not the store's own server, seconds.
PUBLISH_SECONDS = 0.8


def submit(
    task: Task[Any, Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    owner: str | None = None,
    metadata: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    **options: Any,
) -> Job:
    """Submits a job from synchronous code; `await submit_async(…)` is the same for an event loop.

    Args:
        task: a registered task of an app that `setup()` knows.
        args: positional arguments.
        kwargs: keyword arguments.
        owner: whom the job belongs to.
        metadata: kept with the job, for the caller's own use.
        idempotency_key: the same key gives the same job, within one owner and task.
        **options: as for Celery's `apply_async`: `queue`, `countdown`, `eta`, `priority`, …

    Returns:
        The new job, or the first one of the idempotency key.

    Raises:
        StoreUnavailable: the job store does not answer; nothing was submitted.
        PublishFailed: the broker did not take the message; the record says so.
        IdempotencyConflict: the key was used before with other arguments.
    """
    runtime = setup(task.app)
    idempotency = None
    if idempotency_key is not None:
        content = encode_json([list(args), dict(kwargs or {})])
        scope = f"{owner or ''} {task.name}"
        idempotency = Idempotency(scope, idempotency_key, hashlib.sha256(content).hexdigest())
    known = {"owner": owner, "metadata": metadata or {}, "idempotency": idempotency}
    send = partial(_apply, task, args, kwargs or {}, options)
    drafted = _draft_push(runtime, send, known)
    if drafted is None:
        reply = _send_recorded(runtime, send, known)
    else:
        reply = runtime.store.run(runtime.store.create(*drafted))
    if reply.job is None:
        raise IdempotencyConflict(f"The idempotency key {idempotency_key!r} was used with other arguments.")
    return reply.job


async def submit_async(
    runtime: Runtime,
    task_name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    owner: str | None = None,
    batch_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    idempotency: Idempotency | None = None,
) -> CreateReply:
    """Submits a job without blocking the event loop.

    Raises:
        StoreUnavailable: the job store does not answer; nothing was submitted.
        PublishFailed: the broker did not take the message in time; the record says so.
    """
    known = {"owner": owner, "batch_id": batch_id, "metadata": metadata or {}, "idempotency": idempotency}
    send = partial(_apply, runtime.app.tasks[task_name], args, kwargs, {})
    drafted = _draft_push(runtime, send, known)
    if drafted is not None:
        return await runtime.store.run_async(runtime.store.create(*drafted))
    sent = asyncio.to_thread(_send_recorded, runtime, send, known)
    try:
        return await asyncio.wait_for(sent, PUBLISH_SECONDS)
    except TimeoutError:
        raise PublishFailed("", "no answer in time") from None


def cancel(app: Celery, job_id: str) -> Change:
    """Cancels a job: a queued one is revoked at once, a running one is asked to stop at its next progress call.

    Raises:
        JobNotFound: no record has this id.
        StoreUnavailable: the job store does not answer.
    """
    runtime = setup(app)
    change = runtime.store.run(runtime.store.cancel(job_id, _revoked_result(runtime, job_id)))
    if change.status is None:
        raise JobNotFound(job_id)
    return change


async def cancel_async(runtime: Runtime, job_id: str) -> Change | None:
    """As `cancel`, without blocking the event loop; None when no record has this id."""
    change = await runtime.store.run_async(runtime.store.cancel(job_id, _revoked_result(runtime, job_id)))
    return None if change.status is None else change


class _NotPushable(Exception):
    """The message is routed in a way that a list push cannot stand for."""


class _PushDraft:
    """Takes record and message, to be written in one step."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = known
        self.job: NewJob | None = None

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        if not can_push(options):
            raise _NotPushable
        self.job = replace(job, **self.known)
        return publish()


class _RecordedDraft:
    """Makes the record, then publishes, to a broker that is not the store's server."""

    def __init__(self, runtime: Runtime, known: Mapping[str, Any]) -> None:
        self.runtime = runtime
        self.known = known
        self.reply: CreateReply | None = None

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        store = self.runtime.store
        self.reply = store.run(store.create(replace(job, **self.known)))
        if self.reply.outcome is not Creation.CREATED:
            return None
        try:
            return publish()
        except Exception as error:
            record_publish_failure(self.runtime.app, job.id, error)
            raise PublishFailed(job.id, type(error).__name__) from error


def _draft_push(runtime: Runtime, send: Callable[..., Any], known: Mapping[str, Any]) -> tuple[NewJob, Message] | None:
    """Record and message of a job, for one step; None when they have to be written one after the other."""
    outbox = Outbox.of(runtime)
    if outbox is None:
        return None
    draft = _PushDraft(known)
    try:
        # What is kept is not sent, so there is nothing to try again, and no queue to declare.
        _with_draft(draft, send, producer=outbox.producer, retry=False, declare=())
    except _NotPushable:
        return None
    return cast(NewJob, draft.job), outbox.take()


def _send_recorded(runtime: Runtime, send: Callable[..., Any], known: Mapping[str, Any]) -> CreateReply:
    draft = _RecordedDraft(runtime, known)
    _with_draft(draft, send)
    return cast(CreateReply, draft.reply)


def _with_draft(draft: Draft, send: Callable[..., Any], **options: Any) -> None:
    token = drafting.set(draft)
    try:
        send(**options)
    finally:
        drafting.reset(token)


def _apply(
    task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any], given: Mapping[str, Any], **options: Any
) -> None:
    task.apply_async(tuple(args), dict(kwargs), **{**given, **options})


def _revoked_result(runtime: Runtime, job_id: str) -> ResultWrite | None:
    """What Celery's own result of a job revoked while queued is, for those who wait on its AsyncResult."""
    backend = runtime.app.backend
    if not isinstance(backend, JobBackendMixin):
        return None
    revoked = backend.encode_result(TaskRevokedError("revoked"), states.REVOKED)
    return backend.result_write(job_id, revoked, states.REVOKED, None, None)
