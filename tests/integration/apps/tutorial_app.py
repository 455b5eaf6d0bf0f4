"""Three background tasks as tutorials have them, unchanged, with nothing added but `job_router`."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from fastapi import FastAPI

from aijobs import job_router

celery_app = Celery("tutorial", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
celery_app.conf.update(task_serializer="json", result_serializer="json", task_track_started=True)


@celery_app.task(bind=True)
def train(self: Any, epochs: int = 20) -> dict[str, Any]:
    """Trains for some epochs."""
    for epoch in range(epochs):
        time.sleep(0.1)
        self.update_state(state="STARTED", meta={"progress": (epoch + 1) / epochs})
    return {"accuracy": 0.9}


@celery_app.task(bind=True, max_retries=2, soft_time_limit=2, time_limit=60)
def process_items(self: Any, items: list[str], fail: str = "") -> dict[str, int]:
    """Processes a list of items."""
    for i, _ in enumerate(items):
        if fail == "always":
            raise self.retry(exc=ConnectionError("the provider is away"), countdown=0.5)
        if fail == "slow":
            time.sleep(30)
        self.update_state(state="PROGRESS", meta={"current": i, "total": len(items)})
        time.sleep(0.1)
    return {"processed": len(items)}


@celery_app.task(bind=True)
def ingest_document(self: Any, path: str) -> dict[str, str]:
    """Loads, embeds and stores a document."""
    for step, percent in (("loading", 10), ("embedding", 50), ("storing", 90)):
        self.update_state(state="PROCESSING", meta={"step": step, "progress": percent})
        time.sleep(0.4)
    if path.endswith(".exe"):
        raise ValueError(f"cannot read {path}")
    return {"path": path}


app = FastAPI()
app.include_router(job_router(celery_app, tasks=[train, process_items, ingest_document]))
