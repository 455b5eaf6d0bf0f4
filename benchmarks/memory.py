"""How much the resident memory of a pool process and of the API grows with the jobs that go through them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial

import psutil
import redis

from benchmarks.client import Connection, work_off
from benchmarks.harness import MEMORY_KEY, Bench, BenchmarkError, Metrics, Scale, Stand, Subject
from benchmarks.http_submit import CLIENTS
from benchmarks.report import Metric, Outcome, compare

_MEGABYTE = 1e6
_METRICS = (
    Metric("rss_mb", "resident at the end", "MB", lower_is_better=True),
    Metric("growth_mb", "growth", "MB", lower_is_better=True),
    Metric("growth_bytes", "growth a job", "bytes", lower_is_better=True),
)


def run(bench: Bench) -> Outcome:
    """Growth of a pool process over jobs with progress, and of the API over submits and event streams."""
    worker, stock, api = "worker, aijobs", "worker, stock", "API, aijobs"
    rounds = bench.rounds(
        {
            worker: partial(_measure_worker, bench, Subject.AIJOBS),
            stock: partial(_measure_worker, bench, Subject.RELIABLE),
            api: partial(_measure_api, bench),
        }
    )
    of_worker = compare("pool process", rounds, worker, stock, _METRICS)
    return Outcome([*of_worker, *compare("API with event streams", rounds, api, None, _METRICS)], rounds)


def _measure_worker(bench: Bench, subject: Subject) -> Metrics:
    scale = bench.scale
    samples = scale.memory_jobs // scale.memory_step
    with bench.stage(subject) as stand, redis.Redis.from_url(stand.url) as client:
        stand.drive("publish_remembering", jobs=scale.memory_jobs, step=scale.memory_step)
        stand.run_worker(1, scale.memory_jobs, lambda: client.llen(MEMORY_KEY) == samples)
        found = client.lrange(MEMORY_KEY, 0, -1)
    return _growth([int(rss) for rss in found], scale)


def _measure_api(bench: Bench) -> Metrics:
    with bench.stage(Subject.AIJOBS) as stand:
        stand.start_worker(concurrency=1)
        return _growth(asyncio.run(_submit_and_follow(stand, bench.scale)), bench.scale)


async def _submit_and_follow(stand: Stand, scale: Scale) -> list[int]:
    port, pid = stand.start_api()
    api = psutil.Process(pid)
    samples = []

    async def follow(connection: Connection, number: int) -> None:
        status, answer = await connection.post("/jobs/noop", b'{"number": %d}' % number)
        job_id = json.loads(answer)["job_id"]
        _, events = await connection.get(f"/jobs/{job_id}/events")
        if status != 202 or b"job.completed" not in events:
            raise BenchmarkError(f"The events of job {job_id} ended without its end.")
        if number % scale.memory_step == 0:
            samples.append(api.memory_info().rss)

    await work_off(port, CLIENTS, scale.memory_jobs, follow)
    return samples


def _growth(samples: Sequence[int], scale: Scale) -> Metrics:
    settled = samples[scale.memory_settled // scale.memory_step - 1]
    growth = samples[-1] - settled
    return {
        "rss_mb": samples[-1] / _MEGABYTE,
        "growth_mb": growth / _MEGABYTE,
        "growth_bytes": growth / (scale.memory_jobs - scale.memory_settled),
        **{f"rss_mb_{number}": rss / _MEGABYTE for number, rss in enumerate(samples, 1)},
    }
