"""A job's history: what is in it, and reading on from anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from aijobs import ErrorCode, EventType, JobStatus
from aijobs.store.base import JobStore
from aijobs.store.values import Failure, NewJob, ProgressWrite
from tests.helpers import Run, claim, new_job

from .conftest import MakeStore


@pytest.fixture
def new(run: Run, store: JobStore) -> NewJob:
    new = new_job()
    run(store.create(new))
    return new


def told(run: Run, store: JobStore, new: NewJob, after: int = 0) -> list[tuple[EventType, dict[str, Any]]]:
    return [(event.type, dict(event.data)) for event in run(store.events(new.id, after))]


def test_a_whole_life(run: Run, store: JobStore, new: NewJob) -> None:
    due = datetime(2100, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    failure = Failure(ErrorCode.TIME_LIMIT, "too slow")
    run(store.start(claim(new)))
    run(store.report(claim(new), ProgressWrite(0.123_456_789, '{"current": 1, "message": "✓ \\""}')))
    run(store.report(claim(new), ProgressWrite(None, "{}")))
    run(store.requeue(claim(new), failure, due))
    run(store.start(claim(new, "second", retries=1)))
    run(store.cancel(new.id))
    run(store.finish(claim(new, "second"), JobStatus.REVOKED))
    assert told(run, store, new) == [
        (EventType.STATUS, {"status": "queued", "attempt": 0}),
        (EventType.STATUS, {"status": "running", "attempt": 1}),
        (EventType.PROGRESS, {"progress": 0.123457, "progress_detail": {"current": 1, "message": '✓ "'}}),
        (EventType.PROGRESS, {"progress": None, "progress_detail": {}}),
        (
            EventType.STATUS,
            {
                "status": "queued",
                "attempt": 1,
                "error_code": "time_limit",
                "scheduled_at": "2100-01-02T03:04:05.678Z",
            },
        ),
        (EventType.ATTEMPT, {"attempt": 2}),
        (EventType.STATUS, {"status": "running", "attempt": 2}),
        (EventType.STATUS, {"status": "running", "attempt": 2, "cancel_requested": True}),
        (EventType.COMPLETED, {"status": "revoked", "attempt": 2}),
    ]


def test_reading_on_gives_each_event_once_and_in_order(run: Run, store: JobStore, new: NewJob) -> None:
    run(store.start(claim(new)))
    for done in range(20):
        run(store.report(claim(new), ProgressWrite(done / 20, "{}")))
    seen: list[int] = []
    while page := run(store.events(new.id, seen[-1] if seen else 0, limit=3)):
        assert len(page) <= 3
        seen += [event.seq for event in page]
    assert seen == list(range(1, 23))
    job = run(store.get(new.id))
    assert job is not None
    assert job.seq == 22


def test_there_is_nothing_after_the_end(run: Run, store: JobStore, new: NewJob) -> None:
    assert run(store.events(new.id, after=1)) == []
    assert run(store.events(new.id, after=10**15)) == []


def test_old_events_are_trimmed_and_the_newest_stay(run: Run, make_store: MakeStore) -> None:
    store = make_store(max_events=10)
    new = new_job()
    for _ in range(1_000):
        store.run(store.report(claim(new), ProgressWrite(None, "{}")))
    store.run(store.finish(claim(new), JobStatus.SUCCESS))
    seen = [event.seq for event in run(store.events(new.id, limit=1_000))]
    assert len(seen) < 300
    assert seen == list(range(seen[0], 1_004))


def test_of_long_events_fewer_are_given_but_two_at_least(run: Run, store: JobStore, new: NewJob) -> None:
    for _ in range(5):
        run(store.report(claim(new), ProgressWrite(None, f'{{"message": "{"x" * 1_000}"}}')))
    after = 3
    assert len(run(store.events(new.id, after))) > 3
    assert len(run(store.events(new.id, after, most_bytes=3_500))) == 3
    assert len(run(store.events(new.id, after, most_bytes=1))) == 2
    assert len(run(store.events(new.id, after, limit=1, most_bytes=1))) == 1
