"""What `run_job` says of a job is what a real worker makes of it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aijobs import Job, JobEvent
from aijobs.job import EventType, Output
from aijobs.testing import JobRun, Worker, crash_at, run_job, start_test_server, start_worker
from aijobs.testing.jobrun import timeline
from aijobs.testing.servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_test_server() as server:
        yield server


@pytest.fixture(scope="module")
def tasks() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "apps"))
        yield importlib.import_module("parity_app")


@pytest.fixture(scope="class")
def worker(server: Server, tasks: Any) -> Iterator[Worker]:
    with start_worker(tasks.app, server, pool="solo") as worker:
        yield worker


def compare(run: JobRun, job: Job, events: Sequence[JobEvent], output: Output) -> None:
    assert (run.status, run.result, run.attempts) == (job.status, job.result, job.attempt)
    assert run.error == job.error
    assert words(run.events) == words(events)
    assert (run.output.pieces, run.output.text) == (list(output.pieces), output.text)
    for kind in (EventType.LOG, EventType.ATTEMPT, EventType.STATUS):
        assert told(kind, run.events) == told(kind, events)


def words(events: Sequence[JobEvent]) -> list[str]:
    # Progress is collected: that of a fast task comes with its end.
    return [word for word in timeline(events) if word != "progress"]


def told(kind: EventType, events: Sequence[JobEvent]) -> list[dict[str, Any]]:
    """What the events of a kind have, without what differs from job to job."""
    differing = {"seq", "job_id", "scheduled_at", "scheduled_us"}
    return [
        {name: value for name, value in event.data.items() if name not in differing}
        for event in events
        if event.type is kind
    ]


class TestEnds:
    @pytest.mark.parametrize(
        ("name", "args"),
        [
            ("succeed", [{"number": 1}]),
            ("succeed", [{"number": "one"}]),
            ("fail", []),
            ("be_odd", []),
            ("retry", [2]),
            ("retry", [64]),
            ("retry_in_vain", []),
            ("wait", []),
            ("ask_with_wrong_key", []),
            ("reject", []),
            ("ignore", []),
            ("keep_quiet", []),
        ],
    )
    def test_it_ends_alike(self, worker: Worker, tasks: Any, name: str, args: list[Any]) -> None:
        task = getattr(tasks, name)
        job = worker.run(task, *args)
        compare(run_job(task, *args), job, worker.events(job), worker.output(job))


def test_a_killed_worker_is_alike(server: Server, tasks: Any) -> None:
    with start_worker(tasks.app, server, pool="solo", crash=crash_at("second")) as worker:
        job_id = worker.submit(tasks.be_killed)
        worker.wait()
        job = worker.restart().wait_for(job_id)
        events, output = worker.events(job), worker.output(job)
    with crash_at("second"):
        compare(run_job(tasks.be_killed), job, events, output)
