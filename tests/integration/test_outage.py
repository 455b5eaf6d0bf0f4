"""Redis away: callers hear it at once, workers live through it and go on when it returns."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aijobs import JobStatus, StoreUnavailable, cancel, submit
from aijobs.embedded import EmbeddedServer, start_server
from tests.helpers import wait_until

from .conftest import Worker, running_worker

#: The promise is one second; a busy machine may add to it.
PROMPT_SECONDS = 4.0


@dataclass
class Server:
    """A server that can be restarted on its port, with its data."""

    data: Path
    running: EmbeddedServer

    def stop(self) -> None:
        self.running.stop()

    def start(self) -> None:
        self.running = start_server(self.data, port=self.running.port, use_environment=False)

    def hang(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self.running.pid is not None
        return self.running.pid


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    server = Server(data, start_server(data, use_environment=False))
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def worker(request: pytest.FixtureRequest, server: Server, folder: Path) -> Iterator[Worker]:
    environ = {"TEST_BROKER_URL": server.running.url, "TEST_BACKEND_URL": server.running.url}
    with running_worker("outage_app", folder, environ, request.param, "-c", "2") as running:
        yield running


def assert_prompt(call: Callable[[], Any]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        call()
    assert time.monotonic() - began < PROMPT_SECONDS


def assert_refuses_at_once(worker: Worker, job_id: str) -> None:
    runtime = worker.runtime
    assert_prompt(lambda: submit(worker.module.add, (1, 2)))
    assert_prompt(lambda: cancel(worker.app, job_id))
    assert_prompt(lambda: runtime.store.run(runtime.store.get(job_id)))


def assert_works(worker: Worker) -> None:
    job = worker.end(submit(worker.module.add, (1, 2)).id)
    assert (job.status, job.result) == (JobStatus.SUCCESS, 3)


@pytest.mark.parametrize("outage", ["restart", "hang"])
def test_running_job_outlives_an_outage(worker: Worker, server: Server, tmp_path: Path, outage: str) -> None:
    starts, until = tmp_path / "starts", tmp_path / "until"
    job_id = submit(worker.module.work, (str(starts), str(until))).id
    before = worker.until(job_id, lambda job: job.progress_detail is not None, "progress")
    assert before.progress_detail is not None
    reached = before.progress_detail.current or 0

    {"restart": server.stop, "hang": server.hang}[outage]()
    assert_refuses_at_once(worker, job_id)
    {"restart": server.start, "hang": server.resume}[outage]()

    worker.until(job_id, lambda job: (job.progress_detail.current or 0) > reached + 5, "progress after the outage")  # type: ignore[union-attr]
    until.touch()
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, "worked through", 1)
    assert_works(worker)
    assert starts.read_text() == "started\n"
    assert worker.process.poll() is None


@pytest.mark.parametrize("outage", ["restart", "hang"])
def test_job_that_retries_while_the_broker_is_away_goes_on(
    worker: Worker, server: Server, tmp_path: Path, outage: str
) -> None:
    starts, until = tmp_path / "starts", tmp_path / "until"
    job_id = submit(worker.module.once_more, (str(starts), str(until))).id
    wait_until(starts.exists, "the first attempt")
    tries = worker.log.read_text().count("trying again")
    {"restart": server.stop, "hang": server.hang}[outage]()
    until.touch()
    wait_until(lambda: worker.log.read_text().count("trying again") >= tries + 2, "two tries to send the retry")
    {"restart": server.start, "hang": server.resume}[outage]()
    job = worker.end(job_id)
    assert (job.status, job.result, job.attempt) == (JobStatus.SUCCESS, "the second time", 2)
    assert_works(worker)


def test_job_that_ends_while_the_store_is_away_is_recorded(worker: Worker, server: Server, tmp_path: Path) -> None:
    starts, until = tmp_path / "starts", tmp_path / "until"
    job_id = submit(worker.module.work, (str(starts), str(until))).id
    worker.until(job_id, lambda job: job.progress_detail is not None, "progress")
    server.stop()
    until.touch()
    wait_until(lambda: "trying again" in worker.log.read_text(), "the first try to record the end")
    server.start()
    assert worker.end(job_id).status is JobStatus.SUCCESS
    assert_works(worker)
    assert starts.read_text() == "started\n"
