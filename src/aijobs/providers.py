"""What an exception of a provider's client says about trying again: never, when, or as you like.

`read_advice` knows exceptions by their shape, so that no client library need be there: by the status and the headers of
the answer that they carry, by the words in its body, and by their names. That covers httpx, requests, aiohttp, urllib,
urllib3, the clients of OpenAI, Anthropic, Google and AWS, and those that are made like one of them. What libraries and
tasks wrap in exceptions of their own is found as well. Pure: nothing is fetched, and no exception makes it fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from aijobs._answers import Answer, package_of, read_answer
from aijobs._told import is_used_up, read_duration, reset_wait, told_wait


class AdviceKind(StrEnum):
    """What to do after an exception."""

    #: Trying again ends the same way: a wrong key, no credit, a request that is not understood or too long.
    FATAL = "fatal"
    #: The provider wants fewer requests. Nothing is wrong with this one.
    RATE_LIMITED = "rate_limited"
    #: The network or the provider failed; the next try may go well.
    TRANSIENT = "transient"
    #: Nothing that is known here.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Advice:
    """What an exception says about trying again."""

    kind: AdviceKind
    #: Seconds that the provider asked to wait; None when it said nothing.
    wait_seconds: float | None = None
    #: Why, for people: "HTTP 429", "insufficient_quota", "ReadTimeout".
    reason: str = ""


#: So many exceptions behind the first are looked at, so many members of a group, and so many groups behind members.
_MOST_LINKS = 10
_MOST_MEMBERS = 1_000
_MOST_LEVELS = 2

_UNKNOWN = Advice(AdviceKind.UNKNOWN)

#: Raised while another exception is handled, these are the fault of who handles it.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)

_LIMITED_STATUSES = frozenset({429, 529})
_TRANSIENT_STATUSES = frozenset({408, 409, 425, *range(500, 600)})
_FATAL_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 410, 411, 413, 414, 415, 422, 431, 451})

#: Words that say more than the status they come with.
_DECISIVE = {
    **dict.fromkeys(
        (
            "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error",
            "account_deactivated", "access_terminated", "invalid_api_key", "model_not_found", "context_length_exceeded",
            "string_above_max_length", "content_policy_violation", "content_filter", "request_too_large",
        ),
        AdviceKind.FATAL,
    ),
    **dict.fromkeys(
        (
            "overloaded_error", "rate_limit_error", "rate_limit_exceeded", "slow_down", "RESOURCE_EXHAUSTED",
            "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "SlowDown",
            "RequestLimitExceeded", "RequestThrottled", "ProvisionedThroughputExceededException",
        ),
        AdviceKind.RATE_LIMITED,
    ),
}  # fmt: skip
#: Words that count when there is no status, as in the middle of a stream.
_TYPES = {
    **dict.fromkeys(
        ("invalid_request_error", "authentication_error", "permission_error", "not_found_error"), AdviceKind.FATAL
    ),
    **dict.fromkeys(
        (
            "server_error",
            "api_error",
            "timeout_error",
            "internal_error",
            "INTERNAL",
            "UNAVAILABLE",
            "DEADLINE_EXCEEDED",
        ),
        AdviceKind.TRANSIENT,
    ),
}

#: Classes that stand for a connection that failed or took too long, by the package they are from. Subclasses count too.
_CONNECTION_LOST = {
    "httpx": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "httpcore": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "requests": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib": ("TimeoutError", "ProtocolError", "NewConnectionError", "MaxRetryError"),
    "http": ("IncompleteRead",),
    "socket": ("gaierror",),
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "botocore": ("ConnectionError", "ConnectionClosedError", "ConnectTimeoutError", "ReadTimeoutError"),
    "google": ("TransportError",),
    "websockets": ("ConnectionClosedError",),
}
#: The same in any package: the clients of many providers are generated, and alike.
_CONNECTION_LOST_ANYWHERE = ("APIConnectionError",)


def read_advice(exception: BaseException, now: datetime | None = None) -> Advice:
    """What an exception says about trying again.

    The exception itself counts most, then what it was raised from, and so on. One that was raised while another was
    being handled, without a `from`, is not taken for fatal because the other was; nor does the other count when this
    one is a mistake, such as a `TypeError`.

    Args:
        exception: of whatever library.
        now: the time, for waits that are told as one; by default this moment.
    """
    return _read(exception, now or datetime.now(UTC), _MOST_LEVELS)


def _read(exception: BaseException, now: datetime, levels: int) -> Advice:
    for error, is_cause in _chain(exception):
        advice = _of_group(error, now, levels) if isinstance(error, BaseExceptionGroup) else _of_one(error, now)
        if advice.kind is not AdviceKind.UNKNOWN and (is_cause or advice.kind is not AdviceKind.FATAL):
            return advice
    return _UNKNOWN


def _chain(exception: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """An exception and those behind it, and whether each caused the one before."""
    error: BaseException | None = exception
    is_cause = True
    for _ in range(_MOST_LINKS):
        if error is None:
            return
        yield error, is_cause
        is_cause = is_cause and error.__cause__ is not None
        is_own = error.__suppress_context__ or isinstance(error, _MISTAKES)
        error = error.__cause__ or (None if is_own else error.__context__)


def _of_group(group: BaseExceptionGroup[BaseException], now: datetime, levels: int) -> Advice:
    """What hinders most counts, and the longest wait."""
    found = [_read(one, now, levels - 1) for one in islice(_members(group), _MOST_MEMBERS)] if levels else []
    for kind in (AdviceKind.FATAL, AdviceKind.UNKNOWN, AdviceKind.RATE_LIMITED, AdviceKind.TRANSIENT):
        alike = [advice for advice in found if advice.kind is kind]
        if alike:
            return max(alike, key=lambda advice: advice.wait_seconds or 0)
    return _UNKNOWN


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups in it."""
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            yield error


