"""Submitting over HTTP: one uvicorn process, many clients at once."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from functools import partial

from benchmarks.client import Connection, work_off
from benchmarks.harness import Bench, BenchmarkError, Metrics, Subject, speed
from benchmarks.report import SPEED, Outcome, compare

CLIENTS = 50
#: How many turns each takes in a round.
TURNS = 4

_RATE, *_TIMES = SPEED


def run(bench: Bench) -> Outcome:
    """POST /jobs/noop of `job_router`, against a synchronous FastAPI route that calls `.delay()`."""
    ours, stock = "aijobs", "stock"
    # Both stay up and take short turns, so that whatever else the machine does slows both down alike.
    with bench.stage(Subject.AIJOBS) as our_stand, bench.stage(Subject.STOCK) as stock_stand:
        ports = {ours: our_stand.start_api()[0], stock: stock_stand.start_api()[0]}
        for port in ports.values():
            asyncio.run(submit_all(port, bench.scale.warm_up))
        requests = bench.scale.requests // TURNS
        contestants = {name: partial(_measure, port, requests) for name, port in ports.items()}
        rounds = bench.rounds(contestants, TURNS * bench.scale.rounds)
    metrics = (replace(_RATE, target=2.5), *_TIMES)
    return Outcome(list(compare(f"POST, {CLIENTS} clients", rounds, ours, stock, metrics)), rounds)


def _measure(port: int, requests: int) -> Metrics:
    begun = time.perf_counter()
    latencies = asyncio.run(submit_all(port, requests))
    return speed(latencies, time.perf_counter() - begun)


async def submit_all(port: int, requests: int, clients: int = CLIENTS, pause: float = 0) -> list[float]:
    """Submits so many jobs, and times each.

    Args:
        port: of the API.
        requests: in all.
        clients: that send them at the same time.
        pause: before each request of a client, on average, seconds. It varies, so that they do not come in step.

    Raises:
        BenchmarkError: a job was not accepted.
    """
    latencies = []

    async def submit(connection: Connection, number: int) -> None:
        await asyncio.sleep(random.uniform(0, 2 * pause))
        begun = time.perf_counter()
        status, _ = await connection.post("/jobs/noop", b'{"number": %d}' % number)
        latencies.append(time.perf_counter() - begun)
        if status != 202:
            raise BenchmarkError(f"POST /jobs/noop answered {status}.")

    await work_off(port, clients, requests, submit)
    return latencies
