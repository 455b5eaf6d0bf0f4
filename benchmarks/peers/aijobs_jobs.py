"""aijobs with nothing but its setup."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from celery import Celery

from aijobs import ProgressTask, setup
from benchmarks.peers.shared import SECONDS, URL, Run, serve

app = Celery("waiting", broker=URL, backend=URL)
setup(app)
run = Run()


@app.task(base=ProgressTask, name="wait")
async def wait(number: int) -> int:
    """Waits."""
    with run.job():
        await asyncio.sleep(SECONDS)
    return number


async def publish(numbers: Sequence[int]) -> list[str]:
    """Queues the jobs."""
    return [str(wait.delay(number).id) for number in numbers]


async def read(ids: Sequence[str]) -> list[Any]:
    """What the jobs returned."""
    return [app.AsyncResult(job_id).result for job_id in ids]


if __name__ == "__main__":
    serve(publish, read)
