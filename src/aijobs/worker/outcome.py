"""From what Celery reports to what the record says: exceptions to failures, results to JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic_core
from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import (
    Reject,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import EncodeError

from aijobs.job import ErrorCode
from aijobs.store.values import Failure
from aijobs.worker.exceptions import JobPoisoned
from aijobs.worker.redaction import redact

T = TypeVar("T")

#: Longer texts are cut: a record is not a log.
MESSAGE_LENGTH = 2_000
TRACEBACK_LENGTH = 8_000
#: So many times as much is looked through for secrets.
_LOOKED_AT = 2
#: What is nested deeper than that is left out of a result that JSON cannot hold as it is.
MAX_DEPTH = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on an exception that left a task, beside what the exception itself says."""

    #: In place of `exception`.
    code: ErrorCode = ErrorCode.EXCEPTION
    #: As `Failure.retryable`.
    retryable: bool | None = None
    #: For people, before the exception's own text.
    note: str = ""
    #: The exception's own text; Celery hands on another one in place of what cannot be pickled.
    text: str = ""


_FIXED = {
    ErrorCode.EXPIRED: "The job expired before a worker could run it.",
    ErrorCode.CANCELLED: "The job was cancelled.",
}
_CODES: dict[type[BaseException], ErrorCode] = {
    SoftTimeLimitExceeded: ErrorCode.TIME_LIMIT,
    TimeLimitExceeded: ErrorCode.TIME_LIMIT,
    WorkerLostError: ErrorCode.WORKER_LOST,
    Reject: ErrorCode.REJECTED,
    JobPoisoned: ErrorCode.POISON,
    EncodeError: ErrorCode.INVALID_RESULT,
}
_PREFIXES = {
    ErrorCode.WORKER_LOST: "The worker process that ran the job was lost. ",
    ErrorCode.INVALID_RESULT: "The task returned something that cannot be stored as its result. ",
}


def bare_exception(exception: Any) -> Any:
    """The exception itself, out of the wrapper in which it came from a pool process."""
    return exception.exc if isinstance(exception, ExceptionWithTraceback) else exception


def describe_failure(
    outcome: Any, traceback: Any = None, time_limit: float | None = None, verdict: Verdict | None = None
) -> Failure:
    """Why an attempt ended, without what looks like a secret.

    Args:
        outcome: the exception, or what a task gave to `update_state(state="FAILURE", meta=…)`.
        traceback: as text, or None.
        time_limit: the soft limit in seconds that applied, when known.
        verdict: what was decided on it, if it is an exception of the task.
    """
    exception = bare_exception(outcome)
    code = _code(exception)
    decided = verdict if verdict and code is ErrorCode.EXCEPTION else Verdict(code)
    # Cut first, as the text may be of any length, and again, as a secret is not to be cut in two.
    text = decided.note + (decided.text or _message(code, exception, time_limit))
    text = redact(text[: _LOOKED_AT * MESSAGE_LENGTH])
    return Failure(decided.code, text[:MESSAGE_LENGTH], _tail(traceback), decided.retryable)


def encode_json(value: Any) -> bytes:
    """A result as JSON text. What JSON cannot hold becomes null (NaN, infinities) or text (objects)."""
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null", fallback=_text)
    except (ValueError, TypeError, RecursionError):
        # Lone surrogates, keys of odd types, lists that contain themselves, …
        return json.dumps(_plain(value), ensure_ascii=False).encode("utf-8", "replace")


def encode_result(encode: Callable[[Any], T], result: Any) -> T:
    """Encodes a result; what the serializer does not know, as models, dataclasses and sets, pydantic makes JSON of.

    Args:
        encode: the serializer.
        result: of a task, or what holds it.

    Raises:
        kombu.exceptions.EncodeError: it is nothing that JSON can hold.
    """
    try:
        return encode(result)
    except EncodeError:
        try:
            plain = pydantic_core.to_jsonable_python(result)
        except (ValueError, RecursionError):
            plain = None
        if plain is None:
            raise
        return encode(plain)


def _plain(value: Any, within: tuple[int, ...] = ()) -> Any:
    if id(value) in within or len(within) > MAX_DEPTH:
        return "…"
    inside = (*within, id(value))
    if isinstance(value, dict):
        return {_text(key): _plain(item, inside) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, inside) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if isinstance(value, str | int | bool | None) else _text(value)


def _text(value: Any) -> str:
    """`str()` of what is the task's own, and may not even manage that."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001
        return type(value).__name__


def _code(exception: Any) -> ErrorCode:
    if isinstance(exception, TaskRevokedError):
        return ErrorCode.EXPIRED if exception.args[:1] == ("expired",) else ErrorCode.CANCELLED
    return next((code for kind, code in _CODES.items() if isinstance(exception, kind)), ErrorCode.EXCEPTION)


def _message(code: ErrorCode, exception: Any, time_limit: float | None) -> str:
    match code:
        case ErrorCode.TIME_LIMIT:
            return _time_limit_message(exception, time_limit)
        case ErrorCode.REJECTED:
            return f"The task rejected its message: {_text(exception.reason or 'no reason given')}"
        case ErrorCode.POISON:
            return str(exception)
        case _:
            return _PREFIXES.get(code, "") + (_FIXED.get(code) or exception_text(exception))


def _time_limit_message(exception: Any, time_limit: float | None) -> str:
    if isinstance(exception, TimeLimitExceeded):
        limit = exception.args[0] if exception.args else None
        return f"The job exceeded its time limit of {limit} seconds and was stopped."
    shown = f" of {time_limit} seconds" if time_limit else ""
    return f"The job exceeded its soft time limit{shown}."


def exception_text(exception: Any) -> str:
    """The type of an exception and what it says, for people."""
    if isinstance(exception, UnpickleableExceptionWrapper):
        return f"{exception.exc_cls_name}: {', '.join(map(_text, exception.exc_args))}"
    if isinstance(exception, BaseException):
        name, text = type(exception).__name__, _text(exception)
        return name if text in ("", name) else f"{name}: {text}"
    if isinstance(exception, dict):
        return _text_of_meta(exception)
    return _text(exception)


def _text_of_meta(meta: dict[str, Any]) -> str:
    for key in ("exc_message", "error", "message", "detail"):
        if meta.get(key):
            value = meta[key]
            return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)
    return "The task reported that it failed."


def _tail(traceback: Any) -> str | None:
    return redact(str(traceback)[-_LOOKED_AT * TRACEBACK_LENGTH :])[-TRACEBACK_LENGTH:] if traceback else None
