"""A job's events as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from starlette.responses import Response

from aijobs.http import docs
from aijobs.http.feed import JobFeed, last_event_id
from aijobs.http.operations import Operation
from aijobs.http.problems import MEDIA_TYPE
from aijobs.http.render import base_path
from aijobs.http.schemas import JobProblem
from aijobs.http.service import JobId, JobService, deadline
from aijobs.http.sse import EventStream, StreamLimits


class Events:
    """The route of the event stream.

    Args:
        service: of the router.
        limits: of each stream.
    """

    def __init__(self, service: JobService, limits: StreamLimits) -> None:
        self._service = service
        self._limits = limits

    def operations(self) -> Iterator[Operation]:
        """The one operation."""
        yield Operation("events", "GET", "/{job_id}/events", self.events, _stream_docs())

    async def events(self, request: Request, job_id: JobId) -> Response:
        """What happens to the job, as server-sent events, until its end."""
        after = last_event_id(request)
        async with deadline():
            job = await self._service.visible(request, job_id)
        if after is not None and job.finished and after >= job.seq:
            return Response(status_code=204)
        feed = JobFeed(self._service.store, job.id, base_path(request, 2), after, self._limits.ping_seconds)
        return EventStream(feed.encoded, self._limits)


class _ProblemsOnly(Response):
    """Stands in OpenAPI for a route whose only JSON is problems."""

    media_type = MEDIA_TYPE


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
