"""A worker's app with tasks that fail until something is repaired."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery

from aijobs import setup

app = Celery("dead", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
setup(app)


@app.task
def need(path: str, *, word: str = "done") -> str:
    return f"{word}: {Path(path).read_text()}"


@app.task(bind=True, max_retries=1)
def insist(self: Any, path: str) -> int:
    if not Path(path).exists():
        raise self.retry(exc=ConnectionError("provider away"), countdown=0)
    return int(self.request.retries)


@app.task(bind=True)
def tell(self: Any, path: str, *, count: int) -> dict[str, Any]:
    Path(path).read_text()
    return {
        "count": count,
        "priority": self.request.delivery_info["priority"],
        "tenant": self.request.headers["tenant"],
        "expires": self.request.expires,
        "eta": self.request.eta,
    }


@app.task
def need_and_wait(path: str, until: str) -> str:
    Path(path).read_text()
    while not Path(until).exists():
        time.sleep(0.02)
    return "waited"


@app.task
def add(a: str, b: str) -> str:
    return f"{a}, {b}"


@app.task
def note(result: str, path: str) -> None:
    Path(path).write_text(result)


@app.task
def kill(path: str) -> str:
    if not Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task
def fail(number: int) -> None:
    raise ValueError(f"no {number}")
