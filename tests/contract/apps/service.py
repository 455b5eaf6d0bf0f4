"""A Celery app and its API, for processes of their own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

from aijobs import ProgressTask
from aijobs.http import StreamLimits, job_router

url = os.environ["TEST_URL"]
celery_app = Celery("service", broker=url, backend=url)
task: Callable[..., Callable[[Callable[..., Any]], Any]] = celery_app.task


class Document(BaseModel):
    text: str
    written: datetime | None = None


class Summary(BaseModel):
    text: str
    year: int | None


@task(base=ProgressTask, name="service.summarise")
def summarise(document: Document) -> Summary:
    return Summary(text=document.text.upper(), year=document.written.year if document.written else None)


@task(base=ProgressTask, bind=True, name="service.count")
def count(self: Any, items: int, seconds: float = 0.0) -> int:
    for _ in self.track(range(items), unit="items"):
        time.sleep(seconds)
    return items


@task(base=ProgressTask, name="service.fail")
def fail(reason: str) -> None:
    raise ValueError(reason)


app = FastAPI()
limits = StreamLimits(**json.loads(os.environ.get("TEST_STREAM_LIMITS", "{}")))
app.include_router(job_router(celery_app, stream_limits=limits))
