"""What `setup()` cannot reach, it tells."""

from __future__ import annotations

from celery import Celery

from aijobs import ProgressTask, setup
from aijobs.worker.defaults import weakened_promises


def work() -> None:
    """What the tasks do."""


def test_a_task_that_was_bound_before_is_named() -> None:
    app = Celery("late", broker="redis://", set_as_current=False)
    app.task(name="plain", shared=False)(work)
    app.task(name="reporting", base=ProgressTask, shared=False)(work)
    app.finalize()
    (warning,) = weakened_promises(app)
    assert warning.startswith("plain: acks_late is off")
    assert "setup(app)" in warning


def test_an_app_set_up_at_once_has_nothing_to_tell() -> None:
    app = Celery("early", broker="redis://", set_as_current=False)
    setup(app)
    app.task(name="plain", shared=False)(work)
    app.finalize()
    assert weakened_promises(app) == []
