"""Webhooks as clients see them: what they may ask for, what they are sent, and the log of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from aijobs.errors import ConfigurationError
from aijobs.http import docs
from aijobs.http.operations import Operation, describe
from aijobs.http.render import json_bytes, json_response, timestamp
from aijobs.http.service import JobId, JobService, deadline
from aijobs.job import EventType, JobStatus
from aijobs.runtime import Runtime
from aijobs.store.deliveries import Delivery, DeliveryOutcome, ErrorKind
from aijobs.webhooks.address import check_url
from aijobs.webhooks.config import read_config


class Webhooks:
    """The route of the log.

    Args:
        service: of the router.
    """

    def __init__(self, service: JobService) -> None:
        self._service = service

    def operations(self) -> Iterator[Operation]:
        """The one operation, while webhooks are on."""
        if read_config(self._service.runtime.settings) is not None:
            problems = docs.problems(403, 404, 503)
            described = describe("List the deliveries of a job's webhook", "The newest ones.", WebhookLog, problems)
            yield Operation("webhooks", "GET", "/{job_id}/webhooks", self.list, described, has_head=True)

    async def list(self, request: Request, job_id: JobId) -> Response:
        """The newest attempts to tell the job's webhook of its events, oldest first."""
        service = self._service
        async with deadline():
            job = await service.visible(request, job_id)
            log = await service.store.run_async(service.store.deliveries(job.id))
        return json_response(json_bytes({"deliveries": [_shown(one) for one in log]}))


def address_check(runtime: Runtime) -> Callable[[str], None]:
    """What clients' addresses are checked with.

    Raises:
        ConfigurationError: webhooks are off, or a setting is wrong.
    """
    config = read_config(runtime.settings)
    if config is None:
        raise ConfigurationError(
            "job_router(webhooks=True) needs AIJOBS_WEBHOOK_SECRETS, which webhooks are signed with. "
            "Set it for the API and the workers."
        )
    return partial(check_url, allow_private=config.allow_private)


def callbacks() -> dict[str, Any]:
    """What OpenAPI says of the requests that a client gets which asks for a webhook."""
    schema = WebhookMessage.model_json_schema(mode="serialization")
    operation = {
        "summary": "Tell of a job's event",
        "description": "Signed as Standard Webhooks 1.0 has it. What is not answered with 2xx is sent again later.",
        "parameters": [_header(name, text) for name, text in _HEADERS.items()],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _inlined(schema, schema)}}},
        "responses": {
            "2XX": {"description": "The receiver has it."},
            "410": {"description": "The receiver is gone, and is told nothing more of this job."},
        },
    }
    return {"job_event": {"{$request.body#/webhook/url}": {"post": operation}}}


class _Shape(BaseModel):
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class WebhookDelivery(_Shape):
    """One attempt to tell a webhook of an event."""

    seq: int = Field(description="The event's number in the job's stream.")
    event: EventType
    attempt: int = Field(description="Counts the attempts for this event, from 1.")
    at: datetime
    duration_seconds: float
    outcome: DeliveryOutcome
    status_code: int | None = Field(None, description="What the receiver answered.")
    error: ErrorKind | None = Field(None, description="What went wrong when there was no answer.")
    next_attempt_at: datetime | None = Field(None, description="When it is tried again.")


class WebhookLog(_Shape):
    """The newest attempts, oldest first."""

    deliveries: list[WebhookDelivery]


class WebhookUrls(_Shape):
    """Where to go on."""

    self: str
    events: str
    result: str


class WebhookData(_Shape):
    """Which job it is about, and how that stood."""

    job_id: str
    task: str
    status: JobStatus
    attempt: int
    batch_id: str | None
    metadata: dict[str, str]
    rev: int
    seq: int
    urls: WebhookUrls | None


class WebhookMessage(_Shape):
    """An event of a job."""

    type: EventType
    timestamp: datetime = Field(description="When it happened.")
    data: WebhookData


#: The headers of a message.
_HEADERS = {
    "webhook-id": "The same for each attempt.",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970.",
    "webhook-signature": "`v1,` and Base64, for each secret, with spaces between.",
}


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}


def _inlined(schema: Any, root: dict[str, Any]) -> Any:
    """A schema without references: nothing else in the document has the parts of this one."""
    if isinstance(schema, list):
        return [_inlined(one, root) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    return {name: _inlined(one, root) for name, one in schema.items() if name != "$defs"}


def _shown(delivery: Delivery) -> dict[str, Any]:
    times = {"at": timestamp(delivery.at), "next_attempt_at": timestamp(delivery.next_attempt_at)}
    return {**asdict(delivery), **times}
