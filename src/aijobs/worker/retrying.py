"""What becomes of an exception that leaves a task: the one place where that is decided for `ProgressTask`.

What a provider says comes first, as `aijobs.providers` reads it. A fatal error ends the job. A rate limit has its
message sent again, to be executed when the provider said: until then no process is occupied, and no attempt is counted.
All else is retried as Celery's `autoretry_for` and its companions say, in Celery's own way.

The exception must be seen before Celery sees it, so `run` is wrapped when the task is bound to its app.
"""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn, cast

from celery import Celery, Task
from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded, TaskPredicate
from celery.utils.time import get_exponential_backoff_interval

from aijobs.errors import ConfigurationError
from aijobs.job import ErrorCode
from aijobs.providers import Advice, AdviceKind, read_advice
from aijobs.worker.claims import GIVEN_UP, TAKES_MESSAGES, VERDICT, WAITED, WAITS, waited_of, waits_of
from aijobs.worker.coroutines import runs_coroutine
from aijobs.worker.exceptions import JobCancelled, LeaseLost, behind
from aijobs.worker.outcome import Verdict, exception_text

#: The shortest wait; doubled with each further one, so that a provider that always says "now" is not asked for ever.
LEAST_WAIT_SECONDS = 0.5
#: Of what a provider asked to wait, so much is waited longer, at most, so that not all jobs come back at once.
JITTER = 0.1
MOST_JITTER_SECONDS = 5.0


class Retrying(Task):
    """The part of `ProgressTask` that decides what becomes of exceptions."""

    abstract = True

    #: Whether what providers say is obeyed: rate limits are waited for, and what cannot end better is not retried.
    obey_providers: bool = True
    #: Whether failures of networks and providers are retried beside what `autoretry_for` names.
    retry_transient: bool = False
    #: For how many seconds in all the job waits for providers that limit requests.
    patience: float = 3_600

    #: Celery wraps tasks that lack this, and name exceptions, in retries of its own.
    _orig_run: Any = None

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's own; once no retry is left, the exception is the end of the job."""
        try:
            return super().retry(*args, **kwargs)
        except TaskPredicate:
            raise
        except Exception as error:
            request = self.request
            if not request.called_directly:
                setattr(request, GIVEN_UP, error)
            raise


def settle_exceptions(task_class: type[Task[Any, Any]], app: Celery) -> None:
    """Has what leaves a task's `run` decided upon here; doing it twice changes nothing.

    Args:
        task_class: that is being bound.
        app: that it is bound to.

    Raises:
        ConfigurationError: the task's patience is no number of seconds.
    """
    patience = getattr(task_class, "patience", 0)
    if not (isinstance(patience, int | float) and patience >= 0):
        raise ConfigurationError(
            f"The task {task_class.name!r}: patience must be a number of seconds from 0 up, not {patience!r}."
        )
    run = inspect.getattr_static(task_class, "run")
    is_static = isinstance(run, staticmethod)
    function = run.__func__ if is_static else run
    if not inspect.isfunction(function) or function is Task.run or hasattr(function, "__aijobs_settled__"):
        return
    if inspect.iscoroutinefunction(function):
        # It is inherited, so `adapt` did not see it.
        function = runs_coroutine(function)

    def find(args: tuple[Any, ...]) -> Any:
        return app.tasks[str(task_class.name)] if is_static else args[0]

    settled = _settled(function, find)
    task_class.run = staticmethod(settled) if is_static else settled


