"""A job's events as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from starlette.responses import Response

from aijobs.http import docs
from aijobs.http.channel import Channels
from aijobs.http.feed import Feed, JobSubject, last_event_id
from aijobs.http.operations import Operation
from aijobs.http.problems import MEDIA_TYPE
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
        self._channels = Channels(limits.ping_seconds)

    def operations(self) -> Iterator[Operation]:
        """The one operation."""
        described = stream_docs("Follow a job", docs.STREAM, docs.problems(400, 403, 404, 503))
        yield Operation("events", "GET", "/{job_id}/events", self.events, described)

    async def events(self, request: Request, job_id: JobId) -> Response:
        """What happens to the job, as server-sent events, until its end."""
        after = last_event_id(request)
        async with deadline():
            job = await self._service.visible(request, job_id)
        if after is not None and job.finished and after >= job.seq:
            return Response(status_code=204)
        view = self._service.access.view(request, 2)
        feed = Feed(self._channels, JobSubject(self._service.store, job.id), job, view, after)
        return EventStream(feed.encoded, self._limits)


class _ProblemsOnly(Response):
    """Stands in OpenAPI for a route whose only JSON is problems."""

    media_type = MEDIA_TYPE


def stream_docs(summary: str, stream: docs.Responses, problems: docs.Responses) -> dict[str, Any]:
    """What FastAPI is told of a route that streams.

    Args:
        summary: a line.
        stream: the response that is one.
        problems: the others; 404 is among them.
    """
    # FastAPI describes problems under the media type of the route's response class. These routes, whose other responses
    # are no JSON, are therefore the ones that bring their schema into the document.
    return {
        "summary": summary,
        "status_code": 204,
        "response_class": _ProblemsOnly,
        "response_description": "The client has seen the end.",
        "responses": {**stream, **problems, 404: {**problems[404], "model": JobProblem}},
        "openapi_extra": {"parameters": docs.EVENT_PARAMETERS},
    }
