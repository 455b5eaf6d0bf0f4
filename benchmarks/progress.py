"""What a progress call costs inside a running task."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Bench, Metrics, Subject
from benchmarks.report import Comparison, Outcome, values

#: How many times cheaper than `update_state` a progress call has to be.
TARGET = 100


def run(bench: Bench) -> Outcome:
    """Times `progress()` and `update_state()` in one aijobs worker, and `update_state()` in a stock one."""
    ours, stock = "aijobs", "stock"
    rounds = bench.rounds(
        {ours: partial(_measure, bench, Subject.AIJOBS), stock: partial(_measure, bench, Subject.RELIABLE)}
    )
    cost = values(rounds, ours, "progress_us")
    own_state, stock_state = (values(rounds, name, "update_state_us") for name in (ours, stock))
    return Outcome(
        [
            Comparison("progress(), update_state() of the same worker", "µs", cost, own_state, True, TARGET),
            Comparison("progress(), update_state() of stock", "µs", cost, stock_state, True, TARGET),
            Comparison("update_state()", "µs", own_state, stock_state, True),
        ],
        rounds,
    )


def _measure(bench: Bench, subject: Subject) -> Metrics:
    scale = bench.scale
    with bench.stage(subject) as stand:
        stand.start_worker(concurrency=1)
        stand.drive("run_update_state", calls=scale.warm_up)
        metrics = {"update_state_us": 1e6 * stand.drive("run_update_state", calls=scale.state_calls)}
        if subject is Subject.AIJOBS:
            metrics["progress_us"] = 1e6 * stand.drive("run_progress", calls=scale.progress_calls)
    return metrics
