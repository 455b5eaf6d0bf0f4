"""Several workers of one app, started and stopped by a test."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from tests.helpers import wait_until

from .conftest import Worker, running_worker

#: A busy machine may add to what is promised; a worker that hangs takes for ever.
SLACK_SECONDS = 8.0
SOFT_SECONDS = 1.0


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
        known = {"TEST_BROKER_URL": self.url, "TEST_BACKEND_URL": self.url, "AIJOBS_LEASE_SECONDS": "5"}
        name = f"w{len(self._open)}@{self.queue}"
        given = ("-c", "1", "-Q", self.queue, "-n", name, *options)
        running = running_worker("stop_app", folder, {**known, **environ}, pool, *given)
        worker = running.__enter__()
        self._open.append(running)
        return worker

    def stop(self) -> None:
        for running in self._open:
            running.__exit__(None, None, None)


def lines(log: str, what: str) -> list[str]:
    return [line for line in Path(log).read_text().splitlines() if line.startswith(what)] if Path(log).exists() else []


def begin(worker: Worker, fleet: Fleet, task: str, log: str, *args: Any, **options: Any) -> str:
    """Sends a job and waits until its task runs."""
    before = len(lines(log, "start"))
    job_id = worker.send(task, log, *args, queue=fleet.queue, **options)
    wait_until(lambda: len(lines(log, "start")) > before, "the start of the task")
    return job_id


def stop_and_wait(worker: Worker, how: int = signal.SIGTERM) -> int:
    began = time.monotonic()
    worker.process.send_signal(how)
    status = worker.process.wait(SOFT_SECONDS + 2 + SLACK_SECONDS)
    print(f"gone after {time.monotonic() - began:.2f} s")
    return status
