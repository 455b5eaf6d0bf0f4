"""A worker's app whose result backend, broker and store the environment names."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from aijobs import ProgressTask

app = Celery("backends", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def fail() -> None:
    raise ValueError("the text of the error")


@app.task(bind=True, max_retries=1)
def retry(self: Any) -> None:
    raise self.retry(exc=ConnectionError("away"), countdown=0)


@app.task(base=ProgressTask, bind=True)
def work(self: ProgressTask, steps: int) -> int:
    for _ in self.track(range(steps)):
        pass
    return steps


@app.task(ignore_result=True)
def quiet() -> int:
    return 1
