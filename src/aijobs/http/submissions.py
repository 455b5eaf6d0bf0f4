"""Submitting jobs: a typed route for each task."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Body, Request
from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from aijobs.errors import StoreUnavailable
from aijobs.http import docs
from aijobs.http.envelope import EMPTY, ClientFields, Envelope, Sent
from aijobs.http.exposure import ExposedTask
from aijobs.http.health import HealthCheck
from aijobs.http.idempotency import read_idempotency
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import INVALID_REQUEST, Problem
from aijobs.http.render import View, job_path, job_response
from aijobs.http.schemas import submission_document
from aijobs.http.service import JobService
from aijobs.http.waiting import applied, seconds_to_wait
from aijobs.job import Job
from aijobs.store.values import Creation, Idempotency
from aijobs.submission import first_or_new, submit_async

_ACCEPTED = "The job was accepted. Ask status_url how far it is."
_FINISHED = "The job is finished."

#: A body with more faults than this is not taken apart.
MOST_FAULTS = 1_000


class Submissions:
    """The routes that submit jobs, one for each task.

    Args:
        service: of the router.
        tasks: in the order of their paths.
        fields: what clients may send besides.
        health: is asked for workers when a job was submitted.
    """

    def __init__(
        self, service: JobService, tasks: Iterable[ExposedTask], fields: ClientFields, health: HealthCheck
    ) -> None:
        self._service = service
        self._tasks = tasks
        self._fields = fields
        self._health = health

    def operations(self) -> Iterator[Operation]:
        """The operations, one for each task."""
        for task in self._tasks:
            described = submission_docs(self._service, task)
            yield Operation(submit_action(task.segment), "POST", f"/{task.segment}", self._endpoint(task), described)

    async def submit(self, request: Request, task: ExposedTask, sent: Sent) -> Response:
        """Makes a job of a valid body."""
        access = self._service.access
        await access.check_submission(request)
        args, kwargs = task.body.arguments(sent.body)
        content = canonical(args, kwargs, sent.envelope)
        idempotency = read_idempotency(request, task.name, access.owner(request), content)
        job, is_new = await self.create(request, task, args, kwargs, idempotency, envelope=sent.envelope)
        return await self.answer(request, job, replayed=not is_new)

    async def answer(self, request: Request, job: Job, *, replayed: bool) -> Response:
        """The answer to a submission, which a client that prefers to wait gets when the job is finished."""
        seconds = seconds_to_wait(request)
        if seconds and not job.finished:
            job = await self._awaited(request, job, seconds)
        view = self._service.access.view(request, 1)
        if seconds and job.finished:
            return _submitted(request, job, view, 200, _FINISHED, replayed=replayed, headers=applied(seconds))
        return _submitted(request, job, view, 202, _ACCEPTED, replayed=replayed)

    async def create(
        self,
        request: Request,
        task: ExposedTask,
        args: list[Any],
        kwargs: dict[str, Any],
        idempotency: Idempotency | None,
        job_id: str | None = None,
        envelope: Envelope = EMPTY,
    ) -> tuple[Job, bool]:
        """Makes a job of valid arguments, or finds the first one of its idempotency key; tells whether it is new.

        Raises:
            IdempotencyConflict: the key was used with other content, or for a job that is no longer kept.
            StoreUnavailable: the job store does not answer.
            PublishFailed: the broker did not take the message.
        """
        service = self._service
        reply = await submit_async(
            service.runtime,
            task.name,
            args,
            kwargs,
            owner=service.access.owner(request),
            metadata=envelope.metadata,
            webhook=envelope.webhook,
            options=envelope.options,
            idempotency=idempotency,
            job_id=job_id,
        )
        job = first_or_new(reply)
        self._health.look_for_workers()
        return job, reply.outcome is Creation.CREATED

    async def _awaited(self, request: Request, job: Job, seconds: float) -> Job:
        async def look() -> Job:
            # Who may submit a job learns what became of it, even if it is gone by then.
            return await self._service.store.run_async(self._service.store.get(job.id)) or job

        try:
            return await self._service.waiting.hold(request, job.id, seconds, look, lambda now: now.finished)
        except StoreUnavailable:
            # The job is there, and whoever is told otherwise submits it once more.
            return job

    def _endpoint(self, task: ExposedTask) -> Callable[..., Any]:
        """The endpoint of one task; FastAPI reads the body's type from its signature."""

        async def submit(request: Request, body: Any = None) -> Response:
            return await self.submit(request, task, body if isinstance(body, Sent) else Sent(body))

        body_type: Any = Annotated[self._fields.beside(task), WrapValidator(_bounded), Body()]
        default = Parameter.empty if task.body.required else None
        parameters = [
            Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request),
            Parameter("body", Parameter.KEYWORD_ONLY, annotation=body_type, default=default),
        ]
        submit.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return submit


def submit_action(segment: str) -> str:
    """The name of the operation that submits a task, by its place in the path."""
    return "submit_" + re.sub(r"[^A-Za-z0-9]", "_", segment)


def submission_docs(service: JobService, task: ExposedTask, **extra: Any) -> dict[str, Any]:
    """What FastAPI is told of a route that submits one job; `extra` is for OpenAPI."""
    callbacks = {"callbacks": service.callbacks} if service.callbacks else {}
    document = submission_document(service.access.documents.job, task.title, task.module, task.result)
    finished: dict[str, Any] = {"description": "The client waited, and the job is finished.", "model": document}
    responses = {
        200: {**finished, "headers": docs.FINISHED_HEADERS},
        202: {"headers": docs.SUBMISSION_HEADERS},
        **docs.problems(400, 403, 413, 415, 422, 503, _409="The first job of the idempotency key is no longer kept."),
    }
    return describe(
        task.summary,
        "The job was accepted.",
        document,
        responses,
        description=task.description,
        status_code=202,
        openapi_extra={"parameters": [docs.IDEMPOTENCY_PARAMETER, docs.WAIT_PARAMETER], **callbacks, **extra},
    )


def _bounded(body: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(body)
    except ValidationError as error:
        # Taking half a million faults apart would block the event loop for seconds.
        if error.error_count() > MOST_FAULTS:
            raise PydanticCustomError(
                "too_many_faults", "The body has more than {most} faults", {"most": MOST_FAULTS}
            ) from None
        raise


def canonical(args: list[Any], kwargs: dict[str, Any], envelope: Envelope = EMPTY) -> bytes:
    """What was sent as JSON that is the same for the same content.

    Raises:
        Problem: a number is infinite, or none at all; JSON knows no such number.
    """
    try:
        content = [args, kwargs, *([envelope.content] if envelope.content else [])]
        return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise Problem(INVALID_REQUEST, "A number in the body is out of range.") from None


def announcement(job: Job, view: View, message: str = _ACCEPTED) -> dict[str, str]:
    """What the answer to a submission says beside the job."""
    return {"message": message, "status_url": job_path(view.base, job.id)}


def _submitted(
    request: Request,
    job: Job,
    view: View,
    status: int,
    message: str,
    *,
    replayed: bool,
    headers: Mapping[str, str] | None = None,
) -> Response:
    extra = announcement(job, view, message)
    told = {
        "Location": extra["status_url"],
        **({"Idempotency-Replayed": "true"} if replayed else {}),
        **(headers or {}),
    }
    return job_response(request, job, view, status=status, headers=told, extra=extra)
