"""A worker's app with tasks that keep what they have done."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from celery import Celery

from aijobs import ProgressTask, setup

app = Celery("checkpoints", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
setup(app)


def note(log: str, what: str) -> None:
    """Adds a line to a file that several processes write."""
    with Path(log).open("a") as file:
        file.write(f"{what}\n")


def work(log: str, number: int, trouble: int, until: str) -> int:
    """A step; the one with trouble waits for a file when it is run for the first time."""
    note(log, f"step {number}")
    if number == trouble and Path(log).read_text().count(f"step {number}\n") == 1:
        while not Path(until).exists():
            time.sleep(0.02)
        if Path(until).read_text() == "raise":
            raise RuntimeError("trouble")
    return 10 * number


async def work_async(log: str, number: int, trouble: int, until: str) -> int:
    return await asyncio.to_thread(work, log, number, trouble, until)


@app.task(base=ProgressTask, bind=True, max_retries=2)
def steps(self: ProgressTask, log: str, trouble: int, until: str, retry: bool = False) -> list[int]:
    """Five steps, one after the other."""
    note(log, f"attempt {self.resume(0) + 1}")
    self.checkpoint(self.resume(0) + 1)
    try:
        return [self.run_step(f"step {n}", work, log, n, trouble, until) for n in range(1, 6)]
    except RuntimeError as error:
        if retry:
            raise self.retry(exc=error, countdown=0) from None
        raise


@app.task(base=ProgressTask, bind=True)
async def steps_async(self: ProgressTask, log: str, trouble: int, until: str) -> list[int]:
    """Two steps at once, then three, one after the other."""
    attempt = await asyncio.to_thread(self.resume, 0) + 1
    note(log, f"attempt {attempt}")
    await asyncio.to_thread(self.checkpoint, attempt)
    both = (self.run_step(f"step {n}", work_async, log, n, trouble, until) for n in (1, 2))
    first = await asyncio.gather(*both)
    rest = [await self.run_step(f"step {n}", work_async, log, n, trouble, until) for n in (3, 4, 5)]
    return [*first, *rest]


@app.task(base=ProgressTask, bind=True)
def pages(self: ProgressTask, log: str, count: int, trouble: int, until: str) -> int:
    """A loop over pages."""
    for number in self.track(range(1, count + 1), resume=True):
        work(log, number, trouble, until)
    return count


@app.task(base=ProgressTask, bind=True)
def replaced(self: ProgressTask, log: str) -> None:
    """Leaves its job to another task."""
    self.checkpoint(7)
    raise self.replace(steps.s(log, 0, ""))
