"""No-op jobs executed per second by one prefork worker process, published before it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import redis

from aijobs.job import JobStatus
from aijobs.settings import Settings
from aijobs.store import open_store
from benchmarks.harness import MARK_KEY, Bench, Metrics, Part, Round, Stand, Subject, wait_until
from benchmarks.report import Comparison, Metric, Outcome, compare

#: What stock Celery with the same guarantees has to be surpassed by.
TARGET = 1.2
#: What is aimed at beyond that.
AIM = 1.5

#: Processes in the pool of the one worker.
CONCURRENCIES = (1, 2)
#: Of the worker's processes together; it varies less than the rate when the machine has other work to do.
CPU = Metric("cpu_ms", "worker CPU a job", "ms", lower_is_better=True)


def run(bench: Bench) -> Outcome:
    """Measures every subject at every concurrency."""
    rounds = bench.rounds(
        {
            _name(subject, concurrency): partial(measure, bench, subject, concurrency)
            for concurrency in CONCURRENCIES
            for subject in (Subject.AIJOBS, Subject.RELIABLE, Subject.STOCK)
        }
    )
    return Outcome(list(_compare(rounds)), rounds)


def _compare(rounds: list[Round]) -> Iterator[Comparison]:
    for concurrency in CONCURRENCIES:
        ours = _name(Subject.AIJOBS, concurrency)
        for subject, target, aim in ((Subject.RELIABLE, TARGET, AIM), (Subject.STOCK, None, None)):
            metrics = (Metric("per_second", "jobs", "1/s", target=target, aim=aim), CPU)
            yield from compare(f"-c {concurrency}, {subject}", rounds, ours, _name(subject, concurrency), metrics)


def _name(subject: Subject, concurrency: int) -> str:
    return f"{subject} -c {concurrency}"


def measure(bench: Bench, subject: Subject, concurrency: int, without: Part | None = None) -> Metrics:
    """Rate and processor time of one worker, which may lack a part of aijobs."""
    scale = bench.scale
    published = scale.warm_up + scale.jobs + 2
    environ = {} if without is None else {"BENCH_WITHOUT": str(without)}
    with bench.stage(subject, environ) as stand, redis.Redis.from_url(stand.url) as client:
        stand.drive("publish_noops", jobs=scale.jobs, warm_up=scale.warm_up)
        stand.run_worker(concurrency, published, lambda: bool(client.exists(f"{MARK_KEY}end")))
        _check_all_done(stand, client, published, records=subject is Subject.AIJOBS and without is not Part.RECORD)
        begin, end = _read_mark(client, "begin"), _read_mark(client, "end")
    return {
        "per_second": scale.jobs / (end["at"] - begin["at"]),
        "cpu_ms": 1e3 * (end["cpu"] - begin["cpu"]) / scale.jobs,
    }


def _check_all_done(stand: Stand, client: redis.Redis, jobs: int, *, records: bool) -> None:
    """Every job left its Celery result and, with aijobs, its record."""

    def all_done() -> bool:
        results = sum(1 for _ in client.scan_iter("celery-task-meta-*", count=1_000))
        return results == jobs and (not records or _succeeded(stand.url) == jobs)

    wait_until(all_done, 10, f"the results of all {jobs} jobs of {stand.subject}")


def _succeeded(url: str) -> int:
    store = open_store(url, Settings())
    return store.run(store.stats([])).statuses[JobStatus.SUCCESS]


def _read_mark(client: redis.Redis, label: str) -> dict[str, float]:
    found: Any = client.get(MARK_KEY + label)
    return dict(json.loads(found))
