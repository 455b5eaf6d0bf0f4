"""The operations below the prefix, as OpenAPI describes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Body, Request
from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from aijobs.http import docs
from aijobs.http.exposure import ExposedTask
from aijobs.http.problems import MEDIA_TYPE
from aijobs.http.routes import JobRoutes
from aijobs.http.schemas import Health, JobDocument, JobPage, JobProblem, JobStats, submission_document

#: A body with more faults than this is not taken apart.
MOST_FAULTS = 1_000


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path."""

    #: Its name, unique in the router.
    action: str
    method: str
    #: Below the router.
    path: str
    endpoint: Callable[..., Any]
    #: What FastAPI is told of it.
    description: Mapping[str, Any]
    #: Whether it asks whose jobs it is about.
    owned: bool = True
    #: Whether it answers `HEAD` as well.
    has_head: bool = False


class _ProblemsOnly(Response):
    """Stands in OpenAPI for a route whose only JSON is problems."""

    media_type = MEDIA_TYPE


def submissions(tasks: Iterable[ExposedTask], routes: JobRoutes) -> Iterator[Operation]:
    """The operations that submit jobs, one for each task."""
    for task in tasks:
        action = "submit_" + re.sub(r"[^A-Za-z0-9]", "_", task.segment)
        yield Operation(action, "POST", f"/{task.segment}", _submission(task, routes), _submission_docs(task))


def fixed_operations(routes: JobRoutes) -> Iterator[Operation]:
    """The operations that every router has; paths without a job's id come first."""
    listed = _describe("List jobs", "A page of jobs.", JobPage, docs.problems(400, 403, 422, 503))
    yield Operation("list", "GET", "/", routes.list, listed, has_head=True)
    counted = _describe("Count jobs", "The counts.", JobStats, docs.problems(403, 503))
    yield Operation("stats", "GET", "/stats", routes.stats, counted, has_head=True)
    unhealthy = docs.problems(_503="The store or the broker does not answer: see `detail`.")
    healthy = _describe("Check health", "Store and broker answer.", Health, unhealthy)
    yield Operation("health", "GET", "/health", routes.health, healthy, owned=False, has_head=True)
    yield Operation("get", "GET", "/{job_id}", routes.get, _read_docs(), has_head=True)
    yield Operation("result", "GET", "/{job_id}/result", routes.result, _result_docs(), has_head=True)
    yield Operation("events", "GET", "/{job_id}/events", routes.events, _stream_docs())
    cancelled = _cancel_docs(routes.finished_cancel_status)
    yield Operation("delete", "DELETE", "/{job_id}", routes.cancel, cancelled)
    yield Operation("cancel", "POST", "/{job_id}/cancel", routes.cancel, cancelled)


def _describe(summary: str, answer: str, model: Any, responses: docs.Responses) -> dict[str, Any]:
    return {"summary": summary, "response_description": answer, "response_model": model, "responses": responses}


def _read_docs() -> dict[str, Any]:
    responses = {200: {"headers": docs.JOB_HEADERS}, **docs.problems(304, 403, 404, 503)}
    return _describe("Get a job", "The job.", JobDocument, responses)


def _result_docs() -> dict[str, Any]:
    responses = docs.problems(304, 403, 404, 410, 503, _409="The job has not finished, or it ended without a result.")
    return _describe("Get a job's result", "The result.", Any, responses)


def _cancel_docs(finished_status: int) -> dict[str, Any]:
    stopping: dict[str, Any] = {"description": "A running job is asked to stop.", "model": JobDocument}
    responses = {
        200: {"headers": docs.JOB_HEADERS},
        202: {**stopping, "headers": docs.JOB_HEADERS},
        **docs.problems(403, 404, 503, **{f"_{finished_status}": "The job has finished."}),
    }
    return _describe("Cancel a job", "The job, revoked.", JobDocument, responses)


def _submission_docs(task: ExposedTask) -> dict[str, Any]:
    return {
        "summary": task.summary,
        "description": task.description,
        "status_code": 202,
        "response_model": submission_document(task.title, task.module, task.result),
        "response_description": "The job was accepted.",
        "responses": {202: {"headers": docs.SUBMISSION_HEADERS}, **docs.problems(400, 403, 413, 415, 422, 503)},
        "openapi_extra": {"parameters": [docs.IDEMPOTENCY_PARAMETER]},
    }


def _stream_docs() -> dict[str, Any]:
    # FastAPI describes problems under the media type of the route's response class. This route, whose other responses
    # are no JSON, is therefore the one that brings their schema into the document.
    not_found = {**docs.problems(404)[404], "model": JobProblem}
    return {
        "summary": "Follow a job",
        "status_code": 204,
        "response_class": _ProblemsOnly,
        "response_description": "The client has seen the end.",
        "responses": {**docs.STREAM, **docs.problems(400, 403, 503), 404: not_found},
        "openapi_extra": {"parameters": docs.EVENT_PARAMETERS},
    }


def _submission(task: ExposedTask, routes: JobRoutes) -> Callable[..., Any]:
    """The endpoint of one task; FastAPI reads the body's type from its signature."""

    async def submit(request: Request, body: Any = None) -> Response:
        return await routes.submit(request, task, body)

    body_type: Any = Annotated[task.body.model, WrapValidator(_bounded), Body()]
    default = Parameter.empty if task.body.required else None
    parameters = [
        Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request),
        Parameter("body", Parameter.KEYWORD_ONLY, annotation=body_type, default=default),
    ]
    submit.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return submit


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
