"""Errors as `application/problem+json` (RFC 9457): what was wrong, where, and what to do; never what was sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from aijobs.errors import AijobsError, FirstJobGone, IdempotencyConflict, PublishFailed, StoreUnavailable

MEDIA_TYPE = "application/problem+json"

#: After so many seconds it is worth trying again when the store or the broker did not answer.
RETRY_AFTER_SECONDS = 2
#: So many faults of one request are listed at most.
MOST_ERRORS = 50
#: A pointer stops at the last parent that fits, since names in it come from the client.
LONGEST_POINTER = 300

#: pydantic's own texts for these quote the input, or speak of Python.
_OWN_TEXTS = {
    "dict_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "model_type": "Input should be an object",
    "union_tag_invalid": "Input does not have one of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
    "uuid_version": "Input should be a UUID of the expected version",
}

#: How pydantic writes the member of an enum that a `Literal` allows, and its value.
_MEMBER = re.compile(r"<\w+\.\w+: ('[^']*'|[^<>']*)>")


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem that clients may tell apart by its URN."""

    name: str
    status: int
    title: str

    @property
    def urn(self) -> str:
        """What stands in `type`; it never changes."""
        return f"urn:aijobs:problem:{self.name}"


JOB_NOT_FOUND = ProblemType("job-not-found", 404, "Job not found")
BATCH_NOT_FOUND = ProblemType("batch-not-found", 404, "Batch not found")
TASK_NOT_FOUND = ProblemType("task-not-found", 404, "Task not found")
ROUTE_NOT_FOUND = ProblemType("route-not-found", 404, "Route not found")
METHOD_NOT_ALLOWED = ProblemType("method-not-allowed", 405, "Method not allowed")
FORBIDDEN = ProblemType("forbidden", 403, "Not allowed")
INVALID_JSON = ProblemType("invalid-json", 400, "The body is not valid JSON")
INVALID_REQUEST = ProblemType("invalid-request", 422, "The request is not valid")
BODY_TOO_LARGE = ProblemType("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemType("unsupported-media-type", 415, "The body has the wrong media type")
INVALID_FORM = ProblemType("invalid-form", 400, "The body is not a valid form")
UPLOAD_TIMEOUT = ProblemType("upload-timeout", 408, "The body took too long to arrive")
FILE_TOO_LARGE = ProblemType("file-too-large", 413, "The file is too large")
UNSUPPORTED_FILE = ProblemType("unsupported-file", 415, "Files like this are not taken")
INVALID_CURSOR = ProblemType("invalid-cursor", 400, "The cursor is not valid")
INVALID_EVENT_ID = ProblemType("invalid-event-id", 400, "The event id is not valid")
INVALID_IDEMPOTENCY_KEY = ProblemType("invalid-idempotency-key", 400, "The Idempotency-Key header is not valid")
IDEMPOTENCY_CONFLICT = ProblemType("idempotency-conflict", 422, "The idempotency key was used with other content")
IDEMPOTENT_JOB_GONE = ProblemType("idempotent-job-gone", 409, "The first job of the idempotency key is gone")
JOB_NOT_FINISHED = ProblemType("job-not-finished", 409, "The job has not finished")
JOB_WITHOUT_RESULT = ProblemType("job-without-result", 409, "The job ended without a result")
JOB_FINISHED = ProblemType("job-finished", 409, "The job has finished")
JOB_NOT_RETRYABLE = ProblemType("job-not-retryable", 409, "The job cannot be run again")
ARGUMENTS_GONE = ProblemType("arguments-gone", 410, "The job's arguments are gone")
RESULT_EXPIRED = ProblemType("result-expired", 410, "The result has expired")
STORE_UNAVAILABLE = ProblemType("store-unavailable", 503, "The job store does not answer")
PUBLISH_FAILED = ProblemType("publish-failed", 503, "The broker did not take the job")
FILES_UNAVAILABLE = ProblemType("files-unavailable", 503, "The file store does not work")
UNHEALTHY = ProblemType("unhealthy", 503, "Not healthy")


class Problem(HTTPException):
    """A problem on its way to the client.

    Args:
        kind: gives `type`, `title` and `status`.
        detail: for people; what to do about it.
        headers: of the response.
        status: instead of the kind's.
        members: further members of the JSON object.
    """

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status or kind.status, detail, dict(headers or {}))
        self.kind = kind
        self.members = dict(members or {})


