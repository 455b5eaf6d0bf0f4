"""Asking for a job over HTTP: one uvicorn process, many clients at once."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from functools import partial

from benchmarks.client import Connection, work_off
from benchmarks.harness import Bench, BenchmarkError, Metrics, Subject, speed
from benchmarks.http_submit import CLIENTS
from benchmarks.report import SPEED, Outcome, compare

#: Clients ask for these, one after the other.
_JOBS = 200
_STATIC = ["/static"]

_RATE, *_TIMES = SPEED


def run(bench: Bench) -> Outcome:
    """GET of a job, against a route of the same app that answers at once."""
    ours, static = "job", "static route"
    # One process answers both in turn, so that whatever else the machine does slows both down alike.
    with bench.stage(Subject.AIJOBS) as stand:
        port, _ = stand.start_api()
        jobs = asyncio.run(_submit(port))
        for paths in (jobs, _STATIC):
            asyncio.run(_get_all(port, bench.scale.warm_up, paths))
        measure = partial(_measure, port, 2 * bench.scale.requests)
        rounds = bench.rounds({ours: partial(measure, jobs), static: partial(measure, _STATIC)})
    metrics = (replace(_RATE, target=0.45, aim=0.6), *_TIMES)
    return Outcome(list(compare(f"GET, {CLIENTS} clients", rounds, ours, static, metrics)), rounds)


def _measure(port: int, requests: int, paths: list[str]) -> Metrics:
    begun = time.perf_counter()
    latencies = asyncio.run(_get_all(port, requests, paths))
    return speed(latencies, time.perf_counter() - begun)


async def _submit(port: int) -> list[str]:
    paths = []

    async def submit(connection: Connection, number: int) -> None:
        _, answer = await connection.post("/jobs/noop", b'{"number": %d}' % number)
        paths.append(json.loads(answer)["status_url"])

    await work_off(port, CLIENTS, _JOBS, submit)
    return paths


async def _get_all(port: int, requests: int, paths: list[str]) -> list[float]:
    latencies = []

    async def get(connection: Connection, number: int) -> None:
        path = paths[number % len(paths)]
        begun = time.perf_counter()
        status, _ = await connection.get(path)
        latencies.append(time.perf_counter() - begun)
        if status != 200:
            raise BenchmarkError(f"GET {path} answered {status}.")

    await work_off(port, CLIENTS, requests, get)
    return latencies
