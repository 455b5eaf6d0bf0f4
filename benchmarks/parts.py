"""What each part of aijobs costs a worker: its rate with everything, and with one part taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from benchmarks.harness import Bench, Part, Round, Subject
from benchmarks.report import Comparison, Metric, Outcome, compare
from benchmarks.throughput import CONCURRENCIES, CPU, measure

_METRICS = (Metric("per_second", "jobs", "1/s"), CPU)
_EVERYTHING = "everything"

#: What the table says of a worker without a part.
_WITHOUT: Mapping[Part, str] = {
    Part.LEASES: "without leases (kombu's transport)",
    Part.RECORD: "without records (leases and Celery options only)",
    Part.THREADS: "without pulse and reconciler",
    Part.INTERRUPTS: "without interruptible tasks",
    Part.REJECTS: "without task_reject_on_worker_lost",
}
_NOTHING = "without aijobs (stock-reliable)"


def run(bench: Bench) -> Outcome:
    """Measures each part at every concurrency."""
    contestants = {
        _name(shown, concurrency): partial(measure, bench, subject, concurrency, part)
        for concurrency in CONCURRENCIES
        for shown, subject, part in _subjects()
    }
    rounds = bench.rounds(contestants)
    return Outcome(list(_compare(rounds)), rounds)


def _subjects() -> Iterator[tuple[str, Subject, Part | None]]:
    yield _EVERYTHING, Subject.AIJOBS, None
    for part, shown in _WITHOUT.items():
        yield shown, Subject.AIJOBS, part
    yield _NOTHING, Subject.RELIABLE, None


def _compare(rounds: list[Round]) -> Iterator[Comparison]:
    for concurrency in CONCURRENCIES:
        everything = _name(_EVERYTHING, concurrency)
        for shown in (*_WITHOUT.values(), _NOTHING):
            title = f"-c {concurrency}, everything against {shown}"
            yield from compare(title, rounds, everything, _name(shown, concurrency), _METRICS)


def _name(shown: str, concurrency: int) -> str:
    return f"{shown} -c {concurrency}"
