"""The result backend that writes the job record.

Celery reports every state of every task to its result backend, from whichever process notices. `JobBackendMixin` turns
each report into exactly one change of the record, fenced by the claim of the attempt; a state that the record refuses
does not reach Celery's own result either. Over Redis, `JobRedisBackend` does both in one round trip.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from celery import states
from celery.backends.base import Backend
from celery.backends.redis import RedisBackend
from celery.exceptions import TaskRevokedError
from typing_extensions import override

from aijobs.job import ErrorCode, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.base import Operation
from aijobs.store.connect import same_server
from aijobs.store.values import Change, Claim, Failure, ResultWrite, Return
from aijobs.worker.attempts import close_attempt, number_attempt
from aijobs.worker.claims import DUE, REFUSED, VERDICT, claim_of, is_job
from aijobs.worker.exceptions import JobCancelled
from aijobs.worker.outcome import describe_failure, encode_json, encode_result
from aijobs.worker.patience import run_patiently
from aijobs.worker.shapes import read_meta
from aijobs.worker.writes import LastWords

if TYPE_CHECKING:
    from celery.backends.base import Backend as _Stock
else:
    _Stock = object

T = TypeVar("T")


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
        if change.cancel_requested and change.status is JobStatus.REVOKED and state in _UNFINISHED:
            # The store has revoked the job instead; those who wait for Celery's result are to know.
            super().store_result(task_id, TaskRevokedError("revoked"), states.REVOKED, request=request)
        elif change.cancel_requested and change.accepted and state not in _FINAL:
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

    def _encode(self, data: Any) -> Any:
        return encode_result(super()._encode, data)

    def record_only(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None) -> None:
        """Writes a state of a task whose result is ignored: the record, and nothing else."""
        if _has_record(request):
            self.write_record(task_id, result, state, traceback, request, None, keep_result=False)

    def result_write(self, task_id: str, encoded: Any, state: str, traceback: Any, request: Any) -> ResultWrite | None:
        """Celery's result as part of the same step, or None when the backend writes it by itself."""
        return None

    def result_key(self, task_id: str) -> str:
        """Where in the store Celery's result of a task is; empty when it is elsewhere."""
        return ""

    def write_record(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any,
        request: Any,
        write: ResultWrite | None,
        *,
        keep_result: bool = True,
    ) -> Change:
        """Makes the change of the record that a state stands for."""
        if state == states.STARTED and _is_start(result):
            return self.record_start(task_id, request, write)
        store = runtime_of(self.app).store
        claim = claim_of(self.app, task_id, request)
        if state not in _FINAL:
            return store.run(store.report(claim, read_meta(result), write))
        last = close_attempt(claim.token)
        if state == states.SUCCESS:
            kept = encode_json(result) if keep_result else None
            end = store.finish(
                claim, JobStatus.SUCCESS, result_json=kept, progress=last.progress, result=write, output=last.output
            )
        else:
            verdict = getattr(request, VERDICT, None)
            failure = describe_failure(result, traceback, _soft_limit(self.app, claim, request), verdict)
            end = self._unsuccessful(claim, state, failure, last, request, write)
        return run_patiently(store, end)

    def record_start(self, task_id: str, request: Any, write: ResultWrite | None = None) -> Change:
        """Begins the attempt; when the job is over already, has the request say so."""
        store = runtime_of(self.app).store
        claim = claim_of(self.app, task_id, request)
        change = run_patiently(store, store.start(claim, write))
        number_attempt(claim.token, change.attempt)
        if request is not None and not change.accepted:
            setattr(request, REFUSED, True)
        return change

    def _unsuccessful(
        self,
        claim: Claim,
        state: str,
        failure: Failure,
        last: LastWords,
        request: Any,
        write: ResultWrite | None,
    ) -> Operation[Change]:
        store = runtime_of(self.app).store
        if state == states.RETRY:
            why = Return.WAITED if failure.code is ErrorCode.RATE_LIMITED else Return.RETRY
            return store.requeue(claim, failure, _due(request), write, last.progress, why=why, output=last.output)
        status = JobStatus.REVOKED if state == states.REVOKED else JobStatus.FAILED
        return store.finish(claim, status, failure=failure, progress=last.progress, result=write, output=last.output)


class JobRedisBackend(JobBackendMixin, RedisBackend):
    """Celery's Redis backend with the record, its event and Celery's result written in one step.

    When the records live in another server or database than the results, it writes them one after the other.
    """

    @cached_property
    def _is_fused(self) -> bool:
        return same_server(runtime_of(self.app).store_url, self.connparams)

    @override
    def result_key(self, task_id: str) -> str:
        return self.get_key_for_task(task_id).decode() if self._is_fused else ""

    @override
    def result_write(self, task_id: str, encoded: Any, state: str, traceback: Any, request: Any) -> ResultWrite | None:
        if not self._is_fused:
            return None
        meta = self._get_result_meta(result=encoded, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        payload = self.encode(meta)
        expires = self.failure_expires if state == states.FAILURE else self.expires
        return ResultWrite(
            self.result_key(task_id), payload if isinstance(payload, bytes) else payload.encode(), expires or 0
        )


@cache
def job_backend_class(stock: type[Backend]) -> type[Backend]:
    """The class that writes records on top of a backend class."""
    if issubclass(stock, JobBackendMixin):
        return stock
    if stock is RedisBackend:
        return JobRedisBackend
    return type(f"Job{stock.__name__}", (JobBackendMixin, stock), {"__module__": __name__})


_UNFINISHED = frozenset({states.STARTED, states.RETRY})
_FINAL = frozenset({states.SUCCESS, states.FAILURE, states.REVOKED, states.RETRY})


def _has_record(request: Any) -> bool:
    task = getattr(request, "task", None)
    return not getattr(request, "is_eager", False) and is_job(task if isinstance(task, str) else None)


def _is_start(result: Any) -> bool:
    """Whether a STARTED is the worker's own, not a task's `update_state(state="STARTED", meta=…)`."""
    return isinstance(result, dict) and result.keys() == {"pid", "hostname"}


def _due(request: Any) -> datetime | None:
    text = getattr(request, DUE, None)
    return datetime.fromisoformat(text) if text else None


def _soft_limit(app: Any, claim: Claim, request: Any) -> float | None:
    limits = getattr(request, "timelimit", None) or (None, None)
    return limits[1] or getattr(app.tasks.get(claim.task), "soft_time_limit", None)
