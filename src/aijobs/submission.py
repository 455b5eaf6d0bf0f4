"""Submitting jobs: the record first, then the message, in one step where they live on one server."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from celery import Task, uuid

from aijobs._drafts import AnotherRun, NewRun, caught, creation, draft_quickly, send_recorded, submit_drafted
from aijobs.attach import setup
from aijobs.errors import ArgumentsGone, FirstJobGone, IdempotencyConflict, PublishFailed
from aijobs.job import Job, JobStatus, Webhook
from aijobs.runtime import Runtime
from aijobs.store.values import Claim, CreateReply, Creation, Idempotency, NewJob
from aijobs.webhooks.config import check_webhook
from aijobs.worker.claims import new_token
from aijobs.worker.outcome import describe_failure, encode_json

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
    webhook: Webhook | None = None,
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
        webhook: who is told of the job's events, instead of the app's own webhook.
        **options: as for Celery's `apply_async`: `queue`, `countdown`, `eta`, `priority`, …

    Returns:
        The new job, or the first one of the idempotency key.

    Raises:
        StoreUnavailable: the job store does not answer; nothing was submitted.
        PublishFailed: the broker did not take the message; the record says so.
        IdempotencyConflict: the key was used before with other arguments.
        FirstJobGone: the key was used before for a job that is no longer kept.
        TypeError: `task` is no task.
        ValueError: the owner is empty.
        InvalidWebhook: the webhook's address is not allowed.
        ConfigurationError: there is a webhook, but no secret to sign with.
    """
    if not isinstance(task, Task):
        raise TypeError(f"submit() takes a task, as @app.task returns it, not {task!r}.")
    if owner == "":
        raise ValueError("submit(owner=…) takes a name, or None for a job of nobody.")
    runtime = setup(task.app)
    idempotency = None
    if idempotency_key is not None:
        content = encode_json([list(args), dict(kwargs or {})])
        scope = repr((owner, task.name))
        idempotency = Idempotency(scope, idempotency_key, hashlib.sha256(content).hexdigest())
    if webhook is not None:
        check_webhook(runtime.settings, webhook)
    known = {"owner": owner, "metadata": metadata or {}, "webhook": webhook, "idempotency": idempotency}
    request = NewRun(task, args, kwargs or {}, {"task_id": uuid(), **options}, known)
    reply = caught(request)
    if reply is None:
        reply = _run_eagerly(runtime, request) if request.is_eager else submit_drafted(runtime, request)
    return first_or_new(reply)


def first_or_new(reply: CreateReply) -> Job:
    """The job of a submission.

    Raises:
        IdempotencyConflict: its key was used with other content.
        FirstJobGone: its key was used for a job that is no longer kept.
    """
    if reply.outcome is Creation.GONE:
        raise FirstJobGone("The idempotency key was used for a job that is no longer kept.")
    if reply.job is None:
        raise IdempotencyConflict("The idempotency key was used with other arguments.")
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
    webhook: Webhook | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
    job_id: str | None = None,
    at_rev: int | None = None,
) -> CreateReply:
    """Submits a job without blocking the event loop; `options` are those of Celery's `apply_async`.

    With `at_rev`, the finished job that has this id is submitted once more, if it is still at that revision.

    Raises:
        StoreUnavailable: the job store does not answer; nothing was submitted.
        PublishFailed: the broker did not take the message in time; the record says so.
    """
    known = {
        "owner": owner,
        "batch_id": batch_id,
        "metadata": metadata or {},
        "webhook": webhook,
        "idempotency": idempotency,
    }
    job_id = job_id or uuid()
    sending = {**(options or {}), "task_id": job_id}
    request = NewRun(runtime.app.tasks[task_name], args, kwargs, sending, known, at_rev)
    if request.is_eager:
        return await asyncio.to_thread(_run_eagerly, runtime, request)
    drafted = draft_quickly(runtime, request)
    if drafted is not None:
        return await runtime.store.run_async(creation(runtime, request, *drafted))
    try:
        return await asyncio.wait_for(asyncio.to_thread(send_recorded, runtime, request), PUBLISH_SECONDS)
    except TimeoutError:
        # The thread goes on; when it fails as well, it says so in the record.
        raise PublishFailed(job_id, "no answer in time") from None


def rerun(runtime: Runtime, job: Job) -> Job:
    """Begins a new run of a finished job, under its id, with the arguments and options that its record kept.

    Returns:
        The job as it is now; one that is not finished stays as it is, and nothing is sent.

    Raises:
        StoreUnavailable: the job store does not answer; nothing was sent.
        PublishFailed: the broker did not take the message; the record says so.
        ArgumentsGone: the job's arguments were not kept.
    """
    if job.arguments_json is None:
        raise ArgumentsGone(job.id)
    known = {"owner": job.owner, "batch_id": job.batch_id, "metadata": job.metadata, "webhook": job.webhook}
    return cast(Job, submit_drafted(runtime, AnotherRun(runtime.app, job, known)).job)


def _run_eagerly(runtime: Runtime, request: NewRun) -> CreateReply:
    """Runs a job here and now, with the record that a worker would have given it."""
    store, task = runtime.store, request.task
    job_id = request.options["task_id"]
    claim = Claim(job_id, new_token(), str(task.name))
    reply = store.run(store.create(NewJob(job_id, claim.task, **request.known)))
    if reply.outcome is not Creation.CREATED:
        return reply
    store.run(store.start(claim))
    outcome = task.apply(tuple(request.args), dict(request.kwargs), task_id=job_id, throw=False)
    if outcome.successful():
        end = store.finish(claim, JobStatus.SUCCESS, result_json=encode_json(outcome.result))
    else:
        end = store.finish(claim, JobStatus.FAILED, failure=describe_failure(outcome.result, outcome.traceback))
    store.run(end)
    return CreateReply(Creation.CREATED, store.run(store.get(job_id)))
