"""Pages of jobs: complete, without doubles, newest first, whatever is filtered and wherever the page ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from aijobs import Job, JobStatus
from aijobs.store.base import JobStore
from aijobs.store.record import to_us
from aijobs.store.redis import SCAN_BUDGET, RedisStore
from aijobs.store.values import JobFilter, Position
from tests.helpers import Run, claim, new_job

OWNERS = ("alice", "bob", None)
TASKS = ("embed", "ingest")
STATUSES = tuple(JobStatus)


def pages(run: Run, store: JobStore, where: JobFilter, limit: int) -> list[Sequence[Job]]:
    found, position = [], None
    while True:
        page = run(store.list(where, limit, position))
        assert len(page.jobs) <= limit
        found.append(page.jobs)
        if page.next is None:
            return found
        position = page.next


def listed(run: Run, store: JobStore, where: JobFilter, limit: int) -> list[Job]:
    return [job for page in pages(run, store, where, limit) for job in page]


def bring_to(run: Run, store: JobStore, status: JobStatus, **known: Any) -> Job:
    """A new job that has come to a status."""
    new = new_job(**known)
    run(store.create(new))
    if status is not JobStatus.QUEUED:
        run(store.start(claim(new)))
    if status.finished:
        run(store.finish(claim(new), status))
    job = run(store.get(new.id))
    assert job is not None
    return replace(job, queue_position=None)


@pytest.fixture
def population(run: Run, store: JobStore) -> list[Job]:
    """Jobs of all owners, tasks and statuses, newest first."""
    kinds = itertools.product(OWNERS, TASKS, STATUSES)
    return [
        bring_to(run, store, status, owner=owner, task=task, batch_id=f"batch-{number % 2}")
        for number, (owner, task, status) in enumerate(kinds)
    ][::-1]


FILTERS: dict[str, JobFilter] = {
    "everything": JobFilter(),
    "owner": JobFilter(owner="alice"),
    "task": JobFilter(task="embed"),
    "status": JobFilter(statuses=frozenset({JobStatus.FAILED})),
    "statuses": JobFilter(statuses=frozenset({JobStatus.RUNNING, JobStatus.SUCCESS, JobStatus.REVOKED})),
    "batch": JobFilter(batch_id="batch-1"),
    "owner and task": JobFilter(owner="bob", task="ingest"),
    "owner, task and statuses": JobFilter("bob", "ingest", frozenset({JobStatus.QUEUED, JobStatus.FAILED})),
    "all of a batch": JobFilter("alice", "embed", frozenset({JobStatus.QUEUED}), "batch-0"),
    "nobody": JobFilter(owner="nobody"),
    "no batch": JobFilter(batch_id="unknown"),
}


def matches(job: Job, where: JobFilter) -> bool:
    return (
        where.owner in (None, job.owner)
        and where.task in (None, job.task)
        and (not where.statuses or job.status in where.statuses)
        and where.batch_id in (None, job.batch_id)
    )


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_all_that_matches_is_listed_newest_first(run: Run, store: JobStore, population: list[Job], limit: int) -> None:
    for name, where in FILTERS.items():
        assert listed(run, store, where, limit) == [job for job in population if matches(job, where)], name


def test_an_empty_store_has_one_empty_page(run: Run, store: JobStore) -> None:
    assert pages(run, store, JobFilter(), 10) == [[]]


def test_the_last_page_says_so_even_when_it_is_full(run: Run, store: JobStore) -> None:
    for _ in range(4):
        run(store.create(new_job()))
    assert [len(page) for page in pages(run, store, JobFilter(), 2)] == [2, 2]


@pytest.mark.parametrize("limit", [2, 100])
def test_a_span_of_time_begins_with_its_first_moment_and_ends_before_its_last(
    run: Run, store: JobStore, population: list[Job], limit: int
) -> None:
    newest, oldest = population[5], population[15]
    span = JobFilter(created_after=oldest.created_at, created_before=newest.created_at)
    assert listed(run, store, span, limit) == population[6:16]


def test_a_span_of_time_may_be_empty(run: Run, store: JobStore, population: list[Job]) -> None:
    later = population[0].created_at + timedelta(days=1)
    assert listed(run, store, JobFilter(created_after=later), 10) == []
    assert listed(run, store, JobFilter(created_before=population[-1].created_at), 10) == []


def test_jobs_that_come_and_change_meanwhile_do_not_shift_the_pages(
    run: Run, store: JobStore, population: list[Job]
) -> None:
    first = run(store.list(JobFilter(), 10))
    run(store.create(new_job()))
    run(store.start(claim(new_job(population[3].id), "late")))
    rest: list[str] = []
    position = first.next
    while position is not None:
        page = run(store.list(JobFilter(), 10, position))
        rest += [job.id for job in page.jobs]
        position = page.next
    assert rest == [job.id for job in population[10:]]


def test_a_position_may_name_a_job_that_is_gone(run: Run, store: JobStore, population: list[Job]) -> None:
    between = Position(to_us(population[4].created_at) - 1, "gone")
    assert run(store.list(JobFilter(), 1, between)).jobs == [population[5]]


class TestTies:
    """Jobs that were created in the same microsecond."""

    @pytest.fixture
    def tied(self, redis_store: RedisStore, redis_client: redis.Redis) -> list[str]:
        """Ids of jobs of one moment, between an older and a newer one, as they should be listed."""
        new = [new_job(f"job-{number:03}") for number in range(40)]
        for number, job in enumerate(new):
            redis_store.run(redis_store.create(job))
            if number % 2:
                redis_store.run(redis_store.start(claim(job)))
        moment = to_us(self.created_at(redis_store, new[20].id))
        for listing in redis_client.scan_iter("aijobs:jobs:*"):
            for job in new[1:-1]:
                redis_client.zadd(listing, {job.id: moment}, xx=True)
        return [job.id for job in reversed(new)]

    def created_at(self, store: RedisStore, job_id: str) -> datetime:
        job = store.run(store.get(job_id))
        assert job is not None
        return job.created_at

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 37, 38, 39, 100])
    def test_they_are_listed_once_each(self, redis_store: RedisStore, tied: list[str], limit: int) -> None:
        found = listed(redis_store.run, redis_store, JobFilter(), limit)
        assert [job.id for job in found] == tied


def test_a_request_looks_at_a_bounded_number_of_jobs(redis_store: RedisStore) -> None:
    """A rare match in a large batch gives short or empty pages that lead on to it."""
    for number in range(SCAN_BUDGET + 500):
        owner = "alice" if number in (3, 700) else "bob"
        redis_store.run(redis_store.create(new_job(f"job-{number:05}", owner=owner, batch_id="large")))
    found = pages(redis_store.run, redis_store, JobFilter(owner="alice", batch_id="large"), 10)
    assert [[job.id for job in page] for page in found] == [["job-00700"], ["job-00003"]]


def test_records_that_have_left_are_passed_over(redis_store: RedisStore, redis_client: redis.Redis) -> None:
    new = [new_job() for _ in range(5)]
    for job in new:
        redis_store.run(redis_store.create(job))
    redis_client.delete(f"aijobs:job:{new[2].id}")
    found = listed(redis_store.run, redis_store, JobFilter(), 2)
    assert [job.id for job in found] == [new[number].id for number in (4, 3, 1, 0)]
