"""A worker's app with tasks that are hard to stop, each in its own way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, chord

from aijobs import JobCancelled, ProgressTask, setup

app = Celery("cancel", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.worker_hijack_root_logger = False
app.conf.worker_pool_start_method = os.environ.get("TEST_START_METHOD", "fork")
setup(app)


@contextlib.contextmanager
def told(marker: str) -> Any:
    """Says in files that a task began, with its process id, and when what ended it had run through."""
    Path(f"{marker}.began").write_text(str(os.getpid()))
    try:
        yield
    finally:
        # Longer than it takes until the next nudge.
        time.sleep(0.7)
        Path(f"{marker}.cleaned").write_text(str(time.time()))


@app.task(base=ProgressTask, bind=True)
def report(self: ProgressTask, marker: str) -> None:
    with told(marker):
        for _ in self.track(range(1_000_000)):
            time.sleep(0.01)


@app.task
def spin(marker: str) -> None:
    with told(marker):
        count = 0
        while True:
            count += 1


@app.task
def doze(marker: str) -> None:
    with told(marker):
        time.sleep(120)


@app.task
def sink(marker: str) -> None:
    """A call into C that never comes back to the interpreter: a mutex locked twice."""
    Path(f"{marker}.began").write_text(str(os.getpid()))
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


@app.task
def swallow(marker: str) -> None:
    """Goes on after the first exception, whatever it is."""
    with told(marker):
        with contextlib.suppress(Exception):
            time.sleep(120)
        Path(f"{marker}.swallowed").touch()
        time.sleep(120)


@app.task
def wrap(marker: str) -> None:
    with told(marker):
        try:
            time.sleep(120)
        except Exception as error:
            raise RuntimeError("what a library makes of it") from error


@app.task(autoretry_for=(Exception,), max_retries=3)
def retry_all(marker: str) -> None:
    with told(marker):
        time.sleep(120)


@app.task(base=ProgressTask, bind=True)
def clean_with_reports(self: ProgressTask, marker: str) -> None:
    try:
        for _ in self.track(range(1_000_000)):
            time.sleep(0.01)
    finally:
        for done in range(50):
            self.progress(done, 50)
            time.sleep(0.02)
        Path(f"{marker}.cleaned").touch()


@app.task
def notice(marker: str) -> str:
    Path(f"{marker}.began").write_text(str(os.getpid()))
    try:
        time.sleep(120)
    except JobCancelled:
        return "stopped in time"
    return "slept"


@app.task
def short(seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return os.getpid()


@app.task(bind=True)
def update(self: Any, marker: str) -> None:
    with told(marker):
        for done in range(100_000):
            self.update_state(state="PROGRESS", meta={"current": done, "total": 100_000})
            time.sleep(0.05)


@app.task
def add(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def give(number: int) -> int:
    return number


@app.task(bind=True)
def retry_later(self: Any) -> None:
    raise self.retry(countdown=120)


def send_chord(marker: str) -> Any:
    return chord([give.s(1), doze.s(marker)])(add.s())
