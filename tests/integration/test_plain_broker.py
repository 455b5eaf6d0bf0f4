"""Brokers that lease nothing: a lost worker's jobs run again all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from aijobs import JobStatus
from aijobs.embedded import start_server

from .conftest import Worker, running_worker, short_lease


@pytest.fixture
def url() -> Iterator[str]:
    with start_server(use_environment=False) as server:
        yield server.url


def test_a_lost_workers_job_is_published_again(url: str, folder: Path, tmp_path: Path) -> None:
    until = tmp_path / "until"

    def start(name: str) -> AbstractContextManager[Worker]:
        return running_worker("plain_broker_app", folder, short_lease(url), "prefork", "-c", "1", "-n", name)

    with start("first@host") as first:
        job_id = first.send("wait_for", str(until))
        first.until(job_id, lambda job: job.status is JobStatus.RUNNING, "the start")
        first.process.kill()
    with start("second@host") as second:
        second.until(job_id, lambda job: job.attempt == 2, "the second attempt")
        until.touch()
        job = second.end(job_id)
    assert (job.status, job.result, job.lost_deliveries) == (JobStatus.SUCCESS, "done", 1)
