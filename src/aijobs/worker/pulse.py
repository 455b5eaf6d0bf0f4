"""A worker's pulse: it tells the store that the worker is alive and what it runs, and hears which jobs are to stop."""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import celery
from celery.concurrency import ALIASES

from aijobs.broker.held import session_id
from aijobs.errors import StoreUnavailable
from aijobs.runtime import Runtime
from aijobs.settings import Settings
from aijobs.store.values import Beat, Standing
from aijobs.worker.cancelling import jobs_at_hand
from aijobs.worker.request import JobRequest

logger = logging.getLogger(__name__)

#: How often a worker that runs jobs asks how they stand, seconds: so soon a cancel is heard.
TICK_SECONDS = 0.5
#: How often an idle one gives a sign of life, seconds, when its lease is long.
IDLE_SECONDS = 5.0


class Pulse:
    """A thread of the worker's main process; it does not depend on the pool.

    Args:
        runtime: of the worker's app.
        worker: Celery's worker.
        heed: is told how each job stands that the worker runs.
    """

    def __init__(self, runtime: Runtime, worker: Any, heed: Callable[[JobRequest, Standing], None]) -> None:
        self._runtime = runtime
        self._worker = worker
        self._heed = heed
        self._constant = _constant_facts(worker)
        self._idle = idle_seconds(runtime.settings)
        self._due = 0.0
        self._away = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aijobs-pulse", daemon=True)

    def start(self) -> None:
        """Begins to beat; the first beat is sent here, so that what it imports is there when the pool forks again."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Beats no more, and says goodbye."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(TICK_SECONDS)
        store = self._runtime.store
        try:
            store.run(store.leave(session_id()))
        except StoreUnavailable as error:
            logger.warning("%s", error)

    def _run(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            if time.monotonic() >= self._due or jobs_at_hand():
                try:
                    self._beat()
                except Exception:
                    logger.exception("A beat of the worker failed")

    def _beat(self) -> None:
        jobs = jobs_at_hand()
        store = self._runtime.store
        beat = Beat(session_id(), self._worker.hostname, self._facts(), [(job.id, job.token) for job in jobs])
        try:
            standings = store.run(store.beat(beat))
        except StoreUnavailable as error:
            self._note_outage(error)
            return
        self._away = False
        self._due = time.monotonic() + self._idle
        for job, standing in zip(jobs, standings, strict=True):
            self._heed(job, standing)

    def _note_outage(self, error: StoreUnavailable) -> None:
        if not self._away:
            logger.warning("%s", error)
        self._away = True

    def _facts(self) -> str:
        worker = self._worker
        changing = {
            "concurrency": worker.pool.num_processes if worker.pool else worker.concurrency,
            "queues": sorted(worker.app.amqp.queues.consume_from),
        }
        return json.dumps(self._constant | changing)


def idle_seconds(settings: Settings) -> float:
    """How often a worker gives a sign of life when it has nothing to ask: three times per lease, or more often."""
    return min(IDLE_SECONDS, settings.lease_seconds / 3)


def _constant_facts(worker: Any) -> dict[str, Any]:
    return {
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "pool": _pool_name(worker.pool_cls),
        "started_at": datetime.now(UTC).isoformat(),
        "versions": {
            "python": platform.python_version(),
            "celery": celery.__version__,
            "aijobs": version("aijobs"),
        },
    }


def _pool_name(pool: type) -> str:
    """What `--pool` calls it."""
    path = f"{pool.__module__}:{pool.__qualname__}"
    return next((alias for alias, known in ALIASES.items() if known == path), path)
