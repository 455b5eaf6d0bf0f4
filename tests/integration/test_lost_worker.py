"""A worker that is frozen, killed or not there: its job runs elsewhere, and what is cancelled does not run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from aijobs import JobStatus, cancel
from tests.helpers import wait_until

from .conftest import Fleet
from .fleet import begin, lines, stop_and_wait


def test_frozen_worker_loses_its_job(fleet: Fleet, log: str, tmp_path: Path) -> None:
    first = fleet.start()
    until = tmp_path / "until"
    job_id = begin(first, fleet, "report", log, str(until))
    first.until(job_id, lambda job: job.progress == 0.1, "a report")
    processes = [first.process.pid, *(child.pid for child in psutil.Process(first.process.pid).children())]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        second = fleet.start()
        second.until(job_id, lambda job: job.progress == 0.2, "the second attempt")
        seen = len(second.events(job_id))
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: lines(log, "LeaseLost"), "the first attempt to hear")
    until.touch()
    job = second.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, "attempt 2", 2)
    after = second.events(job_id)[seen:]
    assert all(event.data.get("progress") != 0.1 for event in after), "only the new attempt writes"
    assert first.process.poll() is None
    assert len(lines(log, "start")) == 2


@pytest.mark.parametrize("pool", ["prefork"])
def test_processes_die_with_their_worker(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool, "-c", "2")
    begin(worker, fleet, "work", log, 60.0)
    children = psutil.Process(worker.process.pid).children(recursive=True)
    assert children
    worker.process.kill()
    worker.process.wait()
    wait_until(
        lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), "it"
    )


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_keeper_dies_with_its_worker(fleet: Fleet, log: str, pool: str) -> None:
    worker = fleet.start(pool)
    children = psutil.Process(worker.process.pid).children(recursive=True)
    assert any("aijobs.broker.keeper" in child.cmdline() for child in children)
    worker.process.kill()
    worker.process.wait()
    wait_until(
        lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), "it"
    )


@pytest.mark.parametrize("kind", ["queued", "eta", "retrying"])
def test_cancelled_while_no_worker_runs(fleet: Fleet, log: str, kind: str) -> None:
    worker = fleet.start()
    if kind == "retrying":
        job_id = begin(worker, fleet, "later", log)
        worker.until(job_id, lambda job: job.status is JobStatus.QUEUED and job.attempt == 1, "the retry")
    assert stop_and_wait(worker) == 0
    if kind != "retrying":
        job_id = worker.send("work", log, 0, queue=fleet.queue, **({"countdown": 2} if kind == "eta" else {}))
    cancel(worker.app, job_id)
    assert worker.job(job_id).status is JobStatus.REVOKED
    before = len(lines(log, "start"))
    other = fleet.start()
    # What comes after it, and is due later, has run; so would it have.
    after = other.send("work", f"{log}.after", 0, queue=fleet.queue, countdown=4)
    assert other.end(after).status is JobStatus.SUCCESS
    assert len(lines(log, "start")) == before
    assert other.job(job_id).status is JobStatus.REVOKED
