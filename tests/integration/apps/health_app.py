"""A worker's app for tasks that keep its process busy."""

from __future__ import annotations

import ctypes
import os
import time

from celery import Celery

from aijobs import setup

app = Celery("health", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
setup(app)


@app.task
def hold(seconds: int) -> str:
    """Keeps all threads of its process from running, then its own alone."""
    ctypes.PyDLL(None).sleep(seconds)
    time.sleep(seconds)
    return "held"
