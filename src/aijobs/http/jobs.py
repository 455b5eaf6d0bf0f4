"""One job, its result, its cancel, and the list of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from aijobs.cancellation import cancel_async
from aijobs.http import docs
from aijobs.http.access import job_not_found
from aijobs.http.cursor import read_cursor, write_cursor
from aijobs.http.filters import ListQuery
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import (
    JOB_FINISHED,
    JOB_NOT_FINISHED,
    JOB_WITHOUT_RESULT,
    RESULT_EXPIRED,
    Problem,
)
from aijobs.http.render import (
    job_response,
    json_response,
    output_headers,
    output_response,
    page_json,
    result_response,
    retry_after,
    unless_known,
)
from aijobs.http.schemas import JobOutput
from aijobs.http.service import JobId, JobService, deadline
from aijobs.http.waiting import applied, is_up_to_date, seconds_to_wait
from aijobs.job import Job, JobStatus

Children = Annotated[
    bool,
    Query(description="Cancel what the job submitted as well, and what that did. A job that is over is no error then."),
]


class Jobs:
    """The routes about jobs that exist.

    Args:
        service: of the router.
        finished_cancel_status: the status code for cancelling a job that has finished.
    """

    def __init__(self, service: JobService, finished_cancel_status: int) -> None:
        self._service = service
        self._finished_cancel_status = finished_cancel_status

    def operations(self) -> Iterator[Operation]:
        """The operations; the list comes first."""
        documents = self._service.access.documents
        listed = describe("List jobs", "A page of jobs.", documents.page, docs.problems(400, 403, 422, 503))
        yield Operation("list", "GET", "/", self.list, listed, has_head=True)
        yield Operation("get", "GET", "/{job_id}", self.get, _read_docs(documents.job), has_head=True)
        yield Operation("output", "GET", "/{job_id}/output", self.output, _output_docs(), has_head=True)
        yield Operation("result", "GET", "/{job_id}/result", self.result, _result_docs(), has_head=True)
        cancelled = _cancel_docs(documents.job, self._finished_cancel_status)
        yield Operation("delete", "DELETE", "/{job_id}", self.cancel, cancelled)
        yield Operation("cancel", "POST", "/{job_id}/cancel", self.cancel, cancelled)

    async def get(self, request: Request, job_id: JobId) -> Response:
        """The job's current state. Ask again after `Retry-After` seconds, wait for news, or follow its events."""
        seconds = seconds_to_wait(request)
        known = await self._read(request, job_id)
        job = known
        if seconds and not known.finished and is_up_to_date(request, known):
            look, waiting = partial(self._read, request, job_id), self._service.waiting
            job = await waiting.hold(request, job_id, seconds, look, lambda now: now.rev != known.rev)
        return job_response(request, job, self._service.access.view(request, 1), headers=applied(seconds))

    async def output(self, request: Request, job_id: JobId) -> Response:
        """What the newest attempt has given out so far. To see it as it comes, follow the job's events."""
        async with deadline():
            job = await self._service.visible(request, job_id)
            known = unless_known(request, output_headers(job))
            return known or await self._output(job_id)

    async def result(self, request: Request, job_id: JobId) -> Response:
        """The bare result, however large it is."""
        async with deadline():
            job = await self._service.visible(request, job_id)
            await self._service.access.check("result", request, job)
            if job.status is not JobStatus.SUCCESS:
                raise _no_result(job)
            text = await self._result(job)
        return result_response(request, job, text)

    async def list(self, request: Request, query: Annotated[ListQuery, Query()]) -> Response:
        """The caller's jobs, newest first, a page at a time."""
        service = self._service
        async with deadline():
            owner = service.access.owner_asked_for(request, query.owner)
            where = query.filter(owner, service.tasks.values())
            secret = await service.signing_secret()
            after = None if query.cursor is None else read_cursor(secret, where, query.cursor)
            page = await service.store.run_async(service.store.list(where, query.limit, after))
            jobs = [job for job in page.jobs if await service.access.may_read(request, job)]
        cursor = None if page.next is None else write_cursor(secret, where, page.next)
        return json_response(page_json(jobs, service.access.view(request, 0), cursor))

    async def cancel(self, request: Request, job_id: JobId, children: Children = False) -> Response:
        """Revokes a queued job at once (200) and asks a running one to stop (202)."""
        service = self._service
        async with deadline():
            job = await service.visible(request, job_id)
            await service.access.check("cancel", request, job)
            change = await cancel_async(service.runtime, job_id, children=children)
            if change is None:
                raise job_not_found()
            if change.status in (JobStatus.SUCCESS, JobStatus.FAILED) and not children:
                raise _finished(change.status, self._finished_cancel_status)
            job = await service.visible(request, job_id)
        view = service.access.view(request, 1 if request.method == "DELETE" else 2)
        return job_response(request, job, view, status=202 if change.status is JobStatus.RUNNING else 200)

    async def _read(self, request: Request, job_id: str) -> Job:
        async with deadline():
            return await self._service.visible(request, job_id)

    async def _output(self, job_id: str) -> Response:
        store = self._service.store
        found = await store.run_async(store.encoded_output(job_id))
        if found is None:
            raise job_not_found()
        return output_response(*found)

    async def _result(self, job: Job) -> bytes:
        if job.result_json is not None:
            return job.result_json.encode()
        store = self._service.store
        text = await store.run_async(store.get_result(job.id))
        if text is None and job.result_bytes is not None:
            raise Problem(RESULT_EXPIRED, "The result is no longer kept. Submit the job again to have it.")
        return b"null" if text is None else text


def _read_docs(document: Any) -> dict[str, Any]:
    responses = {200: {"headers": docs.WAITING_HEADERS}, **docs.problems(304, 403, 404, 503)}
    parameters = {"parameters": [docs.WAIT_PARAMETER]}
    return describe("Get a job", "The job.", document, responses, openapi_extra=parameters)


def _output_docs() -> dict[str, Any]:
    responses = {200: {"headers": docs.JOB_HEADERS}, **docs.problems(304, 403, 404, 503)}
    return describe("Get a job's output", "The output so far.", JobOutput, responses)


def _result_docs() -> dict[str, Any]:
    responses = docs.problems(304, 403, 404, 410, 503, _409="The job has not finished, or it ended without a result.")
    return describe("Get a job's result", "The result.", Any, responses)


def _cancel_docs(document: Any, finished_status: int) -> dict[str, Any]:
    stopping: dict[str, Any] = {"description": "A running job is asked to stop.", "model": document}
    responses = {
        200: {"headers": docs.JOB_HEADERS},
        202: {**stopping, "headers": docs.JOB_HEADERS},
        **docs.problems(403, 404, 422, 503, **{f"_{finished_status}": "The job has finished."}),
    }
    return describe("Cancel a job", "The job, revoked.", document, responses)


def _no_result(job: Job) -> Problem:
    members = {"job_status": job.status, "error": None if job.error is None else job.error.to_dict()}
    if job.finished:
        return Problem(JOB_WITHOUT_RESULT, f"The job ended as {job.status}, without a result.", members=members)
    headers = {"Retry-After": str(retry_after(job))}
    return Problem(JOB_NOT_FINISHED, f"The job is {job.status}. Ask again later.", headers=headers, members=members)


def _finished(status: JobStatus, code: int) -> Problem:
    return Problem(JOB_FINISHED, f"The job has finished with {status}, so it cannot be cancelled.", status=code)
