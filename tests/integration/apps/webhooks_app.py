"""A worker's app whose webhooks are tried again soon."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from aijobs import setup
from aijobs.webhooks.schedule import Schedule

app = Celery("webhooks", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.worker_hijack_root_logger = False
setup(app)


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def fail() -> None:
    raise ValueError("no")


@app.task
def wait_for(path: str) -> None:
    Path(f"{path}.began").touch()
    while not Path(path).exists():
        time.sleep(0.01)


app.finalize()
app.tasks["aijobs.deliver_webhook"].schedule = Schedule(
    waits=(0.1, 0.2, 0.5), lifetime=float(os.environ["TEST_LIFETIME"])
)
