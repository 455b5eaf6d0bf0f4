"""A Celery app whose task gives tokens out until a file says that there are enough, and its API."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from fastapi import FastAPI

from aijobs import ProgressTask
from aijobs.http import job_router

url = os.environ["TEST_URL"]
celery_app = Celery("tokens", broker=url, backend=url)
task: Callable[..., Callable[[Callable[..., Any]], Any]] = celery_app.task

#: One in so many pieces is data.
DATA = 10


def tokens(attempt: str, enough: Callable[[], bool]) -> Iterator[Any]:
    """Numbered from 0, with the name of their attempt: lines of text, and data now and then."""
    number = 0
    while not enough():
        yield {"attempt": attempt, "number": number} if number % DATA == DATA - 1 else f"{attempt} {number}\n"
        number += 1


@task(base=ProgressTask, bind=True, name="tokens.write")
def write(self: Any, pause: float) -> dict[str, Any]:
    """Give tokens out, as a model does."""
    attempt = secrets.token_hex(4)
    end = Path(os.environ["TEST_ENOUGH"])
    count = 0
    for token in tokens(attempt, end.exists):
        self.emit(token)
        time.sleep(pause)
        count += 1
    return {"attempt": attempt, "tokens": count}


app = FastAPI()
app.include_router(job_router(celery_app))
