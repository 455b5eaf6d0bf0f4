"""Submitting jobs: a typed route for each task."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Body, Request
from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from aijobs.errors import IdempotencyConflict
from aijobs.http import docs
from aijobs.http.exposure import ExposedTask
from aijobs.http.health import HealthCheck
from aijobs.http.idempotency import read_idempotency
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import INVALID_REQUEST, Problem
from aijobs.http.render import base_path, job_path, job_response
from aijobs.http.schemas import submission_document
from aijobs.http.service import JobService
from aijobs.job import Job
from aijobs.store.values import Creation
from aijobs.submission import submit_async

#: A body with more faults than this is not taken apart.
MOST_FAULTS = 1_000


class Submissions:
    """The routes that submit jobs, one for each task.

    Args:
        service: of the router.
        tasks: in the order of their paths.
        health: is asked for workers when a job was submitted.
    """

    def __init__(self, service: JobService, tasks: Iterable[ExposedTask], health: HealthCheck) -> None:
        self._service = service
        self._tasks = tasks
        self._health = health
        self._complaints: set[asyncio.Task[None]] = set()

    def operations(self) -> Iterator[Operation]:
        """The operations, one for each task."""
        for task in self._tasks:
            action = "submit_" + re.sub(r"[^A-Za-z0-9]", "_", task.segment)
            yield Operation(action, "POST", f"/{task.segment}", self._endpoint(task), _docs(task))

    async def submit(self, request: Request, task: ExposedTask, body: BaseModel | None) -> Response:
        """Makes a job of a valid body."""
        access = self._service.access
        await access.check_submission(request)
        args, kwargs = task.body.arguments(body)
        owner = access.owner(request)
        idempotency = read_idempotency(request, task.name, owner, _canonical(args, kwargs))
        reply = await submit_async(self._service.runtime, task.name, args, kwargs, owner=owner, idempotency=idempotency)
        if reply.job is None:
            raise IdempotencyConflict
        self._complain_of_missing_workers()
        return _accepted(request, reply.job, replayed=reply.outcome is Creation.EXISTS)

    def _endpoint(self, task: ExposedTask) -> Callable[..., Any]:
        """The endpoint of one task; FastAPI reads the body's type from its signature."""

        async def submit(request: Request, body: Any = None) -> Response:
            return await self.submit(request, task, body)

        body_type: Any = Annotated[task.body.model, WrapValidator(_bounded), Body()]
        default = Parameter.empty if task.body.required else None
        parameters = [
            Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request),
            Parameter("body", Parameter.KEYWORD_ONLY, annotation=body_type, default=default),
        ]
        submit.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return submit

    def _complain_of_missing_workers(self) -> None:
        complaint = asyncio.create_task(self._health.complain_of_missing_workers())
        self._complaints.add(complaint)
        complaint.add_done_callback(self._complaints.discard)


def _docs(task: ExposedTask) -> dict[str, Any]:
    return describe(
        task.summary,
        "The job was accepted.",
        submission_document(task.title, task.module, task.result),
        {202: {"headers": docs.SUBMISSION_HEADERS}, **docs.problems(400, 403, 413, 415, 422, 503)},
        description=task.description,
        status_code=202,
        openapi_extra={"parameters": [docs.IDEMPOTENCY_PARAMETER]},
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


def _canonical(args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """Arguments as JSON that is the same for the same content.

    Raises:
        Problem: a number is infinite, or none at all; JSON knows no such number.
    """
    try:
        return json.dumps([args, kwargs], sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise Problem(INVALID_REQUEST, "A number in the body is out of range.") from None


def _accepted(request: Request, job: Job, *, replayed: bool) -> Response:
    base = base_path(request, 1)
    path = job_path(base, job.id)
    headers = {"Location": path, **({"Idempotency-Replayed": "true"} if replayed else {})}
    extra = {"message": "The job was accepted. Ask status_url how far it is.", "status_url": path}
    return job_response(request, job, base, status=202, headers=headers, extra=extra)
