"""What OpenAPI says of the responses."""

from __future__ import annotations

from typing import Any

from aijobs.http.problems import (
    BODY_TOO_LARGE,
    FORBIDDEN,
    INVALID_REQUEST,
    JOB_NOT_FOUND,
    MEDIA_TYPE,
    RESULT_EXPIRED,
    STORE_UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
)

Responses = dict[int | str, dict[str, Any]]

#: The component that FastAPI makes of `JobProblem`; the events route brings it in.
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/JobProblem"}}}

_TEXT = {
    304: "The client has the current state.",
    400: "A header, a parameter or the JSON is malformed.",
    403: "The caller may not do that.",
    404: "No such job, or none that the caller may see.",
    408: "The body took too long to arrive.",
    409: "The job's status does not allow that.",
    410: "The result has expired.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "The request is not valid; `errors` says where.",
    503: "The job store or the broker does not answer.",
}

#: What stands for each status, where the text above is all that there is to say.
_USUAL = {
    kind.status: kind
    for kind in (
        FORBIDDEN,
        JOB_NOT_FOUND,
        RESULT_EXPIRED,
        BODY_TOO_LARGE,
        UNSUPPORTED_MEDIA_TYPE,
        INVALID_REQUEST,
        STORE_UNAVAILABLE,
    )
}

_STRING: dict[str, Any] = {"schema": {"type": "string"}}
_ETAG = {"description": "Changes with the job; for If-None-Match.", **_STRING}
_RETRY_AFTER = {"description": "Seconds after which asking again is worth it.", "schema": {"type": "integer"}}
_LOCATION = {"description": "Path of the job.", **_STRING}
_REPLAYED = {"description": "`true` when the idempotency key was known: this is the first job.", **_STRING}
_APPLIED = {"description": "The preference that was honoured, as `wait=10`.", **_STRING}

#: Headers of a response that shows a job.
JOB_HEADERS = {"ETag": _ETAG, "Retry-After": _RETRY_AFTER}
#: Headers of a response for which the client may have waited.
WAITING_HEADERS = {**JOB_HEADERS, "Preference-Applied": _APPLIED}
#: Headers of a job that is run again.
RETRY_HEADERS = {**JOB_HEADERS, "Location": _LOCATION}
#: Headers of an accepted submission.
SUBMISSION_HEADERS = {**JOB_HEADERS, "Location": _LOCATION, "Idempotency-Replayed": _REPLAYED}
#: Headers of a submission whose client has waited for the end.
FINISHED_HEADERS = {**SUBMISSION_HEADERS, "Preference-Applied": _APPLIED}

#: A header that the submission routes read themselves, since each way to send it wrongly has its own answer.
IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes a repeated submission the same job; 1–255 visible characters.",
    "schema": {"type": "string", "pattern": r'^("([!#-\[\]-~]|\\["\\]){1,255}"|[!#-~]{1,255})$'},
}
#: A preference that is honoured as far as it can be, and otherwise passed over.
WAIT_PARAMETER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=10` has the request held until there is something to tell, for 10 seconds at most (RFC 7240)."
    " Longer waits than 30 seconds are cut.",
    "schema": {"type": "string"},
}
#: Where an event stream goes on; an empty id is none.
EVENT_PARAMETERS = [
    {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "The last event that the client has; an EventSource sends it by itself.",
        "schema": {"type": "string", "pattern": "^[0-9]{0,15}$"},
    },
    {
        "name": "starting_after",
        "in": "query",
        "required": False,
        "description": "The same for clients that cannot set a header; 0 begins with the first event.",
        "schema": {"type": "string", "pattern": "^[0-9]{0,15}$"},
    },
]

_STREAM_EXAMPLE = """\
retry: 2000

id: 2
event: job.snapshot
data: {"seq": 2, "job_id": "0b6f1a52-6c1e-4a8f-9a53-0d3f7c1c2b10", "status": "running", "output": null}

id: 3
event: job.progress
data: {"seq": 3, "job_id": "0b6f1a52-6c1e-4a8f-9a53-0d3f7c1c2b10", "progress": 0.5}

id: 4
event: job.output
data: {"seq": 4, "job_id": "0b6f1a52-6c1e-4a8f-9a53-0d3f7c1c2b10", "attempt": 1, "text": "Once upon"}

id: 5
event: job.completed
data: {"seq": 5, "job_id": "0b6f1a52-6c1e-4a8f-9a53-0d3f7c1c2b10", "status": "success", "progress": 1.0}
"""

#: One event, under the name that OpenAPI 3.2 has for it; in 3.1 nothing but the whole stream has a schema.
_EVENT_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]{1,15}$", "description": "For `Last-Event-ID`."},
        "event": {"type": "string", "description": "What kind of event it is."},
        "data": {"type": "string", "contentMediaType": "application/json", "description": "An object with its `seq`."},
        "retry": {"type": "integer", "description": "Milliseconds to wait before coming back."},
    },
}

#: The stream of `GET /{id}/events`.
STREAM: Responses = {
    200: {
        "description": "Events of the job until its end.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "x-itemSchema": _EVENT_SCHEMA,
                "example": _STREAM_EXAMPLE,
            }
        },
    }
}


def problems(*statuses: int, **texts: str) -> Responses:
    """The problems that a route answers with.

    Args:
        statuses: of HTTP; those without a body are described as they are.
        texts: more about a status, by its number after an underscore, e.g. `_409="…"`.
    """
    described = {**{status: _TEXT[status] for status in statuses}, **{int(name[1:]): texts[name] for name in texts}}
    found: Responses = {status: _response(status, text) for status, text in sorted(described.items())}
    return {**found, "default": {"description": "Any other problem.", "content": _PROBLEM}}


def _response(status: int, text: str) -> dict[str, Any]:
    if status < 400:
        return {"description": text}
    if status not in _USUAL or text != _TEXT.get(status):
        return {"description": text, "content": _PROBLEM}
    return {"description": text, "content": {MEDIA_TYPE: {**_PROBLEM[MEDIA_TYPE], "example": _example(status)}}}


def _example(status: int) -> dict[str, Any]:
    kind = _USUAL[status]
    fault = {"pointer": "#/texts/0", "detail": "Input should be a valid string", "type": "string_type"}
    faults = {"errors": [fault]} if kind is INVALID_REQUEST else {}
    return {"type": kind.urn, "title": kind.title, "status": status, "detail": _TEXT[status], **faults}
