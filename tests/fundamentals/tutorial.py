"""The Celery app of the tutorial: `celery -A tests.fundamentals.tutorial worker`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from aijobs import Preset, ProgressTask

URL = os.environ.get("TUTORIAL_REDIS_URL", "redis://")

app = Celery("tutorial", broker=URL, backend=URL)

PATIENT = Preset(retry_for=(ConnectionError,), max_retries=2, backoff=0)


@app.task(base=ProgressTask, bind=True)
def embed(self: Any, texts: list[str], gate: str) -> dict[str, int]:
    """Goes through texts; stops after the first until the file `gate` is there."""
    for number, _ in enumerate(self.track(texts, unit="texts", description="embedding")):
        while number == 1 and not Path(gate).exists():
            time.sleep(0.01)
            self.progress(number)
    return {"texts": len(texts)}


@app.task(base=ProgressTask, bind=True, **PATIENT.options())
def ask(self: Any, question: str) -> str:
    """Finds the network broken at first."""
    if self.request.retries == 0:
        raise ConnectionError("the model is away")
    return f"{question} 42."


@app.task(base=ProgressTask)
def parse(name: str) -> str:
    """Fails for a reason that no retry mends."""
    raise ValueError(f"{name} is no document")


@app.task
def add(a: int, b: int) -> int:
    """A task that knows nothing of aijobs."""
    return a + b
