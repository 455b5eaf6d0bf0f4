"""What aijobs adds to a worker: guarded tasks, the store named in the log, a pulse, and a stop that loses nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from celery import Celery, bootsteps

from aijobs.broker.held import session_id
from aijobs.broker.keeper import Entry, Keeper, needs_keeper
from aijobs.broker.leases import lease_entries
from aijobs.runtime import Runtime, runtime_of
from aijobs.worker.cancelling import Canceller
from aijobs.worker.defaults import keep_prefetch, weakened_promises
from aijobs.worker.filesweep import file_sweeper
from aijobs.worker.hooks import guard_tasks
from aijobs.worker.interrupt import make_interruptible
from aijobs.worker.periodic import Periodic
from aijobs.worker.pulse import Pulse, idle_seconds
from aijobs.worker.reconcile import reconciling
from aijobs.worker.stopping import Stopper
from aijobs.worker.vitals import watch_worker

logger = logging.getLogger(__name__)


class JobsStep(bootsteps.StartStopStep):
    """Prepares the worker for jobs before its pool starts, keeps it in touch with the store, and stops it gently."""

    label = "aijobs"
    #: A thread must not run while the pool forks: a child would inherit the locks that it holds, and wait for ever.
    requires = ("celery.worker.components:Pool",)

    _keeper: Keeper | None = None

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        self._runtime = runtime_of(worker.app)
        guard_tasks(worker.app)
        make_interruptible(worker.app)
        keep_prefetch(worker)
        super().__init__(worker, **kwargs)

    def start(self, worker: Any) -> None:
        """Names the store and what weakens a promise, once, and starts the pulse."""
        logger.info("aijobs keeps job records in %s", self._runtime.store.url)
        for warning in weakened_promises(worker.app):
            logger.warning("aijobs: %s", warning)
        canceller = Canceller(worker.pool, self._runtime.settings.cancel_grace_seconds)
        self._pulse = Pulse(self._runtime, worker, canceller.heed)
        self._pulse.start()
        if needs_keeper(worker.pool_cls):
            self._keeper = _keeper(self._runtime)
            self._keeper.start()
        self._periodic = list(_periodic(worker.app))
        for one in self._periodic:
            one.start()
        self._stopper = Stopper(worker, self._say_goodbye)
        self._stopper.start()
        self._vitals = watch_worker(worker)

    def close(self, worker: Any) -> None:
        """Begins to stop: running jobs have a while to end."""
        self._stopper.begin()

    def _say_goodbye(self) -> None:
        for one in self._periodic:
            one.stop()
        if self._keeper is not None:
            self._keeper.stop()
        self._pulse.stop()
        if self._vitals is not None:
            self._vitals.stop()


def _periodic(app: Celery) -> Iterator[Periodic]:
    """What the worker does again and again beside its jobs."""
    yield reconciling(app)
    sweeper = file_sweeper(runtime_of(app))
    if sweeper is not None:
        yield sweeper


def _keeper(runtime: Runtime) -> Keeper:
    """What keeps a worker alive in the eyes of broker and store while a task does not let its threads run."""
    store = runtime.store
    alive = Entry(store.export(store.stay_alive(session_id())), idle_seconds(runtime.settings))
    return Keeper([*lease_entries(runtime.app), alive])
