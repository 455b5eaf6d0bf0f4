"""Tasks that lose their process, their worker, or their message."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from celery import Celery

from aijobs import ProgressTask

app = Celery("losses", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])


def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("started\n")


@app.task(base=ProgressTask)
def segfault(starts: str) -> None:
    note(starts)
    ctypes.string_at(0)


@app.task(base=ProgressTask)
def run_out_of_memory(starts: str) -> None:
    note(starts)
    raise MemoryError("no more")


@app.task(base=ProgressTask)
def kill_process(starts: str) -> None:
    note(starts)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(base=ProgressTask)
def leave(starts: str) -> None:
    note(starts)
    os._exit(3)


@app.task(base=ProgressTask)
def kill_worker(starts: str) -> None:
    note(starts)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@app.task(base=ProgressTask, acks_late=False)
def kill_worker_early_ack(starts: str) -> None:
    note(starts)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@app.task(base=ProgressTask, bind=True)
def wait_for(self: ProgressTask, starts: str, until: str) -> str:
    note(starts)
    while not Path(until).exists():
        self.progress(1)
        time.sleep(0.05)
    return "done"


@app.task(base=ProgressTask, bind=True)
def add(self: ProgressTask, a: int, b: int) -> int:
    return a + b


@app.task(base=ProgressTask, bind=True, max_retries=2)
def fail_twice(self: ProgressTask, starts: str) -> str:
    note(starts)
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("provider away"), countdown=0)
    return "third time lucky"
