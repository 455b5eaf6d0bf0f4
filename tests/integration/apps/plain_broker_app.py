"""An app that keeps kombu's own transport, so that nobody leases its messages."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from aijobs import ProgressTask

app = Celery("plain_broker", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.broker_transport = "redis"


@app.task(base=ProgressTask, bind=True)
def wait_for(self: ProgressTask, until: str) -> str:
    while not Path(until).exists():
        self.progress(1)
        time.sleep(0.05)
    return "done"
