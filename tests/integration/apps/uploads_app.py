"""Tasks that read uploaded files, and their API."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from celery import Celery
from fastapi import FastAPI

from aijobs import ProgressTask, UploadedFile

app = Celery("uploads", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])


@app.task(base=ProgressTask)
def count(document: UploadedFile, word: str = "a") -> dict[str, Any]:
    with document.open() as file:
        file.seek(0)
        words = file.read().split().count(word.encode())
    with document.path() as path:
        size = path.stat().st_size
    with ThreadPoolExecutor() as threads:
        whole = threads.submit(document.read_bytes).result()
    return {"words": words, "sizes": [size, len(whole), document.size], "name": document.name}


@app.task(base=ProgressTask)
def join(parts: list[UploadedFile], missing: UploadedFile | None = None) -> str:
    assert missing is None
    return b"".join(part.read_bytes() for part in parts).decode()


@app.task(base=ProgressTask)
def hand_on(document: UploadedFile) -> str:
    return str(count.delay(document).id)


@app.task(base=ProgressTask, bind=True, max_retries=2)
def second_try(self: Any, document: UploadedFile) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return document.read_bytes().decode()


@app.task(base=ProgressTask)
def fail_once(document: UploadedFile, marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("the first time")
    return document.read_bytes().decode()


def api() -> FastAPI:
    from aijobs import job_router

    made = FastAPI()
    made.include_router(job_router(app))
    return made
