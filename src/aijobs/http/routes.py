"""The endpoints below the prefix."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from aijobs.cancellation import cancel_async
from aijobs.errors import IdempotencyConflict, StoreUnavailable
from aijobs.http.access import Access, job_not_found
from aijobs.http.cursor import read_cursor, write_cursor
from aijobs.http.exposure import ExposedTask
from aijobs.http.feed import JobFeed, last_event_id
from aijobs.http.filters import ListQuery
from aijobs.http.health import HealthCheck
from aijobs.http.idempotency import read_idempotency
from aijobs.http.problems import (
    INVALID_REQUEST,
    JOB_FINISHED,
    JOB_NOT_FINISHED,
    JOB_WITHOUT_RESULT,
    RESULT_EXPIRED,
    UNHEALTHY,
    Problem,
)
from aijobs.http.render import (
    base_path,
    job_json,
    job_path,
    job_response,
    json_bytes,
    json_response,
    result_response,
    retry_after,
)
from aijobs.http.sse import EventStream, StreamLimits
from aijobs.job import Job, JobStatus
from aijobs.runtime import Runtime
from aijobs.store.base import JobStore
from aijobs.store.values import Creation
from aijobs.submission import submit_async

logger = logging.getLogger(__name__)

#: Whatever the store does, a request that only needs the store is answered after so long.
DEADLINE_SECONDS = 0.9

#: A longer id is no id of a job.
_LONGEST_ID = 255

Children = Annotated[
    bool,
    Query(description="Cancel what the job submitted as well, and what that did. A job that is over is no error then."),
]
JobId = Annotated[str, Path(description="As `job_id` of the submission's answer.")]


class JobRoutes:
    """What the routes of one router do.

    Args:
        runtime: of the Celery app.
        tasks: by registered name.
        access: who may do what.
        stream_limits: of event streams.
        finished_cancel_status: the status code for cancelling a job that has finished.
    """

    def __init__(
        self,
        runtime: Runtime,
        tasks: dict[str, ExposedTask],
        access: Access,
        stream_limits: StreamLimits,
        finished_cancel_status: int,
    ) -> None:
        self._runtime = runtime
        self._tasks = tasks
        self._access = access
        self._stream_limits = stream_limits
        self.finished_cancel_status = finished_cancel_status
        self._health = HealthCheck(runtime)
        self._secret: bytes | None = None
        self._announced = False
        self._complaints: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Names the store when the API starts, and lets go of it when that ends."""
        store = self._store
        yield
        await store.aclose()

    async def submit(self, request: Request, task: ExposedTask, body: BaseModel | None) -> Response:
        """Makes a job of a valid body."""
        await self._access.check_submission(request)
        args, kwargs = task.body.arguments(body)
        owner = self._access.owner(request)
        idempotency = read_idempotency(request, task.name, owner, _canonical(args, kwargs))
        reply = await submit_async(self._runtime, task.name, args, kwargs, owner=owner, idempotency=idempotency)
        if reply.job is None:
            raise IdempotencyConflict
        self._complain_of_missing_workers()
        return _accepted(request, reply.job, replayed=reply.outcome is Creation.EXISTS)

    async def get(self, request: Request, job_id: JobId) -> Response:
        """The job's current state. Ask again after `Retry-After` seconds, or follow its events."""
        async with _deadline():
            job = await self._visible(request, job_id)
        return job_response(request, job, base_path(request, 1))

    async def result(self, request: Request, job_id: JobId) -> Response:
        """The bare result, however large it is."""
        async with _deadline():
            job = await self._visible(request, job_id)
            await self._access.check("result", request, job)
            if job.status is not JobStatus.SUCCESS:
                raise _no_result(job)
            text = await self._result(job)
        return result_response(request, job, text)

    async def list(self, request: Request, query: Annotated[ListQuery, Query()]) -> Response:
        """The caller's jobs, newest first, a page at a time."""
        async with _deadline():
            where = query.filter(self._access.owner(request), self._tasks.values())
            secret = await self._signing_secret()
            after = None if query.cursor is None else read_cursor(secret, where, query.cursor)
            page = await self._store.run_async(self._store.list(where, query.limit, after))
            jobs = [job for job in page.jobs if await self._access.may_read(request, job)]
        cursor = None if page.next is None else write_cursor(secret, where, page.next)
        return json_response(_page(jobs, base_path(request, 0), cursor))

    async def cancel(self, request: Request, job_id: JobId, children: Children = False) -> Response:
        """Revokes a queued job at once (200) and asks a running one to stop (202)."""
        async with _deadline():
            job = await self._visible(request, job_id)
            await self._access.check("cancel", request, job)
            change = await cancel_async(self._runtime, job_id, children=children)
            if change is None:
                raise job_not_found()
            if change.status in (JobStatus.SUCCESS, JobStatus.FAILED) and not children:
                raise _finished(change.status, self.finished_cancel_status)
            job = await self._visible(request, job_id)
        base = base_path(request, 1 if request.method == "DELETE" else 2)
        return job_response(request, job, base, status=202 if change.status is JobStatus.RUNNING else 200)

    async def events(self, request: Request, job_id: JobId) -> Response:
        """What happens to the job, as server-sent events, until its end."""
        after = last_event_id(request)
        async with _deadline():
            job = await self._visible(request, job_id)
        if after is not None and job.finished and after >= job.seq:
            return Response(status_code=204)
        feed = JobFeed(self._store, job.id, base_path(request, 2), after, self._stream_limits.ping_seconds)
        return EventStream(feed.encoded, self._stream_limits)

    async def stats(self, request: Request) -> Response:
        """How many jobs have which status; callers with jobs of their own see only those."""
        owner = self._access.owner(request)
        async with _deadline():
            stats = await self._store.run_async(self._store.stats(list(self._tasks), owner))
        return json_response(
            json_bytes(
                {
                    "statuses": stats.statuses,
                    "tasks": stats.tasks,
                    "queues": None if self._access.scoped else stats.queues,
                    "workers": len(stats.workers),
                }
            )
        )

    async def health(self) -> Response:
        """Whether store and broker answer, and how many workers report."""
        report = await self._health.report()
        if report["status"] != "ok":
            members = {name: report[name] for name in ("store", "broker", "workers")}
            raise Problem(UNHEALTHY, report["detail"], members=members)
        return json_response(json_bytes(report))

    @property
    def _store(self) -> JobStore:
        store = self._runtime.store
        if not self._announced:
            self._announced = True
            logger.info("aijobs serves the jobs in %s; tasks: %s", store.url, ", ".join(self._tasks) or "none")
        return store

    async def _visible(self, request: Request, job_id: str) -> Job:
        if len(job_id) > _LONGEST_ID or not job_id.isprintable():
            raise job_not_found()
        return await self._access.visible(request, await self._store.run_async(self._store.get(job_id)))

    async def _result(self, job: Job) -> bytes:
        if job.result_json is not None:
            return job.result_json.encode()
        text = await self._store.run_async(self._store.get_result(job.id))
        if text is None and job.result_bytes is not None:
            raise Problem(RESULT_EXPIRED, "The result is no longer kept. Submit the job again to have it.")
        return b"null" if text is None else text

    async def _signing_secret(self) -> bytes:
        if self._secret is None:
            self._secret = await self._store.run_async(self._store.secret())
        return self._secret

    def _complain_of_missing_workers(self) -> None:
        complaint = asyncio.create_task(self._health.complain_of_missing_workers())
        self._complaints.add(complaint)
        complaint.add_done_callback(self._complaints.discard)


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except TimeoutError:
        raise StoreUnavailable(f"The job store did not answer within {DEADLINE_SECONDS:g} s.") from None


