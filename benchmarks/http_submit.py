"""Submitting over HTTP: one uvicorn process, many clients at once."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from benchmarks.client import Connection, work_off
from benchmarks.harness import Bench, BenchmarkError, Metrics, Subject, speed
from benchmarks.report import SPEED, Outcome, compare

CLIENTS = 50


def run(bench: Bench) -> Outcome:
    """POST /jobs/noop of `job_router`, against a synchronous FastAPI route that calls `.delay()`."""
    ours, stock = "aijobs", "stock"
    rounds = bench.rounds(
        {ours: partial(_measure, bench, Subject.AIJOBS), stock: partial(_measure, bench, Subject.STOCK)}
    )
    return Outcome(list(compare(f"POST, {CLIENTS} clients", rounds, ours, stock, SPEED)), rounds)


def _measure(bench: Bench, subject: Subject) -> Metrics:
    with bench.stage(subject) as stand:
        port, _ = stand.start_api()
        asyncio.run(_submit_all(port, bench.scale.warm_up))
        begun = time.perf_counter()
        latencies = asyncio.run(_submit_all(port, bench.scale.requests))
        elapsed = time.perf_counter() - begun
    return speed(latencies, elapsed)


async def _submit_all(port: int, requests: int) -> list[float]:
    latencies = []

    async def submit(connection: Connection, number: int) -> None:
        begun = time.perf_counter()
        status, _ = await connection.post("/jobs/noop", b'{"number": %d}' % number)
        latencies.append(time.perf_counter() - begun)
        if status != 202:
            raise BenchmarkError(f"POST /jobs/noop answered {status}.")

    await work_off(port, CLIENTS, requests, submit)
    return latencies
