"""A worker's app whose server goes away in the middle of a job."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from aijobs import ProgressTask

app = Celery("outage", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])


@app.task(base=ProgressTask, bind=True)
def work(self: ProgressTask, starts: str, until: str) -> str:
    with Path(starts).open("a") as file:
        file.write("started\n")
    current = 0
    while not Path(until).exists():
        current += 1
        self.progress(current)
        time.sleep(0.02)
    return "worked through"


@app.task(base=ProgressTask, bind=True, max_retries=1)
def once_more(self: ProgressTask, starts: str, until: str) -> str:
    with Path(starts).open("a") as file:
        file.write("started\n")
    while not Path(until).exists():
        time.sleep(0.02)
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return "the second time"


@app.task
def add(a: int, b: int) -> int:
    return a + b