def _settled(function: Callable[..., Any], find: Callable[[tuple[Any, ...]], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            _settle(find(args), error)
            raise

    run.__aijobs_settled__ = True  # type: ignore[attr-defined]
    return run


def _settle(task: Any, error: Exception) -> None:
    """Raises what Celery is to see in place of an exception; returns when that is the exception itself."""
    request = task.request
    is_predicate = isinstance(error, TaskPredicate) or behind(error, (JobCancelled, LeaseLost)) is not None
    if request.called_directly or is_predicate:
        return
    advice = _advice(task, error)
    is_fatal = advice.kind is AdviceKind.FATAL
    verdict = Verdict(text=exception_text(error), retryable=False if is_fatal else None)
    setattr(request, VERDICT, verdict)
    is_given_up = is_fatal or error is getattr(request, GIVEN_UP, None)
    if not (is_given_up or isinstance(error, tuple(getattr(task, "dont_autoretry_for", ())))):
        _act(task, error, advice, verdict)


def _advice(task: Any, error: Exception) -> Advice:
    """What is obeyed: nothing of a client that only broke off because the task's time was over."""
    if not task.obey_providers or behind(error, (SoftTimeLimitExceeded,)) is not None:
        return Advice(AdviceKind.UNKNOWN)
    advice = read_advice(error)
    # Executed in place, a task has no message that could wait.
    is_in_place = task.request.is_eager and not getattr(task.request, TAKES_MESSAGES, False)
    is_limited_in_place = advice.kind is AdviceKind.RATE_LIMITED and is_in_place
    return Advice(AdviceKind.TRANSIENT, None, advice.reason) if is_limited_in_place else advice


def _act(task: Any, error: Exception, advice: Advice, verdict: Verdict) -> None:
    is_retried = advice.kind is AdviceKind.TRANSIENT and task.retry_transient
    is_limited = advice.kind is AdviceKind.RATE_LIMITED
    if not (is_limited or is_retried or isinstance(error, tuple(getattr(task, "autoretry_for", ())))):
        return
    told, waited = advice.wait_seconds, waited_of(task.request)
    wait = _next_wait(task, told) if is_limited else told or 0.0
    if wait and waited + wait > task.patience:
        note = f"{_said(advice)}, and of the {task.patience:g} s of its patience the job has waited {waited:g} s. "
        setattr(task.request, VERDICT, replace(verdict, code=ErrorCode.RATE_LIMITED, note=note))
    elif is_limited:
        verdict = replace(verdict, code=ErrorCode.RATE_LIMITED, note=f"{_said(advice)}. ")
        setattr(task.request, VERDICT, verdict)
        send_to_wait(task, error, min(wait if told is None else _jittered(wait), task.patience - waited))
    else:
        _retry(task, error, None if told is None else _jittered(told))


def _retry(task: Any, error: Exception, at_least: float | None) -> NoReturn:
    """As Celery's automatic retry, and not before a provider said."""
    options = dict(getattr(task, "retry_kwargs", {}))
    backoff = float(getattr(task, "retry_backoff", False))
    if backoff:
        options["countdown"] = get_exponential_backoff_interval(
            factor=int(max(1.0, backoff)),
            retries=task.request.retries,
            maximum=_longest_wait(task),
            full_jitter=getattr(task, "retry_jitter", True),
        )
    if at_least is not None and "eta" not in options:
        options["countdown"] = max(at_least, options.get("countdown", task.default_retry_delay))
    raise task.retry(exc=error, **options)


def send_to_wait(task: Any, error: Exception, wait: float) -> NoReturn:
    """Sends the task's message again, to be executed later, as the same attempt.

    Args:
        task: that runs.
        error: that left it.
        wait: seconds until then.

    Raises:
        Retry: it is sent.
        Reject: the broker did not take it.
    """
    request = task.request
    headers = {
        **(request.headers or {}),
        WAITS: waits_of(request) + 1,
        WAITED: round(waited_of(request) + wait, 3),
    }
    message = task.signature_from_request(request, retries=request.retries, countdown=wait, headers=headers)
    try:
        if not request.is_eager:
            message.apply_async()
    except SoftTimeLimitExceeded:
        raise
    except Exception as failure:
        raise Reject(failure, requeue=False) from failure
    raise Retry(exc=error, when=cast(Any, wait), sig=message)


def _next_wait(task: Any, told: float | None) -> float:
    """Seconds to wait for a provider, never less than it told."""
    longest, waits = _longest_wait(task), min(waits_of(task.request), 30)
    if told is not None:
        return max(told, LEAST_WAIT_SECONDS, min(LEAST_WAIT_SECONDS * 2.0**waits, longest))
    backoff = max(1.0, float(getattr(task, "retry_backoff", False)))
    bound: float = min(backoff * 2.0**waits, longest)
    return max(LEAST_WAIT_SECONDS, random.uniform(bound / 2, bound))


def _jittered(wait: float) -> float:
    return wait + random.uniform(0, min(JITTER * wait, MOST_JITTER_SECONDS))


def _longest_wait(task: Any) -> int:
    return int(getattr(task, "retry_backoff_max", 600))


def _said(advice: Advice) -> str:
    if advice.wait_seconds is None:
        return f"The provider limits requests ({advice.reason})"
    return f"The provider asked to wait {round(advice.wait_seconds, 3):g} s ({advice.reason})"
