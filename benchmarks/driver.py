"""What runs as a client of the measured app, in a process of its own: `python -m benchmarks.driver NAME ARGUMENTS`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from aijobs import submit
from benchmarks.app import app, endure, mark, noop, outlast, remember, time_progress, time_update_state
from benchmarks.harness import Metrics, speed

#: A task that does not end within so many seconds has failed.
RESULT_SECONDS = 120


def publish_noops(jobs: int, warm_up: int) -> None:
    """Queues a worker's whole run: jobs that do not count, then those that count between two marks."""
    for number in range(warm_up):
        noop.delay(number)
    mark.delay("begin")
    for number in range(jobs):
        noop.delay(number)
    mark.delay("end")


def publish_remembering(jobs: int, step: int) -> None:
    """Queues the jobs of a memory measurement."""
    for number in range(1, jobs + 1):
        remember.delay(number, step)


def await_workers(names: list[str]) -> None:
    """Waits until workers of these names answer."""
    missing = set(names)
    deadline = time.monotonic() + RESULT_SECONDS
    while missing and time.monotonic() < deadline:
        missing -= {name for answer in app.control.ping(destination=sorted(missing)) for name in answer}
    if missing:
        raise TimeoutError(f"{', '.join(sorted(missing))} did not start.")


def add_queue(name: str, queue: str) -> None:
    """Has a worker consume one queue more."""
    app.control.add_consumer(queue, destination=[name], reply=True)


def publish_outlasting(labels: list[str], seconds: float, queue: str) -> None:
    """Queues jobs that take so many seconds when they start first."""
    for label in labels:
        outlast.apply_async((label, seconds), queue=queue)


def publish_enduring(label: str, seconds: float, queue: str) -> None:
    """Queues a job that takes so many seconds each time it starts."""
    endure.apply_async((label, seconds), queue=queue)


def run_progress(calls: int) -> float:
    """Has the worker time `progress()`."""
    return float(time_progress.delay(calls).get(timeout=RESULT_SECONDS))


def run_update_state(calls: int) -> float:
    """Has the worker time `update_state()`."""
    return float(time_update_state.delay(calls).get(timeout=RESULT_SECONDS))


def time_submit(calls: int, warm_up: int) -> Metrics:
    """Times `aijobs.submit()`."""
    return _time(lambda: submit(noop), calls, warm_up)


def time_delay(calls: int, warm_up: int) -> Metrics:
    """Times `.delay()`."""
    return _time(noop.delay, calls, warm_up)


def _time(call: Callable[[], Any], calls: int, warm_up: int) -> Metrics:
    for _ in range(warm_up):
        call()
    clock = [time.perf_counter()]
    for _ in range(calls):
        call()
        clock.append(time.perf_counter())
    return speed([after - before for before, after in pairwise(clock)], clock[-1] - clock[0])


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
