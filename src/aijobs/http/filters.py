"""The parameters of the job list."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from aijobs.http.exposure import ExposedTask
from aijobs.job import JobStatus
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


def _canonical_status(given: Any) -> Any:
    return _SYNONYMS.get(given.lower(), given.lower()) if isinstance(given, str) else given


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Status = Annotated[JobStatus, BeforeValidator(_canonical_status)]
Moment = Annotated[datetime, AfterValidator(_aware)]


class ListQuery(BaseModel):
    """Which jobs to list, and which page of them."""

    status: list[Status] = Field([], description="May be repeated: jobs with any of these statuses.")
    task: str | None = Field(None, description="Of this task only: its name in the path, or its registered name.")
    batch_id: str | None = Field(None, description="Of this batch only.")
    created_after: Moment | None = Field(None, description="Created at this time (UTC by default) or later.")
    created_before: Moment | None = Field(None, description="Created before this time.")
    limit: int = Field(50, ge=1, le=100, description="At most so many jobs.")
    cursor: str | None = Field(None, description="`next_cursor` of the page before, with the same filters.")

    def filter(self, owner: str | None, tasks: Iterable[ExposedTask]) -> JobFilter:
        """What to ask the store for."""
        names = {task.segment: task.name for task in tasks}
        return JobFilter(
            owner=owner,
            task=None if self.task is None else names.get(self.task, self.task),
            statuses=frozenset(self.status),
            batch_id=self.batch_id,
            created_after=self.created_after,
            created_before=self.created_before,
        )
