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
from aijobs.http.render import View
from aijobs.http.schemas import JobProblem
from aijobs.http.service import JobId, JobService, deadline
from aijobs.http.sse import EventStream, StreamLimits
from aijobs.http.subject import Record, Subject


class Events:
    """The route of the event stream.

    Args:
        service: of the router.
        limits: of each stream.
    """

    def __init__(self, service: JobService, limits: StreamLimits) -> None:
        self._service = service
        self._streams = Streams(limits)

    def operations(self) -> Iterator[Operation]:
        """The one operation."""
        described = stream_docs("Follow a job", docs.STREAM, docs.problems(400, 403, 404, 503))
        yield Operation("events", "GET", "/{job_id}/events", self.events, described)

    async def events(self, request: Request, job_id: JobId) -> Response:
        """What happens to the job, as server-sent events, until its end."""
        after = last_event_id(request)
        async with deadline():
            job = await self._service.visible(request, job_id)
        view = self._service.access.view(request, 2)
        return self._streams.answer(JobSubject(self._service.store, job.id), job, view, after)


class Streams:
    """Answers those who follow something; those who follow the same share its reader.

    Args:
        limits: of each stream.
    """

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._channels = Channels(limits.ping_seconds)

    def answer(self, subject: Subject[Any, Any], record: Record, view: View, after: int | None) -> Response:
        """The stream of a subject, or 204 when the client has seen its end.

        Args:
            subject: what is followed.
            record: of it, as it was a moment ago.
            view: as the subject wants it to show the record.
            after: the number of the last event that the client has; None on a fresh connection.
        """
        if after is not None and record.finished and after >= record.seq:
            return Response(status_code=204)
        return EventStream(Feed(self._channels, subject, record, view, after).encoded, self._limits)


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
