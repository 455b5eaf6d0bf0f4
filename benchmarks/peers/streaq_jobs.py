"""streaQ, which reads from streams and fetches as many jobs ahead as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from streaq import Worker

from benchmarks.peers.shared import AT_ONCE, SECONDS, URL, Run, serve

worker = Worker(redis_url=URL, concurrency=AT_ONCE)
run = Run()


@worker.task
async def wait(number: int) -> int:
    """Waits."""
    with run.job():
        await asyncio.sleep(SECONDS)
    return number


async def publish(numbers: Sequence[int]) -> list[str]:
    """Queues the jobs."""
    tasks = [wait.enqueue(number) for number in numbers]
    async with worker:
        await worker.enqueue_many(tasks)
    return [task.id for task in tasks]


async def read(ids: Sequence[str]) -> list[Any]:
    """What the jobs returned."""
    async with worker:
        # As `result_by_id` does, which subscribes for each.
        stored = await worker.redis.mget([worker.results_key + job_id for job_id in ids])
        return [(await worker.deserialize(one))["r"] for one in stored]


if __name__ == "__main__":
    serve(publish, read, worker.run_sync)
