"""What the worker's main process reports of a job that the pool cannot: requeues, ignores, shutdowns, memory errors."""

from __future__ import annotations

import logging
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.exceptions import Ignore, Reject
from celery.worker.request import Request

from aijobs.errors import StoreUnavailable
from aijobs.job import ErrorCode, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.base import Change, Failure, Operation
from aijobs.worker.claims import TOKEN, claim_of, is_job, new_token
from aijobs.worker.outcome import bare_exception
from aijobs.worker.patience import SHORT_PATIENCE_SECONDS, run_patiently

logger = logging.getLogger(__name__)

#: What `Task.replace` gives to `Ignore`: the job goes on, as another task under the same id.
_REPLACED = ("Replaced by new task",)


class JobCancelled(Ignore):
    """Raised inside a task, at a progress call, once somebody asked for its job to be cancelled.

    Let it pass: `finally` blocks run, the job ends as `revoked`. It is one of Celery's task predicates, so
    `autoretry_for=(Exception,)` does not take it for a failure.
    """


class JobOutOfMemory(RuntimeError):
    """A task ran out of memory. Stands in for `MemoryError`, for which Celery would end the whole worker."""


class JobRequest(Request):
    """Celery's request, with a claim of its own for each delivery of a message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_dict[TOKEN] = new_token()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Reports what the pool left to the main process; what it reported itself is fenced off."""
        exception = bare_exception(exc_info.exception)
        if isinstance(exception, JobCancelled):
            return self._announce_revoked("cancelled", False, None, False)
        if isinstance(exception, MemoryError):
            exc_info = _out_of_memory(exception)
        elif isinstance(exception, Ignore) and not isinstance(exception, Reject):
            self._note_ignored(exception)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def reject(self, requeue: bool = False) -> None:
        """Gives the message back, or drops it."""
        if requeue and not self.acknowledged:
            self._requeue(Failure(ErrorCode.REJECTED, "The message was returned to the queue."))
        super().reject(requeue)

    def _announce_cancelled(self, emit_retry: bool = True) -> None:
        self._requeue(None)
        super()._announce_cancelled(emit_retry)

    def _note_ignored(self, exception: Ignore) -> None:
        if exception.args[:1] == _REPLACED:
            self._requeue(None)
            return
        failure = Failure(ErrorCode.REJECTED, "The task ended itself without a result (Ignore).")
        store = runtime_of(self._app).store
        self._write(store.finish(self._claim(), JobStatus.REVOKED, failure=failure))

    def _requeue(self, failure: Failure | None) -> None:
        self._write(runtime_of(self._app).store.requeue(self._claim(), failure))

    def _write(self, operation: Operation[Change]) -> None:
        if not is_job(self._type):
            return
        try:
            run_patiently(runtime_of(self._app).store, operation, SHORT_PATIENCE_SECONDS)
        except StoreUnavailable as error:
            # The worker has other jobs to look after.
            logger.error("The state of job %s is not recorded: %s", self.id, error)  # noqa: TRY400

    def _claim(self) -> Any:
        return claim_of(self._app, self.id, self._context)


def _out_of_memory(error: MemoryError) -> ExceptionInfo:
    try:
        raise JobOutOfMemory(f"The task ran out of memory: {error}") from None
    except JobOutOfMemory:
        return ExceptionInfo()
