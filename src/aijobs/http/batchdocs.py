"""What OpenAPI says of the routes of batches."""

from __future__ import annotations

from typing import Any

from aijobs.http import docs
from aijobs.http.batchshapes import BatchDocument, BatchSubmission
from aijobs.http.events import stream_docs
from aijobs.http.operations import describe

_NO_BATCH = "No such batch, or none that the caller may see."

_STREAM_EXAMPLE = """\
retry: 2000

id: 5
event: batch.snapshot
data: {"seq": 5, "batch_id": "5d0e9c8e-7f6a-4f0e-8c55-9b3d2f1a7e64", "status": "running", "progress": 0.5}

id: 6
event: batch.progress
data: {"seq": 6, "batch_id": "5d0e9c8e-7f6a-4f0e-8c55-9b3d2f1a7e64", "custom_id": "chapter-2", "status": "success"}

id: 7
event: batch.completed
data: {"seq": 7, "batch_id": "5d0e9c8e-7f6a-4f0e-8c55-9b3d2f1a7e64", "status": "completed", "progress": 1.0}
"""

_LOCATION = {"description": "Path of the batch.", "schema": {"type": "string"}}
_REPLAYED = {
    "description": "`true` when the idempotency key was known: this is the first batch.",
    "schema": {"type": "string"},
}


def submit() -> dict[str, Any]:
    """Of the route that submits a batch."""
    headers = {**docs.JOB_HEADERS, "Location": _LOCATION, "Idempotency-Replayed": _REPLAYED}
    refused = "The request is not valid, or none of its items is; `errors` says where."
    unavailable = "The store or the broker does not answer; with `batch_id`, a part was submitted."
    return describe(
        "Submit a batch",
        "The batch, and what became of each item.",
        BatchSubmission,
        {202: {"headers": headers}, **docs.problems(400, 403, 413, 415, _422=refused, _503=unavailable)},
        description="Makes a job of each item that fits its task; the others are refused one by one.",
        status_code=202,
        openapi_extra={"parameters": [docs.IDEMPOTENCY_PARAMETER]},
    )


def read() -> dict[str, Any]:
    """Of the route that shows a batch."""
    responses = {200: {"headers": docs.JOB_HEADERS}, **docs.problems(304, 403, 503, _404=_NO_BATCH)}
    return describe("Get a batch", "The batch.", BatchDocument, responses)


def cancel() -> dict[str, Any]:
    """Of the routes that cancel one."""
    stopping: dict[str, Any] = {"description": "Running jobs are asked to stop.", "model": BatchDocument}
    responses = {
        200: {"headers": docs.JOB_HEADERS},
        202: {**stopping, "headers": docs.JOB_HEADERS},
        **docs.problems(403, 503, _404=_NO_BATCH),
    }
    return describe("Cancel a batch", "The batch, whose jobs are all over.", BatchDocument, responses)


def follow() -> dict[str, Any]:
    """Of the event stream."""
    ((media_type, content),) = docs.STREAM[200]["content"].items()
    stream = {
        "description": "Events of the batch until its end.",
        "content": {media_type: {**content, "example": _STREAM_EXAMPLE}},
    }
    return stream_docs("Follow a batch", {200: stream}, docs.problems(400, 403, 503, _404=_NO_BATCH))
