"""The result backend that writes the job record.

Celery reports every state of every task to its result backend, from whichever process notices. `JobBackendMixin` turns
each report into exactly one change of the record, fenced by the claim of the attempt; a state that the record refuses
does not reach Celery's own result either. Over Redis, `JobRedisBackend` does both in one round trip.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from celery import states
from celery.backends.base import Backend
from celery.backends.redis import RedisBackend
from celery.exceptions import TaskRevokedError
from typing_extensions import override

from aijobs.errors import StoreUnavailable
from aijobs.job import JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.base import Change, Claim, Operation, ResultWrite
from aijobs.store.connect import same_server
from aijobs.worker.claims import DUE, REFUSED, claim_of, is_job
from aijobs.worker.outcome import describe_failure, encode_json
from aijobs.worker.progress import close_reporter
from aijobs.worker.request import JobCancelled
from aijobs.worker.shapes import read_meta

if TYPE_CHECKING:
    from celery.backends.base import Backend as _Stock
else:
    _Stock = object

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: How long the end of an attempt is tried to be written while the store is away, seconds.
PATIENCE_SECONDS = 120.0


class JobBackendMixin(_Stock):
    """Makes any result backend write job records: the record first, then the backend's own result if that stands."""

    @override
    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        # Stock backends subscribe here, in the caller's process, which blocks for long while the server is away;
        # `AsyncResult.get()` subscribes by itself.
        return {}

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Writes a state: the record and, when that accepts it, Celery's result."""
        if not _has_record(request):
            return super().store_result(task_id, result, state, traceback=traceback, request=request, **kwargs)
        if isinstance(result, JobCancelled):
            state = states.REVOKED
        encoded = self.encode_result(result, state)
        write = self.result_write(task_id, encoded, state, traceback, request)
        change = self.write_record(task_id, result, state, traceback, request, write)
        if write is None and (change.accepted or change.status is None):
            super().store_result(task_id, result, state, traceback=traceback, request=request, **kwargs)
        if change.accepted and change.cancel_requested and state not in _FINAL:
            raise JobCancelled
        return encoded

    @override
    def mark_as_done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> None:
        if not store_result or getattr(request, "ignore_result", False):
            self.record_only(task_id, None, state, request=request)
        super().mark_as_done(task_id, result, request, store_result, state)

    @override
    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        if not store_result:
            self.record_only(task_id, exc, state, traceback, request)
        super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)

    @override
    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        if not store_result:
            self.record_only(task_id, TaskRevokedError(reason), state, request=request)
        super().mark_as_revoked(task_id, reason, request, store_result, state)

    def record_only(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None) -> None:
        """Writes a state of a task whose result is ignored: the record, and nothing else."""
        if _has_record(request):
            self.write_record(task_id, result, state, traceback, request, None)

    def result_write(self, task_id: str, encoded: Any, state: str, traceback: Any, request: Any) -> ResultWrite | None:
        """Celery's result as part of the same step, or None when the backend writes it by itself."""
        return None

    def write_record(
        self, task_id: str, result: Any, state: str, traceback: Any, request: Any, write: ResultWrite | None
    ) -> Change:
        """Makes the change of the record that a state stands for."""
        store = runtime_of(self.app).store
        claim = claim_of(self.app, task_id, request)
        if state == states.STARTED and _is_start(result):
            change = _patiently(lambda: store.start(claim, write), store.run)
            if request is not None and not change.accepted:
                setattr(request, REFUSED, True)
            return change
        if state not in _FINAL:
            return store.run(store.report(claim, read_meta(result), write))
        return _patiently(lambda: self._final(claim, result, state, traceback, request, write), store.run)

    def _final(
        self, claim: Claim, result: Any, state: str, traceback: Any, request: Any, write: ResultWrite | None
    ) -> Operation[Change]:
        store = runtime_of(self.app).store
        progress = close_reporter(claim.token)
        if state == states.SUCCESS:
            inline = None if result is None and write is None else encode_json(result)
            return store.finish(claim, JobStatus.SUCCESS, result_json=inline, progress=progress, result=write)
        failure = describe_failure(result, traceback, _soft_limit(self.app, claim, request))
        if state == states.RETRY:
            return store.requeue(claim, failure, _due(request), write)
        status = JobStatus.REVOKED if state == states.REVOKED else JobStatus.FAILED
        return store.finish(claim, status, failure=failure, progress=progress, result=write)


class JobRedisBackend(JobBackendMixin, RedisBackend):
    """Celery's Redis backend with the record, its event and Celery's result written in one step.

    When the records live in another server or database than the results, it writes them one after the other.
    """

    @property
    def _is_fused(self) -> bool:
        return same_server(runtime_of(self.app).store_url, self.connparams)

    @override
    def result_write(self, task_id: str, encoded: Any, state: str, traceback: Any, request: Any) -> ResultWrite | None:
        if not self._is_fused:
            return None
        meta = self._get_result_meta(result=encoded, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        payload = self.encode(meta)
        expires = self.failure_expires if state == states.FAILURE else self.expires
        key = self.get_key_for_task(task_id)
        return ResultWrite(key.decode(), payload if isinstance(payload, bytes) else payload.encode(), expires or 0)


@cache
def job_backend_class(stock: type[Backend]) -> type[Backend]:
    """The class that writes records on top of a backend class."""
    if issubclass(stock, JobBackendMixin):
        return stock
    if stock is RedisBackend:
        return JobRedisBackend
    return type(f"Job{stock.__name__}", (JobBackendMixin, stock), {"__module__": __name__})


_FINAL = frozenset({states.SUCCESS, states.FAILURE, states.REVOKED, states.RETRY})


def _has_record(request: Any) -> bool:
    task = getattr(request, "task", None)
    return not getattr(request, "is_eager", False) and is_job(task if isinstance(task, str) else None)


def _is_start(result: Any) -> bool:
    """Whether a STARTED is the worker's own, not a task's `update_state(state="STARTED", meta=…)`."""
    return isinstance(result, dict) and result.keys() == {"pid", "hostname"}


def _patiently(operation: Callable[[], Operation[T]], run: Callable[[Operation[T]], T]) -> T:
    """Runs what must not be lost: again and again while the store is away, within bounds."""
    prepared = operation()
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = 0.1
    while True:
        try:
            return run(prepared)
        except StoreUnavailable as error:
            if time.monotonic() + pause > deadline:
                raise
            logger.warning("%s; trying again in %.1f seconds", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _due(request: Any) -> datetime | None:
    text = getattr(request, DUE, None)
    return datetime.fromisoformat(text) if text else None


def _soft_limit(app: Any, claim: Claim, request: Any) -> float | None:
    limits = getattr(request, "timelimit", None) or (None, None)
    return limits[1] or getattr(app.tasks.get(claim.task), "soft_time_limit", None)
