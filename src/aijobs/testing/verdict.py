"""From what an attempt came to, as Celery tells it, to what becomes of the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.app.trace import TraceInfo
from celery.exceptions import Reject, TaskRevokedError, WorkerLostError
from kombu.exceptions import EncodeError
from typing_extensions import override

from aijobs.job import ErrorCode, JobStatus
from aijobs.store.values import Failure
from aijobs.testing.travel import check_result, travel
from aijobs.worker.claims import VERDICT
from aijobs.worker.exceptions import JobCancelled
from aijobs.worker.outcome import Verdict, describe_failure, encode_json


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker gets of a job."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    retries: int = 0
    headers: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended."""

    #: What the job came to; None when there is another attempt.
    status: JobStatus | None
    failure: Failure | None = None
    exception: BaseException | None = None
    #: After its way through JSON.
    result_json: bytes | None = None
    #: For the next attempt.
    message: Message | None = None
    #: What the next attempt is to wait, seconds.
    wait: float = 0.0
    #: Whether it counts as an attempt.
    counts: bool = True


class SeenTrace(TraceInfo):
    """What Celery's tracer tells of an attempt that did not succeed, with its request."""

    #: The one in which the exception left the task.
    request: Any = None

    @override
    def handle_error_state(self, task: Any, req: Any, eager: bool = False, call_errbacks: bool = True) -> Any:
        self.request = req
        return super().handle_error_state(task, req, eager, call_errbacks)


def judged(task: Any, traced: Any, message: Message) -> End:
    """What becomes of the job after an attempt that came to an end.

    Args:
        task: of the job.
        traced: what Celery's tracer gave.
        message: of the attempt.
    """
    info = traced.info
    if info is None:
        return _succeeded(task, traced.retval)
    exception, traceback = info.retval, traced.retval.traceback
    verdict = getattr(info.request, VERDICT, None)
    if info.state == states.RETRY:
        return _retried(task, exception, traceback, message, verdict)
    if isinstance(exception, JobCancelled):
        return cancelled(exception)
    if info.state == states.IGNORED and not isinstance(exception, Reject):
        failure = Failure(ErrorCode.REJECTED, "The task ended itself without a result (Ignore).")
        return End(JobStatus.REVOKED, failure, exception)
    failure = describe_failure(exception, traceback, task.soft_time_limit, verdict)
    return End(JobStatus.FAILED, failure, exception)


def cancelled(exception: BaseException | None) -> End:
    """The end of a job that somebody cancelled."""
    return End(JobStatus.REVOKED, describe_failure(TaskRevokedError("cancelled")), exception)


def lost(task: Any, message: Message, poison: Exception | None) -> End:
    """What becomes of the job after its worker was lost.

    Args:
        task: of the job.
        message: of the attempt.
        poison: why nobody else is to run it; None when somebody is.
    """
    if poison is not None:
        return End(JobStatus.FAILED, describe_failure(poison), poison)
    failure = describe_failure(WorkerLostError("It was killed, as the test wanted."))
    if not task.acks_late:
        return End(JobStatus.FAILED, failure)
    return End(None, failure, message=replace(message, redelivered=True))


def _succeeded(task: Any, result: Any) -> End:
    if task.ignore_result:
        return End(JobStatus.SUCCESS)
    try:
        check_result(task.app, result)
    except EncodeError as error:
        return End(JobStatus.FAILED, describe_failure(error), error)
    return End(JobStatus.SUCCESS, result_json=encode_json(result))


def _retried(task: Any, retry: Any, traceback: Any, message: Message, verdict: Verdict | None) -> End:
    failure = describe_failure(retry.exc or retry, traceback, verdict=verdict)
    counts = failure.code is not ErrorCode.RATE_LIMITED
    following, wait = _next(task, retry.sig, message), _seconds(retry.when)
    return End(None, failure, retry.exc, message=following, wait=wait, counts=counts)


def _next(task: Any, signature: Any, message: Message) -> Message:
    """What the task sent in its own place."""
    if signature is None:
        # Workers find that it has no message, and send another.
        return replace(message, retries=message.retries + 1)
    args, kwargs = travel(task.app, [signature.args, signature.kwargs])
    options = signature.options
    return Message(args, kwargs, options.get("retries", message.retries + 1), options.get("headers") or {})


def _seconds(when: datetime | float | None) -> float:
    if isinstance(when, datetime):
        moment = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return float(when or 0)
