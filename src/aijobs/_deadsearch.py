"""Finding dead letters in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from aijobs._procedure import Procedure
from aijobs.job import ErrorCode, Job, JobStatus
from aijobs.store.base import JobStore
from aijobs.store.record import to_us
from aijobs.store.values import JobFilter, Position

#: Dead letters fetched at once; each may hold as many bytes of arguments as `AIJOBS_ARGUMENTS_BYTES` allows.
PAGE_SIZE = 25


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant; everything left out matches all."""

    task: str | None = None
    code: ErrorCode | None = None
    owner: str | None = None
    #: Submitted, or replayed last, at this time or later.
    created_after: datetime | None = None
    #: Submitted, or replayed last, before this time.
    created_before: datetime | None = None
    #: Failed at this time or later.
    failed_after: datetime | None = None
    #: Failed before this time.
    failed_before: datetime | None = None
    ids: frozenset[str] = frozenset()

    def matches(self, job: Job) -> bool:
        """Whether a job is a dead letter that is meant."""
        return (
            job.status is JobStatus.FAILED
            and self.task in (None, job.task)
            and self.code in (None, job.error and job.error.code)
            and self.owner in (None, job.owner)
            and (not self.ids or job.id in self.ids)
            and _is_within(job.created_at, self.created_after, self.created_before)
            and _is_within(job.completed_at or job.created_at, self.failed_after, self.failed_before)
        )

    @property
    def listing(self) -> JobFilter:
        """What the store can filter by; `matches` decides."""
        # What failed before a time was submitted before it.
        bounds = [bound for bound in (self.created_before, self.failed_before) if bound is not None]
        return JobFilter(
            owner=self.owner,
            task=self.task,
            statuses=frozenset({JobStatus.FAILED}),
            created_after=self.created_after,
            created_before=min(bounds, default=None),
        )


#: Every dead letter.
ALL = DeadLetterFilter()


class Search:
    """Goes through dead letters page by page, newest first.

    A job that is replayed is listed as the newest from then on, so whoever goes on from here does not meet it again.

    Args:
        store: which holds the jobs.
        where: which ones.
        limit: how many at most; None is all.
        after: where an earlier search ended.

    Attributes:
        goes_on: whether there may be another page.
        position: where the next one begins, beyond the limit as well; None at the end, and when ids are named.
    """

    def __init__(
        self, store: JobStore, where: DeadLetterFilter, limit: int | None, after: Position | None = None
    ) -> None:
        self.goes_on = limit is None or limit > 0
        self.position = after
        self._store = store
        self._where = where
        self._left = limit
        self._ids = iter(sorted(where.ids))

    def page(self) -> Procedure[Sequence[Job]]:
        """The next few, or none although it goes on."""
        found = yield from (self._named() if self._where.ids else self._listed())
        matching = [job for job in found if self._where.matches(job)]
        return matching if self._left is None else self._within(self._left, matching)

    def _within(self, limit: int, matching: Sequence[Job]) -> Sequence[Job]:
        taken = matching[:limit]
        if len(taken) < len(matching):
            self.position = Position(to_us(taken[-1].created_at), taken[-1].id)
        self._left = limit - len(taken)
        self.goes_on = self.goes_on and self._left > 0
        return taken

    def _named(self) -> Procedure[Sequence[Job]]:
        ids = list(islice(self._ids, PAGE_SIZE))
        self.goes_on = len(ids) == PAGE_SIZE
        found: list[Job] = []
        for job_id in ids:
            job = yield self._store.get(job_id)
            found += [job] if job else []
        return found

    def _listed(self) -> Procedure[Sequence[Job]]:
        page = yield self._store.list(self._where.listing, PAGE_SIZE, self.position)
        self.position = page.next
        self.goes_on = page.next is not None
        jobs: Sequence[Job] = page.jobs
        return jobs


def _is_within(moment: datetime, begin: datetime | None, end: datetime | None) -> bool:
    return (begin is None or moment >= begin) and (end is None or moment < end)
