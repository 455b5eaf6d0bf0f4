"""What a worker or a scheduler tells `aijobs health`: that its threads run, and that its main loop turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.concurrency.solo import TaskPool as SoloPool

from aijobs._vitals import INTERVAL_SECONDS, SCHEDULER, WORKER, Vitals
from aijobs.broker.keeper import needs_keeper
from aijobs.runtime import runtime_of
from aijobs.worker.cancelling import jobs_underway

#: How long a turn of a worker's loop may take, seconds; an idle one takes two at most.
TURN_SECONDS = 20.0
#: How long a look at the schedule may take, seconds.
TICK_SECONDS = 30.0

_UID = "aijobs.scheduler"


def watch_worker(worker: Any) -> Vitals | None:
    """Has a worker leave signs of life, once its pool is there; None when no folder for them is set."""
    folder = _folder(worker.app)
    if folder is None:
        return None
    vitals = Vitals(folder, WORKER, lambda: _runs_task(worker, vitals))
    _follow_loop(worker.consumer, vitals)
    if needs_keeper(worker.pool_cls):
        signals.task_prerun.connect(lambda **_: vitals.begin_task(), weak=False)
    vitals.start()
    return vitals


def watch_scheduler() -> None:
    """Has schedulers of this process leave signs of life; doing it twice does nothing."""
    signals.beat_init.connect(_on_scheduler, dispatch_uid=_UID, weak=False)
    # A scheduler with a lock waits for it right here, and is well meanwhile.
    receivers: Any = signals.beat_init.receivers
    receivers.sort(key=lambda entry: entry[0][0] != _UID)


def _on_scheduler(sender: Any, **_: Any) -> None:
    folder = _folder(sender.app)
    if folder is None:
        return
    vitals = Vitals(folder, SCHEDULER)
    scheduler = sender.scheduler
    tick = scheduler.tick

    def watched(*args: Any, **kwargs: Any) -> Any:
        vitals.turn(TICK_SECONDS)
        seconds = tick(*args, **kwargs)
        vitals.turn((seconds or 0) + TICK_SECONDS)
        return seconds

    scheduler.tick = watched
    vitals.start()


def _folder(app: Celery) -> Path | None:
    folder = runtime_of(app).settings.health_folder
    return Path(folder) if folder else None


def _runs_task(worker: Any, vitals: Vitals) -> bool:
    """Whether the worker's own process runs a task."""
    runs = needs_keeper(worker.pool_cls) and bool(jobs_underway())
    if runs and issubclass(worker.pool_cls, SoloPool):
        # The loop waits for the task, which is no fault of it.
        vitals.turn(TURN_SECONDS)
    return runs


def _follow_loop(consumer: Any, vitals: Vitals) -> None:
    """Has the vitals know of each turn, and when the loop is left, as it is while the broker is away."""
    stock, operations = consumer.loop, consumer.perform_pending_operations

    def turn() -> None:
        vitals.turn(TURN_SECONDS)

    def turn_and_operate() -> None:
        turn()
        operations()

    def loop(*args: Any) -> None:
        turn()
        # The loop of other pools does nothing in every turn but this.
        timer = consumer.timer.call_repeatedly(INTERVAL_SECONDS, turn) if consumer.hub else None
        try:
            stock(*args)
        finally:
            vitals.rest()
            if timer is not None:
                timer.cancel()

    consumer.loop, consumer.perform_pending_operations = loop, turn_and_operate
