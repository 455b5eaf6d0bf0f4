"""How long a caller waits until a job is submitted, one after the other."""

from __future__ import annotations

from functools import partial
from itertools import chain

from benchmarks.harness import Bench, Metrics, Subject
from benchmarks.report import SPEED, Outcome, compare

_SUBMIT, _DELAY, _STOCK = "aijobs submit()", "aijobs .delay()", "stock .delay()"


def run(bench: Bench) -> Outcome:
    """Times `submit()` and `.delay()` with a record, against stock `.delay()` with the Redis result backend."""
    rounds = bench.rounds(
        {
            _SUBMIT: partial(_measure, bench, Subject.AIJOBS, "time_submit"),
            _STOCK: partial(_measure, bench, Subject.STOCK, "time_delay"),
            _DELAY: partial(_measure, bench, Subject.AIJOBS, "time_delay"),
        }
    )
    lines = (compare(ours.removeprefix("aijobs "), rounds, ours, _STOCK, SPEED) for ours in (_SUBMIT, _DELAY))
    return Outcome(list(chain.from_iterable(lines)), rounds)


def _measure(bench: Bench, subject: Subject, function: str) -> Metrics:
    with bench.stage(subject) as stand:
        timed = stand.drive(function, calls=bench.scale.submissions, warm_up=bench.scale.warm_up)
    return {name: float(value) for name, value in timed.items()}