def _of_one(error: BaseException, now: datetime) -> Advice:
    answer = read_answer(error)
    advice = _by_words(answer, _DECISIVE, now)
    if advice is None and (answer.status or 0) >= 400:
        advice = _by_status(answer, now)
    advice = advice or _by_words(answer, _TYPES, now) or _by_name(error)
    return _as_told(answer, advice)


def _as_told(answer: Answer, advice: Advice) -> Advice:
    """The advice, unless the answer says outright whether to try again."""
    match answer.headers.get("x-should-retry", "").lower():
        case "false":
            return Advice(AdviceKind.FATAL, reason=f"{advice.reason} x-should-retry: false".strip())
        case "true" if advice.kind is AdviceKind.UNKNOWN or (answer.status and advice.reason == _http(answer.status)):
            kind = AdviceKind.RATE_LIMITED if advice.kind is AdviceKind.RATE_LIMITED else AdviceKind.TRANSIENT
            return Advice(kind, advice.wait_seconds, advice.reason or "x-should-retry: true")
        case _:
            return advice


def _by_words(answer: Answer, meanings: Mapping[str, AdviceKind], now: datetime) -> Advice | None:
    for word in sorted(answer.words & meanings.keys()):
        kind = meanings[word]
        return Advice(kind, _wait(answer, now) if kind is AdviceKind.RATE_LIMITED else None, word)
    return None


def _by_status(answer: Answer, now: datetime) -> Advice:
    status = answer.status or 0
    told = told_wait(answer.headers, now)
    reason = _http(status)
    if status in _LIMITED_STATUSES:
        return Advice(AdviceKind.RATE_LIMITED, _wait(answer, now), reason)
    if status == 503 and told is not None:
        return Advice(AdviceKind.RATE_LIMITED, told, reason)
    if status == 403 and (told is not None or is_used_up(answer.headers, "x-ratelimit-remaining")):
        return Advice(AdviceKind.RATE_LIMITED, _wait(answer, now), reason)
    if status in _TRANSIENT_STATUSES:
        return Advice(AdviceKind.TRANSIENT, told, reason)
    return Advice(AdviceKind.FATAL, reason=reason) if status in _FATAL_STATUSES else _UNKNOWN


def _http(status: int) -> str:
    return f"HTTP {status}"


def _wait(answer: Answer, now: datetime) -> float | None:
    told = told_wait(answer.headers, now)
    if told is not None:
        return told
    return read_duration(answer.delay) if answer.delay else reset_wait(answer.headers, now)


def _by_name(error: BaseException) -> Advice:
    for kind in type(error).__mro__:
        lost = _CONNECTION_LOST.get(package_of(kind), ())
        if kind.__name__ in (*lost, *_CONNECTION_LOST_ANYWHERE) or kind in (ConnectionError, TimeoutError):
            return Advice(AdviceKind.TRANSIENT, reason=type(error).__name__)
    return _UNKNOWN
