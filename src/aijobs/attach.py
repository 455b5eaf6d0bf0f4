"""`setup()`: attaches aijobs to a Celery app."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from celery import Celery
from celery.app import backends

from aijobs.runtime import Runtime, runtime_of
from aijobs.webhooks.task import add_webhooks
from aijobs.worker.backend import job_backend_class
from aijobs.worker.defaults import add_defaults
from aijobs.worker.hooks import connect_signals, record_publishes
from aijobs.worker.interrupt import connect_process_signals
from aijobs.worker.steps import JobsStep
from aijobs.worker.vitals import watch_scheduler

_done: WeakSet[Celery] = WeakSet()


def setup(app: Celery) -> Runtime:
    """Makes every task of a Celery app leave a job record; doing it twice does nothing.

    `ProgressTask` and `job_router` call it. Call it yourself, right after the app is made, when a worker imports
    neither, or to have the options of your choice checked early.

    It sets the Celery options that keep jobs safe where the app is silent (late acknowledgement, one prefetched job per
    process, JSON, time-outs), and never changes one that the app set.

    Args:
        app: the Celery app. Its configuration may still change until it is first used.

    Returns:
        The app's settings and store.
    """
    if app not in _done:
        _done.add(app)
        add_defaults(app)
        _replace_backend(app)
        record_publishes(app)
        connect_signals()
        connect_process_signals()
        watch_scheduler()
        app.steps["worker"].add(JobsStep)
        add_webhooks(runtime_of(app))
    return runtime_of(app)


def _replace_backend(app: Any) -> None:
    def make_backend() -> Any:
        stock, url = backends.by_url(app.backend_cls or app.conf.result_backend, app.loader)
        return job_backend_class(stock)(app=app, url=url)

    app._get_backend = make_backend
    # Forget one that was made before.
    app._backend_cache = None
    app._local.backend = None
