"""What runs as a client of the measured app, in a process of its own: `python -m benchmarks.driver NAME ARGUMENTS`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any

import redis.asyncio

from aijobs import Progress, setup, submit
from aijobs.store.values import Claim, NewJob, ProgressWrite
from benchmarks.app import (
    SUBJECT,
    URL,
    app,
    endure,
    mark,
    noop,
    outlast,
    remember,
    time_progress,
    time_talk,
    time_update_state,
)
from benchmarks.harness import NEWS_CHANNEL, Metrics, Subject, speed

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


def run_time_talk(calls: int) -> float:
    """Has the worker time what giving out a token costs."""
    return float(time_talk.delay(calls).get(timeout=RESULT_SECONDS))


def publish_talks(job_ids: list[str], task: str, tokens: int, interval: float, queue: str) -> None:
    """Queues jobs that give out tokens, each in its own moment of an interval."""
    for number, job_id in enumerate(job_ids):
        offset = interval * number / len(job_ids)
        app.tasks[task].apply_async((tokens, interval, offset), task_id=job_id, queue=queue)


def run_update_state(calls: int) -> float:
    """Has the worker time `update_state()`."""
    return float(time_update_state.delay(calls).get(timeout=RESULT_SECONDS))


def time_submit(calls: int, warm_up: int) -> Metrics:
    """Times `aijobs.submit()`."""
    return _time(lambda: submit(noop), calls, warm_up)


def time_delay(calls: int, warm_up: int) -> Metrics:
    """Times `.delay()`."""
    return _time(noop.delay, calls, warm_up)


def begin_jobs(job_ids: list[str]) -> None:
    """Makes records of jobs that run, without a worker."""
    store = setup(app).store
    for job_id in job_ids:
        store.run(store.create(NewJob(job_id, "noop")))
        store.run(store.start(Claim(job_id, "claim")))


def write_events(job_ids: list[str], rate: float, seconds: float) -> float:
    """Has so many events a second happen to each job, each telling when; gives the seconds that it took."""
    begun = time.monotonic()
    asyncio.run(_write_all(job_ids, int(rate * seconds), 1 / rate))
    return time.monotonic() - begun


async def _write_all(job_ids: list[str], count: int, interval: float) -> None:
    write = _write_progress if SUBJECT is Subject.AIJOBS else _publish_news()
    async with asyncio.TaskGroup() as group:
        for number, job_id in enumerate(job_ids):
            group.create_task(_write_events(partial(write, job_id), count, interval, interval * number / len(job_ids)))


async def _write_events(write: Callable[[str], Awaitable[Any]], count: int, interval: float, offset: float) -> None:
    begun = time.monotonic() + offset
    for number in range(count):
        await asyncio.sleep(begun + number * interval - time.monotonic())
        detail = Progress(current=number, total=count, unit="pages", message=f"at={time.monotonic():.6f}")
        await write(json.dumps(detail.to_dict()))


async def _write_progress(job_id: str, detail: str) -> None:
    store = setup(app).store
    await store.run_async(store.report(Claim(job_id, "claim"), ProgressWrite(0.5, detail)))


def _publish_news() -> Callable[[str, str], Awaitable[Any]]:
    client = redis.asyncio.Redis.from_url(URL)
    return lambda job_id, detail: client.publish(NEWS_CHANNEL + job_id, f'{{"progress": 0.5, "detail": {detail}}}')


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
