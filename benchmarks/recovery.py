"""How soon a killed worker's job runs again, and how often a job starts that takes longer than its message is held."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import redis

from aijobs._process import SupervisedProcess
from benchmarks.harness import END_KEY, START_KEY, Bench, Metrics, Round, Stand, Subject, wait_until
from benchmarks.report import Comparison, Outcome, values

#: The shortest lease that `AIJOBS_LEASE_SECONDS` takes.
SHORTEST_LEASE = 5.0
#: How much later than its lease a killed worker's job may start elsewhere, by what aijobs promises, seconds.
PROMISED_SECONDS = 5.0
#: Stock workers look for messages to return when they start and every hundred seconds from then on.
STOCK_SWEEP_SECONDS = 100.0
#: How much longer than the usual lease the long job takes; enough for a sweep.
ENDURANCE = 4

#: Between two kills, so that they do not all meet the same moment of a renewal.
_PAUSE_SECONDS = 0.37
_SLACK_SECONDS = 60.0
#: The queue that workers are killed over, and the worker that consumes it once each of the others has its job.
_QUEUE = "killed"
_HEIR = "heir@bench"
_LONG_QUEUE = "long"
_LONG_WORKERS = 2


@dataclass(frozen=True, slots=True)
class _Holding:
    """How a subject holds the messages of running jobs."""

    subject: Subject
    #: For so many seconds after the last sign of its worker; with stock Celery, after it was fetched.
    seconds: float

    @property
    def name(self) -> str:
        """As the table has it."""
        if self.subject is Subject.AIJOBS:
            return f"aijobs, lease {self.seconds:g} s"
        return f"stock, visibility_timeout {self.seconds:g} s"

    @property
    def longest(self) -> float:
        """What is waited for a job to start again, seconds."""
        return self.seconds + STOCK_SWEEP_SECONDS + _SLACK_SECONDS

    @property
    def environ(self) -> Mapping[str, str]:
        """What tells the subject's processes."""
        if self.subject is Subject.AIJOBS:
            return {"AIJOBS_LEASE_SECONDS": f"{self.seconds:g}"}
        options = {"broker_transport_options": {"visibility_timeout": self.seconds}}
        return {"BENCH_OPTIONS": json.dumps(options)}


def run(bench: Bench) -> Outcome:
    """Kills workers that each run one job, with another worker alive."""
    usual = _Holding(Subject.AIJOBS, bench.scale.lease)
    short = _Holding(Subject.AIJOBS, SHORTEST_LEASE)
    stock = _Holding(Subject.RELIABLE, bench.scale.lease)
    contestants = {one.name: partial(_measure, bench, one) for one in (usual, short, stock)}
    rounds = bench.rounds(contestants, bench.scale.recovery_rounds)
    leases = dict.fromkeys((usual, short))
    return Outcome([line for lease in leases for line in _compare(lease, stock, rounds)], rounds)


def _compare(ours: _Holding, stock: _Holding, rounds: list[Round]) -> Iterator[Comparison]:
    title = f"lease {ours.seconds:g} s, stock's visibility_timeout {stock.seconds:g} s (not its default, 3,600 s)"
    waits, stock_waits = (_waits(holding, rounds) for holding in (ours, stock))
    yield Comparison(
        f"{title}: kill to next start, median of {len(waits)}", "s", [median(waits)], [median(stock_waits)], True
    )
    yield Comparison(
        f"{title}: kill to next start, worst of {len(waits)}",
        "s",
        [max(waits)],
        [max(stock_waits)],
        True,
        limit=ours.seconds + PROMISED_SECONDS,
    )
    starts, stock_starts = (values(rounds, holding.name, "starts") for holding in (ours, stock))
    yield Comparison(
        f"{title}: starts of a job of {ENDURANCE * stock.seconds:g} s, with others there",
        "starts",
        [max(starts)],
        [max(stock_starts)],
        True,
        limit=1,
    )


def _waits(holding: _Holding, rounds: list[Round]) -> list[float]:
    return [value for one in rounds for name, value in one[holding.name].items() if name.startswith("wait_")]


def _measure(bench: Bench, holding: _Holding) -> Metrics:
    endures = ENDURANCE * bench.scale.lease
    with bench.stage(holding.subject, holding.environ) as stand, redis.Redis.from_url(stand.url) as client:
        victims = {f"victim{number}@bench": _QUEUE for number in range(bench.scale.victims)}
        heirs = {_HEIR: "spare", **{f"long{number}@bench": _LONG_QUEUE for number in range(_LONG_WORKERS)}}
        workers = _start_workers(stand, victims | heirs)
        killed = _kill_all(stand, client, workers, len(victims), endures)
        wait_until(
            lambda: all(len(_starts(client, label)) > 1 for label in killed),
            holding.longest,
            f"the jobs of killed workers of {holding.name} to start again",
        )
        wait_until(
            lambda: bool(client.exists(END_KEY + _LONG_QUEUE)),
            endures + _SLACK_SECONDS,
            f"the end of the long job of {holding.name}",
        )
        waits = [_starts(client, label)[1]["at"] - at for label, at in killed.items()]
        starts = len(_starts(client, _LONG_QUEUE))
        # The long job may be running once more, and a stock worker would wait for its end.
        for name in heirs:
            workers[name].kill()
    return {"starts": starts, **{f"wait_{number}": wait for number, wait in enumerate(waits, 1)}}


def _start_workers(stand: Stand, queues: Mapping[str, str]) -> dict[str, SupervisedProcess]:
    """Workers by name, each with a queue; all are ready."""
    workers = {name: stand.start_worker(1, "-n", name, "-Q", queue) for name, queue in queues.items()}
    stand.drive("await_workers", names=list(workers))
    return workers


def _kill_all(
    stand: Stand, client: redis.Redis, workers: Mapping[str, SupervisedProcess], victims: int, endures: float
) -> dict[str, float]:
    """Has each victim take a job, and kills it; when that was, by the job's label."""
    labels = [str(number) for number in range(victims)]
    stand.drive("publish_enduring", label=_LONG_QUEUE, seconds=endures, queue=_LONG_QUEUE)
    stand.drive("publish_outlasting", labels=labels, seconds=3_600, queue=_QUEUE)
    wait_until(
        lambda: all(_starts(client, label) for label in labels), _SLACK_SECONDS, f"workers of {stand.subject} to begin"
    )
    stand.drive("add_queue", name=_HEIR, queue=_QUEUE)
    killed = {}
    for label in labels:
        workers[_starts(client, label)[0]["worker"]].kill()
        killed[label] = time.monotonic()
        time.sleep(_PAUSE_SECONDS)
    return killed


def _starts(client: redis.Redis, label: str) -> list[dict[str, Any]]:
    noted: Any = client.lrange(START_KEY + label, 0, -1)
    return [json.loads(one) for one in noted]
