"""What aijobs adds to a worker: its tasks guarded, its store named in the log, its heartbeat."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import bootsteps

from aijobs.errors import StoreUnavailable
from aijobs.runtime import Runtime, runtime_of
from aijobs.worker.defaults import weakened_promises
from aijobs.worker.hooks import guard_tasks

logger = logging.getLogger(__name__)


class JobsStep(bootsteps.StartStopStep):
    """Prepares the worker for jobs before its pool starts, and says that it is alive while it runs."""

    label = "aijobs"
    #: A thread must not run while the pool forks: a child would inherit the locks that it holds, and wait for ever.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        self._runtime = runtime_of(worker.app)
        self._heartbeat = Heartbeat(self._runtime, worker.hostname)
        guard_tasks(worker.app)
        super().__init__(worker, **kwargs)

    def start(self, worker: Any) -> None:
        """Names the store and what weakens a promise, once, and starts the heartbeat."""
        logger.info("aijobs keeps job records in %s", self._runtime.store.url)
        for warning in weakened_promises(worker.app):
            logger.warning("aijobs: %s", warning)
        self._heartbeat.start()

    def stop(self, worker: Any) -> None:
        """Says that the worker has gone."""
        self._heartbeat.stop()

    terminate = stop


class Heartbeat:
    """A thread that tells the store every few seconds that a worker is alive; it does not depend on the pool.

    Args:
        runtime: of the worker's app.
        worker: the worker's node name.
    """

    def __init__(self, runtime: Runtime, worker: str) -> None:
        self._runtime = runtime
        self._worker = worker
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="aijobs-heartbeat", daemon=True)

    def start(self) -> None:
        """Begins to beat; the first beat is sent here, so that what it imports is there when the pool forks again."""
        self._send(alive=True)
        self._thread.start()

    def stop(self) -> None:
        """Beats no more, and says goodbye."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._send(alive=False)

    def _beat(self) -> None:
        while not self._stopped.wait(self._runtime.settings.heartbeat_seconds):
            self._send(alive=True)

    def _send(self, *, alive: bool) -> None:
        store = self._runtime.store
        try:
            store.run(store.heartbeat(self._worker, alive))
        except StoreUnavailable as error:
            logger.warning("%s", error)
