"""A server and a worker for the whole tutorial."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aijobs import Job, JobEvent, setup
from aijobs._process import Stage, SupervisedProcess
from aijobs.embedded import start_server
from aijobs.store import JobStore
from tests.fundamentals import tutorial
from tests.helpers import lasting_keys, wait_until

ROOT = Path(__file__).parents[2]


class Watcher:
    """Looks at jobs until something is true of them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def get(self, job_id: str) -> Job:
        job = self._store.run(self._store.get(job_id))
        assert job is not None
        return job

    def until(self, job_id: str, condition: Callable[[Job], Any]) -> Job:
        wait_until(lambda: condition(self.get(job_id)), "what the tutorial waits for")
        return self.get(job_id)

    def end(self, job_id: str) -> Job:
        return self.until(job_id, lambda job: job.finished)

    def events(self, job_id: str) -> Sequence[JobEvent]:
        return self._store.run(self._store.events(job_id))


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with start_server(use_environment=False) as server:
        yield server.url
        assert lasting_keys(server.url) == []


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A worker of the tutorial's app; gives its log."""
    path = tmp_path_factory.mktemp("worker") / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", tutorial.__name__, "worker", "-c", "2", "-l", "INFO"]
    environ = {**os.environ, "TUTORIAL_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    with path.open("wb") as log:
        process = SupervisedProcess(command, stages=[Stage("TERM", 20)], env=environ, stdout=log)
    with process:
        wait_until(lambda: " ready." in path.read_text() or process.poll() is not None, "the worker's start")
        assert process.poll() is None, path.read_text()
        yield path


@pytest.fixture(scope="module")
def jobs(redis_url: str) -> Watcher:
    """The jobs of the tutorial's app."""
    tutorial.app.conf.update(broker_url=redis_url, result_backend=redis_url)
    return Watcher(setup(tutorial.app).store)
