"""How long clients wait for their submission while a worker runs the jobs: one uvicorn process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.harness import Bench, Metrics, Round, Subject, speed
from benchmarks.http_submit import submit_all
from benchmarks.report import Comparison, Outcome, values

CLIENTS = 100
#: What a client does between two submissions, on average, seconds. Without it the figure would be the rate once more.
PAUSE_SECONDS = 0.5
#: What is promised of 99 % of the submissions.
PROMISED_MILLISECONDS = 100

_OURS, _STOCK = "aijobs", "stock"


def run(bench: Bench) -> Outcome:
    """Submissions of `job_router`, against a synchronous FastAPI route that calls `.delay()`."""
    rounds = bench.rounds(
        {_OURS: partial(_measure, bench, Subject.AIJOBS), _STOCK: partial(_measure, bench, Subject.STOCK)}
    )
    return Outcome(list(_compare(rounds)), rounds)


def _compare(rounds: Sequence[Round]) -> Iterator[Comparison]:
    for key, shown, limit in (("p50_ms", "p50", None), ("p99_ms", "p99", PROMISED_MILLISECONDS)):
        ours, stock = (values(rounds, contestant, key) for contestant in (_OURS, _STOCK))
        yield Comparison(f"POST, {CLIENTS} clients, worker busy: {shown}", "ms", ours, stock, True, limit=limit)


def _measure(bench: Bench, subject: Subject) -> Metrics:
    with bench.stage(subject) as stand:
        stand.start_worker(concurrency=1)
        port, _ = stand.start_api()
        submit = partial(submit_all, port, clients=CLIENTS, pause=PAUSE_SECONDS)
        asyncio.run(submit(bench.scale.warm_up))
        begun = time.perf_counter()
        latencies = asyncio.run(submit(bench.scale.requests))
        elapsed = time.perf_counter() - begun
    return speed(latencies, elapsed)
