"""Batches as the API shows them: JSON, its schema, and the schema of a submission."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, create_model

from aijobs.batches import member_id
from aijobs.http.batchitems import CustomId, ItemMetadata, ReadItem, by_name
from aijobs.http.envelope import Metadata
from aijobs.http.exposure import ExposedTask
from aijobs.http.problems import problem_members
from aijobs.http.render import job_path, polling_hint, seconds_until_progress, timestamp
from aijobs.http.schemas import JobProblem, StatusCounts
from aijobs.job import JobStatus
from aijobs.store.batches import Batch, BatchStatus, share_over

_EXAMPLE_ID = "5d0e9c8e-7f6a-4f0e-8c55-9b3d2f1a7e64"


class BatchCounts(StatusCounts):
    """The jobs of a batch by status."""

    total: int = Field(description="More than the others together while the submission goes on, or if it broke off.")


class BatchUrls(BaseModel):
    """Where to go on."""

    self: str
    events: str
    jobs: str
    cancel: str


class BatchDocument(BaseModel):
    """One batch at one moment. Times are RFC 3339 in UTC."""

    batch_id: str = Field(examples=[_EXAMPLE_ID])
    status: BatchStatus = Field(description="Completed says that all jobs are over, however they ended.")
    counts: BatchCounts
    progress: float = Field(ge=0, le=1, description="The share of its jobs that are over.", examples=[0.4])
    metadata: dict[str, str]
    rev: int = Field(description="Goes up by one with each change.")
    created_at: datetime
    cancel_requested_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None = Field(
        description="When it leaves the store, with its last job; null until completed."
    )
    urls: BatchUrls


class AcceptedItem(BaseModel):
    """An item that became a job."""

    custom_id: str
    job_id: str
    status_url: str = Field(description="Where to ask for the job.")


class RefusedItem(BaseModel):
    """An item that became none."""

    custom_id: str | None = Field(description="Null when the item has none that is valid.")
    problem: JobProblem


class BatchSubmission(BatchDocument):
    """A batch as its submission is answered."""

    message: str = Field(description="For people.")
    items: list[AcceptedItem | RefusedItem] = Field(description="In the order of the request.")


def submission_schema(prefix: str, tasks: Sequence[ExposedTask], max_items: int) -> type[BaseModel]:
    """The body that submits a batch, with an item for each task that can be in one.

    Args:
        prefix: of the router, whose items may differ from those of another.
        tasks: none of which takes files.
        max_items: at most.
    """
    names = by_name(tasks)
    kinds = [_item_schema(task, [name for name, one in names.items() if one is task]) for task in tasks]
    item: Any = kinds[0] if len(kinds) == 1 else Annotated[reduce(or_, kinds), Field(discriminator="task")]
    title = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", prefix))
    fields: dict[str, Any] = {
        "items": (list[item], Field(min_length=1, max_length=max_items)),
        "metadata": (Annotated[Metadata, Field(description="Kept with the batch, for your own use.")], {}),
    }
    doc = "Jobs to be submitted together."
    return create_model(f"{title}Batch", __config__=ConfigDict(extra="forbid"), __doc__=doc, **fields)


def _item_schema(task: ExposedTask, names: Sequence[str]) -> Any:
    known_as: Any = Literal[tuple(sorted(names, key=lambda name: name != task.segment))]
    fields: dict[str, Any] = {
        "custom_id": (CustomId, ...),
        "task": (known_as, Field(examples=[task.segment])),
        "input": (task.body.model, ... if task.body.required else Field(default_factory=_left_out)),
        "metadata": (ItemMetadata, {}),
    }
    config = ConfigDict(extra="forbid")
    doc = f"A job of the task {task.segment}, in a batch."
    return create_model(f"{task.title}BatchItem", __config__=config, __module__=task.module, __doc__=doc, **fields)


def batch_members(batch: Batch, base: str) -> dict[str, Any]:
    """The members of a batch's JSON object; `base` is the router's path."""
    return {
        "batch_id": batch.id,
        "status": batch.status,
        **count_members(batch.total, batch.counts),
        "metadata": dict(batch.metadata),
        "rev": batch.rev,
        "created_at": timestamp(batch.created_at),
        "cancel_requested_at": timestamp(batch.cancel_requested_at),
        "completed_at": timestamp(batch.completed_at),
        "expires_at": timestamp(batch.expires_at),
        "urls": _urls(batch, base),
    }


def item_members(batch: Batch, item: ReadItem, base: str) -> dict[str, Any]:
    """What became of an item."""
    if item.problem is not None:
        return {"custom_id": item.custom_id, "problem": problem_members(item.problem)}
    job_id = member_id(batch.id, str(item.custom_id))
    return {"custom_id": item.custom_id, "job_id": job_id, "status_url": job_path(base, job_id)}


def count_members(total: int, counts: Mapping[JobStatus, int]) -> dict[str, Any]:
    """The counts of a batch and what follows from them."""
    return {"counts": {"total": total, **counts}, "progress": round(share_over(total, counts), 6)}


def batch_path(base: str, batch_id: str) -> str:
    """The path of one batch."""
    return f"{base}/batches/{quote(batch_id, safe='')}"


def batch_headers(batch: Batch) -> dict[str, str]:
    """Entity tag and polling hint."""
    tag = {"ETag": f'"{zlib.crc32(batch.id.encode()):08x}-{batch.rev}"'}
    if batch.finished:
        return tag
    seconds = seconds_until_progress(datetime.now(UTC) - batch.created_at, batch.progress)
    return {**tag, "Retry-After": str(polling_hint(batch.id, seconds, 15))}


def _urls(batch: Batch, base: str) -> dict[str, str]:
    path = batch_path(base, batch.id)
    # Without a prefix of the router's own, the list is at the path with a slash only.
    jobs = f"{base}/?batch_id={quote(batch.id, safe='')}"
    return {"self": path, "events": f"{path}/events", "jobs": jobs, "cancel": f"{path}/cancel"}


def _left_out() -> None:
    return None