def _canonical(args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """Arguments as JSON that is the same for the same content.

    Raises:
        Problem: a number is infinite, or none at all; JSON knows no such number.
    """
    try:
        return json.dumps([args, kwargs], sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise Problem(INVALID_REQUEST, "A number in the body is out of range.") from None


def _accepted(request: Request, job: Job, *, replayed: bool) -> Response:
    base = base_path(request, 1)
    path = job_path(base, job.id)
    headers = {"Location": path, **({"Idempotency-Replayed": "true"} if replayed else {})}
    extra = {"message": "The job was accepted. Ask status_url how far it is.", "status_url": path}
    return job_response(request, job, base, status=202, headers=headers, extra=extra)


def _no_result(job: Job) -> Problem:
    members = {"job_status": job.status, "error": None if job.error is None else job.error.to_dict()}
    if job.finished:
        return Problem(JOB_WITHOUT_RESULT, f"The job ended as {job.status}, without a result.", members=members)
    headers = {"Retry-After": str(retry_after(job))}
    return Problem(JOB_NOT_FINISHED, f"The job is {job.status}. Ask again later.", headers=headers, members=members)


def _finished(status: JobStatus, code: int) -> Problem:
    return Problem(JOB_FINISHED, f"The job has finished with {status}, so it cannot be cancelled.", status=code)


def _page(jobs: list[Job], base: str, cursor: str | None) -> bytes:
    listed = b",".join(job_json(job, base) for job in jobs)
    rest = json_bytes({"next_cursor": cursor, "has_more": cursor is not None})
    return b'{"jobs":[' + listed + b"]," + rest[1:]
