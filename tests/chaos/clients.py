"""The callers: threads that submit, cancel and watch jobs while everything else falls over."""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import redis

from aijobs import JobNotFound, StoreUnavailable, cancel, setup
from aijobs.store.redis import RedisStore
from tests.chaos.ledger import Cancel, Ledger
from tests.chaos.plan import Order, Way
from tests.chaos.submitting import send
from tests.helpers import PATIENT

#: Threads that submit; one of them may wait for a server that is away while the others go on.
PRODUCERS = 4
#: How long a refused submission waits before it is tried again, seconds.
_AGAIN_SECONDS = 0.3
_LOOK_SECONDS = 0.3


@dataclass
class Callers:
    """The threads of all callers.

    Args:
        module: of the app.
        ledger: where everything is noted.
        url: of the server with the records.
        began: when it all began, on the monotonic clock.
    """

    module: ModuleType
    ledger: Ledger
    url: str
    began: float
    _stopped: threading.Event = field(default_factory=threading.Event)
    _cancels: list[tuple[float, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _producers: list[threading.Thread] = field(default_factory=list)
    _others: list[threading.Thread] = field(default_factory=list)

    def start(self, orders: Sequence[Order]) -> None:
        """Begins to submit the orders, each when it is due."""
        setup(self.module.app)
        self._producers += [self._thread(self._produce, orders[number::PRODUCERS]) for number in range(PRODUCERS)]
        self._others += [self._thread(self._cancel), self._thread(self._watch)]

    @property
    def are_busy(self) -> bool:
        """Whether orders are left to submit or jobs to cancel."""
        return any(thread.is_alive() for thread in self._producers) or bool(self._cancels)

    def stop(self) -> None:
        """Ends all threads."""
        self._stopped.set()
        for thread in (*self._producers, *self._others):
            thread.join()

    def _thread(self, target: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def _produce(self, orders: Sequence[Order]) -> None:
        for order in orders:
            self._stopped.wait(max(0, self.began + order.at - time.monotonic()))
            while not (accepted := send(self.module, self.ledger, order)):
                if self._stopped.wait(_AGAIN_SECONDS):
                    self.ledger.faults.append(f"order {order.number} ({order.kind}) was refused to the very end")
                    return
            self._plan_cancel(order, accepted[0].job_id)

    def _plan_cancel(self, order: Order, job_id: str) -> None:
        if order.cancel_after is not None:
            with self._lock:
                heapq.heappush(self._cancels, (time.monotonic() + order.cancel_after, job_id))

    def _cancel(self) -> None:
        while not self._stopped.wait(0.02):
            while (job_id := self._due()) is not None:
                self._cancel_one(job_id)

    def _due(self) -> str | None:
        with self._lock:
            if self._cancels and self._cancels[0][0] <= time.monotonic():
                return heapq.heappop(self._cancels)[1]
        return None

    def _cancel_one(self, job_id: str) -> None:
        try:
            change = cancel(self.module.app, job_id)
            answer = Cancel(job_id, change.accepted, change.status, time.monotonic())
        except StoreUnavailable:
            answer = Cancel(job_id, None, None, time.monotonic())
        except JobNotFound:
            # Celery's own way of sending makes the record later when the store is away.
            if self.ledger.entries[job_id].order.way is not Way.DELAY:
                self.ledger.faults.append(f"job {job_id} was accepted, but cancel() does not know it")
            return
        self.ledger.cancels[job_id] = answer

    def _watch(self) -> None:
        store = RedisStore(self.url, PATIENT)
        with redis.Redis.from_url(self.url, socket_timeout=10, decode_responses=True) as client:
            while not self._stopped.wait(_LOOK_SECONDS):
                with contextlib.suppress(redis.RedisError, OSError, StoreUnavailable):
                    self._look(client, store)

    def _look(self, client: Any, store: RedisStore) -> None:
        entries = self.ledger.open_entries()
        pipe = client.pipeline(transaction=False)
        for entry in entries:
            pipe.hget(f"{PATIENT.key_prefix}:job:{entry.job_id}", "status")
        for entry, status in zip(entries, pipe.execute(), strict=True):
            job = store.run(store.get(entry.job_id)) if status in ("success", "failed", "revoked") else None
            if job is not None:
                self.ledger.ends[entry.job_id] = job
