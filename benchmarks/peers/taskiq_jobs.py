"""taskiq with a stream as its broker, which acknowledges a job once its result is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers.shared import SECONDS, URL, Run, serve

results: RedisAsyncResultBackend[int] = RedisAsyncResultBackend(URL, result_ex_time=3_600)
# A group that begins at 0 has the jobs that were queued before its worker started.
broker = RedisStreamBroker(URL, consumer_id="0").with_result_backend(results)
run = Run()


@broker.task(task_name="wait")
async def wait(number: int) -> int:
    """Waits."""
    with run.job():
        await asyncio.sleep(SECONDS)
    return number


async def publish(numbers: Sequence[int]) -> list[str]:
    """Queues the jobs."""
    await broker.startup()
    ids = [(await wait.kiq(number)).task_id for number in numbers]
    await broker.shutdown()
    return ids


async def read(ids: Sequence[str]) -> list[Any]:
    """What the jobs returned."""
    return [(await results.get_result(job_id)).return_value for job_id in ids]


if __name__ == "__main__":
    serve(publish, read)
