"""SAQ, which waits for jobs without polling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from saq import Queue, Worker

from benchmarks.peers.shared import AT_ONCE, SECONDS, URL, Run, serve

run = Run()


async def wait(context: dict[str, Any], *, number: int) -> int:
    """Waits."""
    with run.job():
        await asyncio.sleep(SECONDS)
    return number


async def publish(numbers: Sequence[int]) -> list[str]:
    """Queues the jobs."""
    queue = Queue.from_url(URL)
    # A worker sweeps as soon as it starts, and would abort jobs that it has fetched itself a moment before. Now it
    # finds that another one swept in this minute.
    await queue.sweep(lock=60)
    return [(await queue.enqueue("wait", number=number)).key for number in numbers]


async def read(ids: Sequence[str]) -> list[Any]:
    """What the jobs returned."""
    return [getattr(job, "result", None) for job in await Queue.from_url(URL).jobs(ids)]


async def _work() -> None:
    await Worker(Queue.from_url(URL), functions=[wait], concurrency=AT_ONCE).start()


if __name__ == "__main__":
    serve(publish, read, lambda: asyncio.run(_work()))
