"""A worker's app with a task for each way in which an attempt can end."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.exceptions import Ignore, Reject
from pydantic import BaseModel

from aijobs import JobCancelled, ProgressTask, setup

app = Celery("events", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.update(worker_soft_shutdown_timeout=1.0, worker_enable_soft_shutdown_on_idle=True)
setup(app)


def first_time(marker: str) -> bool:
    """Whether this is the first call with the marker, in whatever process."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@signals.task_failure.connect
def tell_of_failure(task_id: str, **_: Any) -> None:
    print(f"task_failure {task_id}", flush=True)


@app.task
def succeed(a: int, b: int = 2) -> int:
    return a + b


@app.task
def fail() -> None:
    raise ValueError("the text of the error")


@app.task(soft_time_limit=1)
def exceed_soft_limit() -> None:
    time.sleep(60)


@app.task(time_limit=1)
def exceed_hard_limit() -> None:
    time.sleep(60)


@app.task
def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def leave() -> None:
    os._exit(3)


@app.task(reject_on_worker_lost=True)
def be_killed_once(marker: str) -> str:
    if first_time(marker):
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task
def exit_python() -> None:
    sys.exit(4)


@app.task
def run_out_of_memory() -> None:
    raise MemoryError("no more")


@app.task
def reject() -> None:
    raise Reject("not for me", requeue=False)


@app.task
def reject_once(marker: str) -> str:
    if first_time(marker):
        raise Reject("later", requeue=True)
    return "taken"


@app.task(bind=True, max_retries=2)
def retry_thrice(self: Any) -> None:
    raise self.retry(exc=ConnectionError("provider away"), countdown=0)


@app.task(bind=True, max_retries=1)
def retry_once(self: Any, countdown: float) -> str:
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("provider away"), countdown=countdown)
    return "done"


@app.task
def give_unserialisable() -> object:
    return object()


@dataclass
class Point:
    x: int


class Page(BaseModel):
    points: list[Point]


@app.task
def give_values() -> dict[str, Any]:
    return {"page": Page(points=[Point(1)]), "names": {"a"}}


@app.task
def give_nan() -> float:
    return float("nan")


@app.task
def ignore() -> None:
    raise Ignore


@app.task(bind=True)
def replace(self: Any) -> None:
    raise self.replace(succeed.s(20, 22))


@app.task
def wait(marker: str, seconds: float = 60) -> str:
    Path(marker).touch()
    time.sleep(seconds)
    return "waited"


@app.task(base=ProgressTask, bind=True)
def work(self: ProgressTask, steps: int, seconds: float = 0.05) -> dict[str, int]:
    for _ in self.track(range(steps), unit="steps"):
        time.sleep(seconds)
    return {"steps": steps}


@app.task(base=ProgressTask, bind=True)
def clean_up(self: ProgressTask, marker: str) -> None:
    try:
        for _ in self.track(range(1_000)):
            time.sleep(0.05)
    except JobCancelled:
        raise
    finally:
        Path(marker).touch()


@app.task(bind=True)
def tutorial_started(self: Any) -> str:
    for i in range(10):
        self.update_state(state="STARTED", meta={"progress": i / 10})
        time.sleep(0.05)
    return "done"


@app.task(bind=True)
def tutorial_progress(self: Any) -> str:
    for i in range(1, 10):
        self.update_state(state="PROGRESS", meta={"current": i, "total": 9})
        time.sleep(0.05)
    return "done"


@app.task(bind=True)
def tutorial_processing(self: Any) -> str:
    for step, percent in (("loading", 0), ("embedding", 50), ("storing", 90)):
        self.update_state(state="PROCESSING", meta={"step": step, "progress": percent})
        time.sleep(0.1)
    return "done"


@app.task(bind=True)
def give_up(self: Any) -> None:
    self.update_state(state="FAILURE", meta={"exc_type": "ValueError", "exc_message": "bad file"})
    raise Ignore


@app.task(bind=True, max_retries=3)
def retry_when_told(self: Any, marker: str) -> None:
    while not Path(marker).exists():
        time.sleep(0.05)
    raise self.retry(exc=ConnectionError("provider away"), countdown=0)
