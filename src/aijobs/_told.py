"""How long a provider asks to wait, by the headers of its answer. Pure, and nothing in a header can make it fail.

- `Retry-After`, seconds or a date: RFC 9110, section 10.2.3. `retry-after-ms`, which some send beside it, is finer.
- What is left of a limit, and when it is filled up again: `x-ratelimit-remaining-tokens: 0` with
  `x-ratelimit-reset-tokens: 6m0s` (OpenAI and those that speak like it), `anthropic-ratelimit-tokens-reset` with a time
  (RFC 3339), `x-ratelimit-reset` and `ratelimit-reset` with seconds or a time since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

#: More headers than that, and longer values, are not looked at.
_MOST_HEADERS = 200
_LONGEST_VALUE = 100

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?")
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|us|µs|ns|s|m|h|d)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

#: A number of seconds from here on is a time, one from there on is milliseconds since 1970.
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e12

_WINDOWS = ("requests", "tokens", "input-tokens", "output-tokens")
#: What is left, and when it is filled up; these are in every answer, so they mean nothing while something is left.
_ALWAYS_SENT = [(f"x-ratelimit-remaining-{one}", f"x-ratelimit-reset-{one}") for one in _WINDOWS]
#: These may come alone.
_SENT_AT_WILL = [
    *((f"anthropic-ratelimit-{one}-remaining", f"anthropic-ratelimit-{one}-reset") for one in _WINDOWS),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
]


def plain_headers(given: Any) -> dict[str, str]:
    """Headers of whatever library by lower-case name; none where there are none to be read."""
    try:
        return {str(name).lower(): str(value).strip()[:_LONGEST_VALUE] for name, value in _items(given)}
    except Exception:  # noqa: BLE001
        # They are another library's, and this reads them while an error is handled.
        return {}


def told_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds by `retry-after-ms` or `Retry-After`; None without either, or when neither can be read."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    due = _http_date(text)
    # The two clocks may differ; the answer says what time it was where the date comes from.
    return None if due is None else _until(due, _http_date(headers.get("date", "")) or now)


def reset_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds until every limit that is used up is filled again; None when none says so."""
    resets = [
        *(reset for remaining, reset in _ALWAYS_SENT if is_used_up(headers, remaining)),
        *(reset for remaining, reset in _SENT_AT_WILL if is_used_up(headers, remaining, default=True)),
    ]
    waits = (_span(headers.get(reset, ""), now) for reset in resets)
    return max((wait for wait in waits if wait is not None), default=None)


def is_used_up(headers: Mapping[str, str], remaining: str, *, default: bool = False) -> bool:
    """Whether a header says that nothing is left.

    Args:
        headers: by lower-case name.
        remaining: the header's name.
        default: the answer when it is not there.
    """
    return _number(headers[remaining]) == 0 if remaining in headers else default


def read_duration(text: str) -> float | None:
    """Seconds of a duration such as "1s", "6m0s" or "20ms"; None when it is none."""
    parts = _PART.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _items(given: Any) -> Iterator[tuple[Any, Any]]:
    return islice(given.items(), _MOST_HEADERS)


def _span(text: str, now: datetime) -> float | None:
    number = _number(text)
    if number is not None:
        return _of_number(number, now)
    duration = read_duration(text)
    if duration is not None:
        return duration
    moment = _rfc3339(text)
    return None if moment is None else _until(moment, now)


def _of_number(number: float, now: datetime) -> float:
    if number < _EPOCH_SECONDS:
        return number
    seconds = number if number < _EPOCH_MILLISECONDS else number / 1000
    return max(0.0, seconds - now.timestamp())


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _rfc3339(text: str) -> datetime | None:
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        return None


def _http_date(text: str) -> datetime | None:
    try:
        return _aware(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _until(moment: datetime, now: datetime) -> float:
    return max(0.0, (moment - now).total_seconds())
