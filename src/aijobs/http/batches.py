"""Many jobs as one: submitted, asked for, followed and cancelled together."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator, create_model
from starlette.responses import Response

from aijobs.batches import cancel_batch_async, submit_members
from aijobs.errors import AijobsError, ConfigurationError, IdempotencyConflict, PublishFailed, StoreUnavailable
from aijobs.http import batchdocs
from aijobs.http.batchfeed import BatchSubject
from aijobs.http.batchitems import ItemReader, ReadItems
from aijobs.http.batchshapes import (
    batch_headers,
    batch_members,
    batch_path,
    item_members,
    submission_schema,
)
from aijobs.http.envelope import Metadata
from aijobs.http.events import Streams
from aijobs.http.exposure import ExposedTask
from aijobs.http.feed import last_event_id
from aijobs.http.health import HealthCheck
from aijobs.http.idempotency import HEADER, read_idempotency
from aijobs.http.operations import Operation
from aijobs.http.problems import BATCH_NOT_FOUND, PUBLISH_FAILED, RETRY_AFTER_SECONDS, STORE_UNAVAILABLE, Problem
from aijobs.http.render import View, json_bytes, json_response, unless_known
from aijobs.http.service import JobService, deadline, is_possible_id
from aijobs.http.sse import StreamLimits
from aijobs.job import Job, JobStatus
from aijobs.store.batches import Batch, NewBatch
from aijobs.store.values import JobFilter

#: Where idempotency keys of batches count; no task has this name.
_SCOPE = "POST /batches"
#: So many jobs are read at a time.
_PAGE = 100

BatchId = Annotated[str, Path(description="As `batch_id` of the submission's answer.")]


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """What a submission may have at most."""

    items: int
    #: Of the whole request.
    bytes: int
    #: Of the input of one item.
    input_bytes: int

    def __post_init__(self) -> None:
        for name, value in (("items", self.items), ("bytes", self.bytes)):
            if value < 1:
                raise ConfigurationError(f"job_router(max_batch_{name}={value!r}): at least 1 is needed.")


class Batches:
    """The routes about batches.

    Args:
        service: of the router.
        tasks: that have a route.
        prefix: of the router.
        bounds: of submissions.
        limits: of event streams.
        health: is asked for workers when a batch was submitted.
    """

    def __init__(
        self,
        service: JobService,
        tasks: Sequence[ExposedTask],
        prefix: str,
        bounds: BatchBounds,
        limits: StreamLimits,
        health: HealthCheck,
    ) -> None:
        self._service = service
        self._tasks = [task for task in tasks if not task.body.files]
        self._items = ItemReader(tasks, bounds.input_bytes)
        self._prefix = prefix
        self._bounds = bounds
        self._health = health
        self._streams = Streams(limits)

    def operations(self) -> Iterator[Operation]:
        """The operations; without a task that takes JSON there is none that submits."""
        if self._tasks:
            described, bound = batchdocs.submit(), self._bounds.bytes
            yield Operation("create_batch", "POST", "/batches", self._submission(), described, max_body_bytes=bound)
        one = "/batches/{batch_id}"
        yield Operation("get_batch", "GET", one, self.get, batchdocs.read(), has_head=True)
        yield Operation("delete_batch", "DELETE", one, self.cancel, batchdocs.cancel())
        yield Operation("cancel_batch", "POST", f"{one}/cancel", self.cancel, batchdocs.cancel())
        yield Operation("batch_events", "GET", f"{one}/events", self.events, batchdocs.follow())

    async def submit(self, request: Request, sent: _Sent) -> Response:
        """Makes a job of each item that fits its task."""
        service = self._service
        await service.access.check_submission(request)
        read = await self._items.read(sent.items)
        if not read.jobs:
            raise read.refusal()
        owner = service.access.owner(request)
        idempotency = read_idempotency(request, _SCOPE, owner, read.content(sent.metadata))
        new = NewBatch(str(uuid.uuid4()), len(read.jobs), owner, sent.metadata, idempotency)
        reply = await service.store.run_async(service.store.create_batch(new))
        if reply.batch is None:
            raise IdempotencyConflict
        batch = reply.batch if reply.batch.submitted else await self._fill(reply.batch, read, bool(idempotency))
        return self._accepted(request, batch, read, replayed=batch.id != new.id)

    async def get(self, request: Request, batch_id: BatchId) -> Response:
        """How many of its jobs have which status. Ask again after `Retry-After` seconds, or follow its events."""
        async with deadline():
            batch = await self._visible(request, batch_id)
        return _response(request, batch, self._service.access.view(request, 2))

    async def cancel(self, request: Request, batch_id: BatchId) -> Response:
        """Revokes its queued jobs at once (200) and asks the running ones to stop (202)."""
        async with deadline():
            await self._visible(request, batch_id)
            await self._check_cancel(request, batch_id)
            batch = await cancel_batch_async(self._service.runtime, batch_id)
        if batch is None:
            raise _batch_not_found()
        view = self._service.access.view(request, 2 if request.method == "DELETE" else 3)
        return _response(request, batch, view, status=200 if batch.finished else 202)

    async def events(self, request: Request, batch_id: BatchId) -> Response:
        """What happens to its jobs, as server-sent events, until the last one is over."""
        after = last_event_id(request)
        async with deadline():
            batch = await self._visible(request, batch_id)
        view = self._service.access.view(request, 3)
        return self._streams.answer(BatchSubject(self._service.store, batch), batch, view, after)

    async def _visible(self, request: Request, batch_id: str) -> Batch:
        """A batch that the caller may see.

        Raises:
            Problem: 404, for batches of others as for ids that nobody knows.
        """
        store, owner = self._service.store, self._service.access.owner_seen(request)
        batch = await store.run_async(store.get_batch(batch_id)) if is_possible_id(batch_id) else None
        if batch is None or owner not in (None, batch.owner):
            raise _batch_not_found()
        return batch

    async def _check_cancel(self, request: Request, batch_id: str) -> None:
        """Lets a cancel pass when the caller may cancel each job that is not over.

        Raises:
            Problem: 403, and nothing is cancelled.
        """
        access = self._service.access
        if access.decides_on_jobs(request):
            async for job in self._unfinished(batch_id):
                await access.check("cancel", request, job)

    async def _unfinished(self, batch_id: str) -> AsyncIterator[Job]:
        store = self._service.store
        where = JobFilter(batch_id=batch_id, statuses=frozenset({JobStatus.QUEUED, JobStatus.RUNNING}))
        after = None
        while True:
            page = await store.run_async(store.list(where, _PAGE, after))
            for job in page.jobs:
                yield job
            if (after := page.next) is None:
                return

    async def _fill(self, batch: Batch, read: ReadItems, is_repeatable: bool) -> Batch:
        """Submits what of a batch was not submitted yet.

        Raises:
            Problem: 503, with what there is by then.
        """
        try:
            filled = await submit_members(self._service.runtime, batch, read.jobs)
        except (StoreUnavailable, PublishFailed) as error:
            raise _broken_off(batch, error, is_repeatable) from error
        return filled or batch

    def _accepted(self, request: Request, batch: Batch, read: ReadItems, *, replayed: bool) -> Response:
        view = self._service.access.view(request, 1)
        items = [item_members(batch, one, view.base) for one in read.items]
        message = f"{len(read.jobs)} of {len(items)} items were accepted."
        headers = {
            "Location": batch_path(view.base, batch.id),
            **({"Idempotency-Replayed": "true"} if replayed else {}),
        }
        extra = {"message": message, "items": items}
        self._health.look_for_workers()
        return _response(request, batch, view, status=202, headers=headers, extra=extra)

    def _submission(self) -> Callable[..., Any]:
        """The endpoint that submits; its items are read one by one, so its type is for OpenAPI only."""
        items: Any = (list[Any], Field(min_length=1, max_length=self._bounds.items))
        sent = create_model("Batch", __base__=_Sent, items=items)

        def validate(body: Any, _: ValidatorFunctionWrapHandler) -> _Sent:
            return sent.model_validate(body)

        async def submit(request: Request, body: Any) -> Response:
            return await self.submit(request, body)

        schema = submission_schema(self._prefix, self._tasks, self._bounds.items)
        body_type: Any = Annotated[schema, WrapValidator(validate), Body()]
        submit.__signature__ = Signature(  # type: ignore[attr-defined]
            [
                Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=Request),
                Parameter("body", Parameter.KEYWORD_ONLY, annotation=body_type),
            ]
        )
        return submit


class _Sent(BaseModel):
    """A submission, but for its items."""

    model_config = ConfigDict(extra="forbid")

    items: list[Any]
    metadata: Metadata = {}


def _response(
    request: Request,
    batch: Batch,
    view: View,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """The response that shows a batch, or 304 when the client has it."""
    told = {**batch_headers(batch), **(headers or {})}
    shown = json_bytes({**batch_members(batch, view.base), **(extra or {})})
    return unless_known(request, told) or json_response(shown, told, status)


def _batch_not_found() -> Problem:
    """What is said of unknown batches and of other owners' batches alike."""
    return Problem(BATCH_NOT_FOUND, "No batch has this id: it was never submitted here, or its retention has passed.")


def _broken_off(batch: Batch, error: AijobsError, is_repeatable: bool) -> Problem:
    """What is said when some of a batch was submitted."""
    kind = PUBLISH_FAILED if isinstance(error, PublishFailed) else STORE_UNAVAILABLE
    remedy = f"Send it again with the same {HEADER}" if is_repeatable else f"Without an {HEADER} it cannot go on"
    detail = f"The batch was submitted in part. {remedy}."
    return Problem(kind, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}, members={"batch_id": batch.id})
