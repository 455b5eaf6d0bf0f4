"""What the sweep of uploaded files asks of the store."""

from __future__ import annotations

import uuid

from aijobs.job import JobStatus
from aijobs.store import JobStore
from tests.helpers import Run, claim, new_job, wait_until


def test_jobs_with_a_record_are_told_from_others(run: Run, store: JobStore) -> None:
    queued, running, finished, gone = (new_job() for _ in range(4))
    for job in (queued, running, finished, gone):
        run(store.create(job))
    for job in (running, finished, gone):
        run(store.start(claim(job)))
    for job in (finished, gone):
        run(store.finish(claim(job), JobStatus.SUCCESS))
    run(store.delete(gone.id))
    asked = [queued.id, running.id, finished.id, gone.id, str(uuid.uuid4()), "odd:\n*?"]
    assert run(store.existing(asked)) == {queued.id, running.id, finished.id}


def test_no_jobs(run: Run, store: JobStore) -> None:
    assert run(store.existing([])) == frozenset()


def test_one_has_its_turn_at_a_time(run: Run, store: JobStore) -> None:
    assert run(store.take_turn("files", 60))
    assert not run(store.take_turn("files", 60))
    assert run(store.take_turn("other", 0.01))
    wait_until(lambda: run(store.take_turn("other", 60)), "the next turn")
