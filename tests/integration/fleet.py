"""What tests do with the workers of a fleet: begin a job on one, stop it, read what its tasks wrote."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from tests.helpers import wait_until

from .conftest import Fleet, Worker

#: A busy machine may add to what is promised; a worker that hangs takes for ever.
SLACK_SECONDS = 8.0
SOFT_SECONDS = 1.0


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
