"""What the worker's main process reports of a job that the pool cannot: requeues, ignores, shutdowns, memory errors."""

from __future__ import annotations

import logging
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import signals
from celery.exceptions import Ignore, Reject, Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker import state
from celery.worker.request import Request

from aijobs.broker.held import DELIVERIES, lost_deliveries
from aijobs.errors import StoreUnavailable
from aijobs.job import ErrorCode, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.base import Operation
from aijobs.store.values import Change, Failure, Return
from aijobs.worker.claims import TOKEN, claim_of, is_job, new_token
from aijobs.worker.exceptions import JobCancelled, JobOutOfMemory, JobPoisoned, LeaseLost, StartRefused
from aijobs.worker.outcome import bare_exception
from aijobs.worker.patience import SHORT_PATIENCE_SECONDS, run_patiently

logger = logging.getLogger(__name__)

#: What `Task.replace` gives to `Ignore`: the job goes on, as another task under the same id.
_REPLACED = ("Replaced by new task",)


class JobRequest(Request):
    """Celery's request, with a claim of its own for each delivery of a message."""

    #: Whether the end of the process that runs it is meant, as after a cancel that it did not hear.
    ending = False
    acknowledged: bool
    _already_cancelled: bool
    _process_lost = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_dict[TOKEN] = new_token()

    @property
    def token(self) -> str:
        """The token of the claim under which this delivery runs."""
        token: str = self._request_dict[TOKEN]
        return token

    def revoked(self) -> bool:
        """Whether the job must not run: revoked, expired, or given up because workers were lost with it."""
        return bool(super().revoked()) or self._give_up_poison()

    def maybe_expire(self) -> bool:
        """Whether the job has expired. Celery would refuse its id from then on, though it may be replayed."""
        expired = bool(super().maybe_expire())
        if expired:
            state.revoked.discard(self.id)
        return expired

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Reports what the pool left to the main process; what it reported itself is fenced off."""
        exception = bare_exception(exc_info.exception)
        if isinstance(exception, JobCancelled):
            return self._announce_revoked("cancelled", False, None, False)
        if isinstance(exception, TimeLimitExceeded) and not (return_ok or state.should_terminate):
            # The pool tells of a hard limit twice, and Celery would report both; `on_timeout` comes next.
            return state.task_ready(self)
        if self._is_terminated_by_mistake(exception):
            exc_info = exception_info(WorkerLostError("The process was ended on behalf of another job."))
        elif isinstance(exception, MemoryError):
            exc_info = exception_info(JobOutOfMemory(f"The task ran out of memory: {exception}"))
        elif isinstance(exception, Ignore) and not isinstance(exception, Reject | StartRefused | LeaseLost):
            self._note_ignored(exception)
        self._process_lost = isinstance(bare_exception(exc_info.exception), _PROCESS_LOST)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def reject(self, requeue: bool = False) -> None:
        """Gives the message back, or drops it."""
        if requeue and not self.acknowledged:
            if self._process_lost:
                self.message.headers[DELIVERIES] = lost_deliveries(self.message) + 1
                self._requeue(_PROCESS_LOST_FAILURE, Return.LOST)
            else:
                self._requeue(_REJECTED, Return.REJECTED)
        super().reject(requeue)

    def return_to_queue(self) -> None:
        """Gives an unfinished job to another worker, because this one stops; for any thread.

        The attempt does not count. Whatever the job still reports is refused.
        """
        if self.acknowledged or self._already_cancelled:
            return
        self._already_cancelled = True
        change = self._requeue(None, Return.RETURNED)
        self.acknowledged = True
        if change is not None and change.status is not None and change.status.finished:
            self.message.ack_log_error(logger, self.connection_errors)
        else:
            self.message.reject_log_error(logger, self.connection_errors, requeue=True)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Ends the job in a cold shutdown, for another worker to run it; pools without processes let it go."""
        try:
            super().cancel(pool, signal, emit_retry)
        except NotImplementedError:
            self.return_to_queue()

    def give_up(self) -> None:
        """Ends an unfinished job whose message is gone, because this worker stops."""
        self._already_cancelled = True
        self._fail(WorkerLostError(_NOTHING_TO_RETURN))

    def _announce_cancelled(self, emit_retry: bool = True) -> None:
        if self.acknowledged:
            # Celery would call it a retry, which nothing brings about.
            self.give_up()
            super()._announce_cancelled(emit_retry=False)
            return
        self._requeue(None, Return.RETURNED)
        super()._announce_cancelled(emit_retry)

    def _is_terminated_by_mistake(self, exception: Any) -> bool:
        # A process is told by its id, and may have gone on to another job before it hears that it is to end.
        meant = self.ending or self._already_cancelled or self._already_revoked
        return isinstance(exception, Terminated) and not meant

    def _give_up_poison(self) -> bool:
        if not is_job(self._type):
            return False
        lost = self._lost_deliveries()
        if lost < runtime_of(self._app).settings.max_deliveries:
            return False
        poison = JobPoisoned(f"{lost} worker processes were lost with this job; it is not run again.")
        state.task_ready(self)
        self._fail(poison)
        signals.task_failure.send(
            sender=self.task,
            task_id=self.id,
            exception=poison,
            args=self.args,
            kwargs=self.kwargs,
            traceback=None,
            einfo=exception_info(poison),
        )
        self.acknowledge()
        self._already_revoked = True
        return True

    def _lost_deliveries(self) -> int:
        """How many processes were lost with the job: by its record, or by its message when there is none to be had.

        The message also counts those that only held it. Of a job that waited for its time that means nothing; else such
        a loss counts half, since a message may also be one that no worker lives to begin.
        """
        counted = lost_deliveries(self.message)
        if not self._delivery_info["redelivered"]:
            return counted
        store = runtime_of(self._app).store
        try:
            # Its worker may be gone without a word.
            store.run(store.put_back(self.id))
            job = store.run(store.get(self.id))
        except StoreUnavailable as error:
            logger.warning("Whether job %s is poison is judged by its message alone: %s", self.id, error)
            return counted
        if job is None:
            return counted
        return job.lost_deliveries if self.eta else max(job.lost_deliveries, counted // 2)

    def _note_ignored(self, exception: Ignore) -> None:
        if exception.args[:1] == _REPLACED:
            self._requeue(None, Return.REPLACED)
            return
        failure = Failure(ErrorCode.REJECTED, "The task ended itself without a result (Ignore).")
        store = runtime_of(self._app).store
        self._write(store.finish(self._claim(), JobStatus.REVOKED, failure=failure))

    def _fail(self, why: Exception) -> None:
        self.task.backend.mark_as_failure(self.id, why, request=self._context, store_result=self.store_errors)

    def _requeue(self, failure: Failure | None, why: Return) -> Change | None:
        return self._write(runtime_of(self._app).store.requeue(self._claim(), failure, why=why))

    def _write(self, operation: Operation[Change]) -> Change | None:
        if not is_job(self._type):
            return None
        try:
            return run_patiently(runtime_of(self._app).store, operation, SHORT_PATIENCE_SECONDS)
        except StoreUnavailable as error:
            # The worker has other jobs to look after.
            logger.error("The state of job %s is not recorded: %s", self.id, error)  # noqa: TRY400
            return None

    def _claim(self) -> Any:
        return claim_of(self._app, self.id, self._context)


_PROCESS_LOST = (WorkerLostError, SystemExit, KeyboardInterrupt)
_PROCESS_LOST_FAILURE = Failure(ErrorCode.WORKER_LOST, "The worker process that ran the job was lost.")
_NOTHING_TO_RETURN = (
    "The worker stopped before the job was done, and nothing would run it again, since its message was acknowledged "
    "before it ran (acks_late=False)."
)
_REJECTED = Failure(ErrorCode.REJECTED, "The message was returned to the queue.")


def exception_info(exception: Exception) -> ExceptionInfo:
    """An exception as pools hand it over."""
    try:
        raise exception
    except type(exception):
        return ExceptionInfo()
