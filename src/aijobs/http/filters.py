"""Which jobs, and which dead letters, a client means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from aijobs._deadsearch import ALL, DeadLetterFilter
from aijobs.http.exposure import ExposedTask
from aijobs.job import ErrorCode, JobStatus
from aijobs.store.values import JobFilter

#: Other words for the statuses, as clients of other job APIs know them.
_SYNONYMS = {
    "pending": JobStatus.QUEUED,
    "processing": JobStatus.RUNNING,
    "started": JobStatus.RUNNING,
    "completed": JobStatus.SUCCESS,
    "succeeded": JobStatus.SUCCESS,
    "failure": JobStatus.FAILED,
    "cancelled": JobStatus.REVOKED,
    "canceled": JobStatus.REVOKED,
}


#: What a time in RFC 3339 begins with.
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _canonical_status(given: Any) -> Any:
    return _SYNONYMS.get(given.lower(), given.lower()) if isinstance(given, str) else given


def _written_out(given: Any) -> Any:
    # pydantic takes numbers as well: seconds or milliseconds since 1970, whichever seems likelier.
    if isinstance(given, int | float) or (isinstance(given, str) and not _DATE.match(given)):
        raise ValueError("Input should be a time as in 2026-01-31T12:00:00Z")
    return given


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Status = Annotated[JobStatus, BeforeValidator(_canonical_status)]
Moment = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(_aware)]

TaskName = Annotated[str | None, Field(description="Of this task only: its name in the path, or its registered name.")]
Owner = Annotated[str | None, Field(min_length=1)]
CreatedAfter = Annotated[Moment | None, Field(description="Created at this time (UTC by default) or later.")]
CreatedBefore = Annotated[Moment | None, Field(description="Created before this time.")]
Cursor = Annotated[str | None, Field(description="`next_cursor` of the page before, with the same filters.")]


class ListQuery(BaseModel):
    """Which jobs to list, and which page of them."""

    status: list[Status] = Field([], description="May be repeated: jobs with any of these statuses.")
    task: TaskName = None
    batch_id: str | None = Field(None, description="Of this batch only.")
    owner: Owner = Field(None, description="For admins: of this owner only.")
    created_after: CreatedAfter = None
    created_before: CreatedBefore = None
    limit: int = Field(50, ge=1, le=100, description="At most so many jobs.")
    cursor: Cursor = None

    def filter(self, owner: str | None, tasks: Iterable[ExposedTask]) -> JobFilter:
        """What to ask the store for."""
        return JobFilter(
            owner=owner,
            task=_registered_name(self.task, tasks),
            statuses=frozenset(self.status),
            batch_id=self.batch_id,
            created_after=self.created_after,
            created_before=self.created_before,
        )


class DeadLetterQuery(BaseModel):
    """Which dead letters are meant."""

    task: TaskName = None
    code: ErrorCode | None = Field(None, description="That failed with this `error.code`.")
    owner: Owner = Field(None, description="Of this owner only.")
    failed_after: Moment | None = Field(None, description="Failed at this time (UTC by default) or later.")
    failed_before: Moment | None = Field(None, description="Failed before this time.")
    created_after: CreatedAfter = None
    created_before: CreatedBefore = None

    @property
    def chooses(self) -> bool:
        """Whether not every dead letter is meant."""
        return self.filter(()) != ALL

    def filter(self, tasks: Iterable[ExposedTask]) -> DeadLetterFilter:
        """What to search for."""
        return DeadLetterFilter(
            task=_registered_name(self.task, tasks),
            code=self.code,
            owner=self.owner,
            created_after=self.created_after,
            created_before=self.created_before,
            failed_after=self.failed_after,
            failed_before=self.failed_before,
        )


class PagedDeadLetters(DeadLetterQuery):
    """Which dead letters to list, and which page of them."""

    limit: int = Field(50, ge=1, le=100, description="At most so many jobs.")
    cursor: Cursor = None


class DeadLetterAction(PagedDeadLetters):
    """With which dead letters to do something."""

    all: bool = Field(False, description="Every dead letter is meant; needed when there is no filter.")
    dry_run: bool = Field(False, description="Only count.", examples=[True])
    limit: int = Field(500, ge=1, le=500, description="At most so many jobs; `next_cursor` leads to the rest.")


class DeadLetterRetry(DeadLetterAction):
    """Which dead letters to run again."""

    # A filter that is misspelt must not mean more jobs.
    model_config = ConfigDict(extra="forbid")


def _registered_name(task: str | None, tasks: Iterable[ExposedTask]) -> str | None:
    names = {one.segment: one.name for one in tasks}
    return None if task is None else names.get(task, task)
