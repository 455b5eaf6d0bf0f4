"""Tasks that write down each of their runs, for workers with leases and, to compare, for stock ones."""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task

from aijobs import setup

app = Celery("leases", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.update(json.loads(os.environ.get("TEST_CONF", "{}")))
if not os.environ.get("TEST_STOCK"):
    setup(app)
else:
    app.conf.task_acks_late = True


@app.task(bind=True)
def note(self: Task, runs: str, what: Any = None, seconds: float = 0.0) -> None:
    """Writes down that it runs, then takes its time; not so when an earlier worker was lost over it."""
    _write(self, runs, what)
    time.sleep(0 if self.request.get("aijobs_deliveries") else seconds)


@app.task(bind=True)
def hold_lock(self: Task, runs: str, seconds: int) -> None:
    """Takes its time in C code that does not release Python's lock."""
    _write(self, runs, None)
    ctypes.PyDLL(None).sleep(seconds)


def _write(task: Task, runs: str, what: Any) -> None:
    run = {
        "what": what,
        "worker": task.request.hostname,
        "at": time.time(),
        "deliveries": task.request.get("aijobs_deliveries"),
        "redelivered": task.request.delivery_info["redelivered"],
    }
    # One write, so that runs in several processes do not mix.
    with Path(runs).open("a") as file:
        file.write(json.dumps(run) + "\n")
