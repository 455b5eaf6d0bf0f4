"""A worker's app for workers that are stopped, frozen and killed."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from aijobs import ProgressTask, setup

app = Celery("stop", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.worker_soft_shutdown_timeout = float(os.environ.get("TEST_SOFT_SECONDS", "1"))
app.conf.worker_prefetch_multiplier = int(os.environ.get("TEST_PREFETCH", "1"))
setup(app)


def note(log: str, what: str) -> None:
    """Adds a line to a file that several processes write."""
    with Path(log).open("a") as file:
        file.write(f"{what} {os.getpid()} {time.time()}\n")


@app.task
def work(log: str, seconds: float) -> str:
    """Takes a while, unless it is ended."""
    note(log, "start")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    note(log, "end")
    return "worked"


@app.task(acks_late=False)
def work_early(log: str, seconds: float) -> str:
    return work(log, seconds)


@app.task
def wait_for(log: str, until: str) -> str:
    """Waits for a file, and swallows what would stop it."""
    note(log, "start")
    while not Path(until).exists():
        try:
            time.sleep(0.05)
        except Exception:
            note(log, "swallowed")
    note(log, "end")
    return "found it"


@app.task
def sink(log: str, until: str) -> str:
    """A call into C that never comes back to the interpreter, until the file is there."""
    note(log, "start")
    mutex = ctypes.create_string_buffer(64)
    while not Path(until).exists():
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
    return "found it"


@app.task(base=ProgressTask, bind=True)
def report(self: ProgressTask, log: str, until: str) -> str:
    """Reports until a file is there; the number says which attempt it is."""
    attempt = Path(log).read_text().count("start") + 1 if Path(log).exists() else 1
    note(log, "start")
    try:
        while not Path(until).exists():
            self.progress(attempt, 10, f"attempt {attempt}")
            time.sleep(0.05)
    except Exception as error:
        note(log, type(error).__name__)
        raise
    note(log, "end")
    return f"attempt {attempt}"


@app.task(bind=True)
def later(self: Any, log: str) -> str:
    note(log, "start")
    if self.request.retries == 0:
        raise self.retry(countdown=3)
    return "done"
