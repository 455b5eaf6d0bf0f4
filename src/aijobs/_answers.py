"""The provider's answer in an exception, whichever client it is from: status, headers, and the words in its body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aijobs._told import plain_headers

#: So many parts of a body are looked at.
_MOST_DETAILS = 10
#: Packages whose exceptions have the status of an answer in an attribute that elsewhere means anything.
_CODE_IS_STATUS = frozenset({"aiohttp", "google", "urllib"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What an exception knows of the provider's answer."""

    status: int | None
    #: By lower-case name.
    headers: Mapping[str, str]
    #: Types and codes of errors.
    words: frozenset[str]
    #: A wait that is told in the body, as text.
    delay: str


def read_answer(error: BaseException) -> Answer:
    """The answer that an exception of whatever library carries, as far as it has one."""
    response = _get(error, "response")
    # AWS: a mapping in place of a response.
    meta = _item(response, "ResponseMetadata")
    sent = (_get(response, "headers"), _get(error, "headers"), _item(meta, "HTTPHeaders"))
    headers = plain_headers(next((one for one in sent if one is not None), None))
    own = (_get(error, "status"), _get(error, "code")) if _is_about_http(error) else ()
    given = (_get(error, "status_code"), _get(response, "status_code"), _get(response, "status"), *own)
    found = (one for one in (*given, _item(meta, "HTTPStatusCode")) if _is_status(one))
    bodies = [*_bodies(_get(error, "body")), *_bodies(_get(error, "details")), *_bodies(response)]
    told = (_get(error, "code"), _get(error, "type"), _get(error, "status"))
    words = (*told, *(body.get(name) for body in bodies for name in ("type", "code", "status", "Code")))
    return Answer(
        int(next(found, 0)) or None,
        headers,
        frozenset(word for word in words if isinstance(word, str)),
        next((delay for body in bodies for delay in _delays(body)), ""),
    )


def package_of(kind: type) -> str:
    """The package of a class, without the number that tells its generations apart."""
    return str(kind.__module__).partition(".")[0].rstrip("0123456789")


def _is_about_http(error: BaseException) -> bool:
    return _get(error, "headers") is not None or any(
        package_of(kind) in _CODE_IS_STATUS for kind in type(error).__mro__
    )


def _is_status(value: Any) -> bool:
    return isinstance(value, int) and 100 <= value < 600


def _bodies(value: Any) -> Iterator[dict[str, Any]]:
    """A decoded body, and the error in it."""
    for body in (value, _item(value, "error"), _item(value, "Error")):
        if isinstance(body, dict):
            yield body


def _delays(body: Mapping[str, Any]) -> Iterator[str]:
    """The `retryDelay` of Google's `RetryInfo`."""
    details = body.get("details")
    for detail in details[:_MOST_DETAILS] if isinstance(details, list) else ():
        delay = _item(detail, "retryDelay")
        if isinstance(delay, str):
            yield delay


def _get(value: Any, name: str) -> Any:
    """An attribute of what is another library's: a property of it may raise anything."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001
        return None


def _item(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
