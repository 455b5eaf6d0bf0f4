"""A worker's app as most are: nothing attaches aijobs to it but the base of a task."""

from __future__ import annotations

import os

from celery import Celery

from aijobs import ProgressTask

app = Celery("prefetch", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])


@app.task(base=ProgressTask)
def work() -> None: ...
