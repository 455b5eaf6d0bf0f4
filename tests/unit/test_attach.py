"""What `setup()` reaches, whenever it is called."""

from __future__ import annotations

from celery import Celery

from aijobs import ProgressTask


def work() -> None:
    """What the tasks do."""


def test_tasks_declared_before_the_first_progress_task_get_the_defaults_too() -> None:
    app = Celery("late", set_as_current=False)
    plain = app.task(name="plain")(work)
    app.task(name="reporting", base=ProgressTask)(work)
    app.finalize()
    assert (plain.acks_late, plain.track_started) == (True, True)


def test_an_app_without_progress_tasks_stays_as_it_is() -> None:
    app = Celery("plain", set_as_current=False)
    plain = app.task(name="plain")(work)
    app.finalize()
    assert not plain.acks_late