def problem_response(error: Exception) -> Response | None:
    """The response for an error; None when it is none that a client has caused or should hear of."""
    found = _exception_for(error)
    return None if found is None else _render(found)


def problem_members(error: Exception) -> dict[str, Any] | None:
    """The same as the members of a JSON object, for an error that is one among several answers."""
    found = _exception_for(error)
    return None if found is None else _members(found)


def validation_problem(errors: Sequence[Mapping[str, Any]], body: Any = None) -> Problem:
    """The problem for faults in pydantic's form, with a JSON pointer (RFC 6901) for each fault in the body.

    Args:
        errors: each with `loc`, `msg` and `type`; `loc` begins with the place, e.g. `body` or `query`.
        body: the decoded body, which tells the names in it from the names of a union's branches.
    """
    faults = [_fault(error, body) for error in errors[:MOST_ERRORS]]
    first = faults[0]
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = f"{first.get('pointer') or first.get('parameter')}: {first['detail']}{more}"
    return Problem(INVALID_REQUEST, detail, members={"errors": faults})


def _exception_for(error: Exception) -> HTTPException | None:
    if isinstance(error, RequestValidationError):
        return validation_problem(error.errors(), error.body)
    if isinstance(error, AijobsError):
        return _known(error)
    return error if isinstance(error, HTTPException) else None


def _known(error: AijobsError) -> Problem | None:
    again = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if isinstance(error, StoreUnavailable):
        return Problem(STORE_UNAVAILABLE, "The job store did not answer in time. Try again.", headers=again)
    if isinstance(error, PublishFailed):
        detail = "The broker did not take the job in time. Try again."
        return Problem(PUBLISH_FAILED, detail, headers=again)
    if isinstance(error, FirstJobGone):
        detail = "The first job of this Idempotency-Key is no longer kept. Use a new key to have the work done again."
        return Problem(IDEMPOTENT_JOB_GONE, detail)
    if isinstance(error, IdempotencyConflict):
        return Problem(IDEMPOTENCY_CONFLICT, "Use a new Idempotency-Key for other content.")
    return None


def _render(error: HTTPException) -> Response:
    headers = {
        name: value
        for name, value in (error.headers or {}).items()
        if name.lower() not in ("content-type", "content-length")
    }
    if error.status_code < 200 or error.status_code in (204, 205, 304):
        return Response(status_code=error.status_code, headers=headers)
    return Response(to_json(_members(error)), error.status_code, headers, MEDIA_TYPE)


def _members(error: HTTPException) -> dict[str, Any]:
    if isinstance(error, Problem):
        head = {"type": error.kind.urn, "title": error.kind.title}
        return {**head, "status": error.status_code, "detail": error.detail, **error.members}
    title = _phrase(error.status_code)
    members: dict[str, Any] = {"type": "about:blank", "title": title, "status": error.status_code}
    if isinstance(error.detail, str):
        return {**members, "detail": error.detail or title}
    # FastAPI lets an app raise any JSON as `detail`; the standard wants a string there.
    return {**members, "detail": title, "context": jsonable_encoder(error.detail)}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _fault(error: Mapping[str, Any], body: Any) -> dict[str, str]:
    place, *path = error["loc"]
    kind = error["type"]
    detail = _OWN_TEXTS.get(kind) or _plain(str(error["msg"]))
    if place == "body":
        return {"pointer": _pointer(path, body, missing=kind == "missing"), "detail": detail, "type": kind}
    return {"parameter": "/".join(map(str, path)), "in": str(place), "detail": detail, "type": kind}


def _plain(text: str) -> str:
    return _MEMBER.sub(r"\1", text.removeprefix("Value error, "))


def _pointer(path: Sequence[str | int], body: Any, *, missing: bool) -> str:
    """A JSON pointer as a URI fragment; what is in `path` but not in the document names branches of a union."""
    pointer, here = "#", body
    for step in path:
        if not _holds(here, step):
            continue
        longer = f"{pointer}/{_escape(step)}"
        if len(longer) > LONGEST_POINTER:
            return pointer
        pointer, here = longer, here[step]
    return f"{pointer}/{_escape(path[-1])}" if missing and path else pointer


def _holds(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _escape(step: str | int) -> str:
    return quote(str(step).replace("~", "~0").replace("/", "~1"), safe="!$&'()*+,;=:@~")
