"""Running a failed or revoked job again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import Request
from starlette.responses import Response

from aijobs.dead import replay_async
from aijobs.errors import ArgumentsGone, JobNotFound, NotReplayable
from aijobs.http import docs
from aijobs.http.access import job_not_found
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import ARGUMENTS_GONE, JOB_NOT_FINISHED, JOB_NOT_RETRYABLE, Problem
from aijobs.http.render import job_path, job_response, retry_after
from aijobs.http.service import JobId, JobService, deadline
from aijobs.job import Job, JobStatus


class Retry:
    """The route that runs a job again.

    Args:
        service: of the router.
    """

    def __init__(self, service: JobService) -> None:
        self._service = service

    def operations(self) -> Iterator[Operation]:
        """The one operation."""
        described = _retry_docs(self._service.access.documents.job)
        yield Operation("retry", "POST", "/{job_id}/retry", self.retry, described)

    async def retry(self, request: Request, job_id: JobId) -> Response:
        """Begins a new run of a failed or revoked job: under its id, with its arguments, and all its attempts."""
        service = self._service
        async with deadline():
            job = await service.visible(request, job_id)
            await service.access.check("retry", request, job)
            _check_ended_badly(job)
            again = await self._replay(job)
        view = service.access.view(request, 2)
        return job_response(request, again, view, status=202, headers={"Location": job_path(view.base, again.id)})

    async def _replay(self, job: Job) -> Job:
        try:
            return await replay_async(self._service.runtime, job.id)
        except JobNotFound:
            raise job_not_found() from None
        except ArgumentsGone:
            raise Problem(ARGUMENTS_GONE, "The job's arguments were not kept. Submit it anew.") from None
        except NotReplayable as error:
            raise Problem(JOB_NOT_RETRYABLE, f"The job cannot be run again: {error.reason}.") from None


def _check_ended_badly(job: Job) -> None:
    members = {"job_status": job.status}
    if not job.finished:
        headers = {"Retry-After": str(retry_after(job))}
        detail = f"The job is {job.status}. It can be run again once it has failed or was revoked."
        raise Problem(JOB_NOT_FINISHED, detail, headers=headers, members=members)
    if job.status is JobStatus.SUCCESS:
        raise Problem(JOB_NOT_RETRYABLE, "The job succeeded. Submit it anew to have it run again.", members=members)


def _retry_docs(document: Any) -> dict[str, Any]:
    problems = docs.problems(
        403,
        404,
        503,
        _409="The job has not finished, or it succeeded, or what submitted it was cancelled.",
        _410="The job's arguments were not kept.",
    )
    responses: docs.Responses = {202: {"headers": docs.RETRY_HEADERS}, **problems}
    return describe("Run a job again", "The job, queued.", document, responses, status_code=202)
