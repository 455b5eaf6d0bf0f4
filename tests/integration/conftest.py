"""A real Celery worker per module and pool, and jobs sent to it."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest

from aijobs import ErrorCode, Job, setup
from aijobs.embedded import start_server
from aijobs.job import JobEvent
from aijobs.runtime import Runtime
from tests.helpers import wait_until

T = TypeVar("T")

APPS = Path(__file__).parent / "apps"


@dataclass(frozen=True)
class Worker:
    """A worker process and the app it runs, seen from a process that sends jobs."""

    module: ModuleType
    process: subprocess.Popen[bytes]
    log: Path
    pool: str

    @property
    def app(self) -> Any:
        return self.module.app

    @property
    def runtime(self) -> Runtime:
        return setup(self.app)

    def send(self, task: str, *args: Any, **options: Any) -> str:
        return str(getattr(self.module, task).apply_async(args, **options).id)

    def job(self, job_id: str) -> Job:
        job = self.runtime.store.run(self.runtime.store.get(job_id))
        assert job is not None, f"no record of {job_id}"
        return job

    def events(self, job_id: str) -> list[JobEvent]:
        events: Sequence[JobEvent] = self.runtime.store.run(self.runtime.store.events(job_id, limit=10_000))
        return list(events)

    def until(self, job_id: str, condition: Callable[[Job], bool], what: str) -> Job:
        def look() -> Job | None:
            job = self.job(job_id)
            return job if condition(job) else None

        try:
            return wait_until(look, what)
        except AssertionError:
            print(self.job(job_id), self.log.read_text()[-4_000:], sep="\n")
            raise

    def end(self, job_id: str) -> Job:
        return self.until(job_id, lambda job: job.finished, "the end of the job")

    def run(self, task: str, *args: Any, **options: Any) -> Job:
        return self.end(self.send(task, *args, **options))

    def code(self, job: Job) -> ErrorCode | None:
        return job.error.code if job.error else None


@contextmanager
def celery_worker(
    name: str, log: Path, environ: Mapping[str, str], *options: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A worker process on one of the modules in `apps/`; stopped with its pool."""
    command = [sys.executable, "-m", "celery", "-A", name, "worker", "-l", "INFO", *options]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=APPS, env={**environ}, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process, log
    finally:
        stop(process)


@contextmanager
def running_worker(
    name: str, folder: Path, environ: Mapping[str, str], pool: str = "prefork", *options: str
) -> Iterator[Worker]:
    """A worker that is ready, and its app in this process to send jobs with."""
    with _environment(environ), _on_path():
        # Imported once: a second import would register every task again.
        module = importlib.import_module(name)
    # The tests of other files may have closed what this process sends jobs with.
    module.app._pool = module.app.amqp._producer_pool = None
    log = folder / f"worker-{pool}.log"
    with celery_worker(name, log, {**os.environ, **environ}, "-P", pool, *options) as (process, log):
        worker = Worker(module, process, log, pool)
        wait_until(lambda: " ready." in log.read_text() or _died(worker), "the worker's start")
        yield worker


def short_lease(url: str, **more: str) -> dict[str, str]:
    """The environment of a worker on one server that is taken for lost as soon as can be."""
    return {"TEST_BROKER_URL": url, "TEST_BACKEND_URL": url, "AIJOBS_LEASE_SECONDS": "5", **more}


class Fleet:
    """Starts workers of one app on a queue of this test's own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.queue = folder.name
        self._open: list[Any] = []

    def start(self, pool: str = "prefork", *options: str, **environ: str) -> Worker:
        folder = self.folder / str(len(self._open))
        folder.mkdir()
        name = f"w{len(self._open)}@{self.queue}"
        given = ("-c", "1", "-Q", self.queue, "-n", name, *options)
        running = running_worker("stop_app", folder, short_lease(self.url, **environ), pool, *given)
        worker = running.__enter__()
        self._open.append(running)
        return worker

    def stop(self) -> None:
        for running in self._open:
            running.__exit__(None, None, None)


def stop(process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> None:
    """Ends a process, gently and then not."""
    process.send_signal(how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _died(worker: Worker) -> bool:
    if worker.process.poll() is not None:
        raise AssertionError(f"the worker died:\n{worker.log.read_text()}")
    return False


@contextmanager
def _environment(environ: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        yield


@contextmanager
def _on_path() -> Iterator[None]:
    sys.path.insert(0, str(APPS))
    try:
        yield
    finally:
        sys.path.remove(str(APPS))


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """One server for all modules: an app is imported once, with its address."""
    with start_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def environ(server_url: str) -> dict[str, str]:
    return short_lease(server_url)


@pytest.fixture
def fleet(server_url: str, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(server_url, tmp_path)
    yield fleet
    fleet.stop()


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A path that the tasks of a fleet write to."""
    return str(tmp_path / "log")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture
def marker(tmp_path: Path) -> str:
    """A path that tasks touch to say that they were there."""
    return str(tmp_path / "marker")
