"""arq, which looks for jobs every 10 ms here instead of twice a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from arq import create_pool, run_worker
from arq.connections import RedisSettings
from arq.jobs import Job

from benchmarks.peers.shared import AT_ONCE, SECONDS, URL, Run, serve

run = Run()


async def wait(context: dict[str, Any], number: int) -> int:
    """Waits."""
    with run.job():
        await asyncio.sleep(SECONDS)
    return number


class Settings:
    """Of the worker."""

    functions = [wait]
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = AT_ONCE
    poll_delay = 0.01


async def publish(numbers: Sequence[int]) -> list[str]:
    """Queues the jobs."""
    pool = await create_pool(Settings.redis_settings)
    return [(await pool.enqueue_job("wait", number)).job_id for number in numbers]


async def read(ids: Sequence[str]) -> list[Any]:
    """What the jobs returned."""
    pool = await create_pool(Settings.redis_settings)
    return [getattr(await Job(job_id, pool).result_info(), "result", None) for job_id in ids]


if __name__ == "__main__":
    serve(publish, read, lambda: run_worker(Settings))
