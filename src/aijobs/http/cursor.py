"""Page cursors: opaque (AIP-158), signed, and good for the same owner and filters only."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from aijobs._deadsearch import DeadLetterFilter
from aijobs.http.problems import INVALID_CURSOR, Problem
from aijobs.store.values import JobFilter, Position

_LONGEST = 2_000
_SIGNATURE_BYTES = 16
_TIME_BYTES = 8


def write_cursor(secret: bytes, where: JobFilter | DeadLetterFilter, position: Position) -> str:
    """The cursor for the page after a position.

    Args:
        secret: shared by all processes that serve the same jobs.
        where: owner and filters of the listing.
        position: where the page ended.
    """
    place = position.created_us.to_bytes(_TIME_BYTES, "big", signed=True) + position.job_id.encode()
    return urlsafe_b64encode(_sign(secret, where, place) + place).decode().rstrip("=")


def read_cursor(secret: bytes, where: JobFilter | DeadLetterFilter, cursor: str) -> Position:
    """The position in a cursor.

    Raises:
        Problem: it was not made here, or for another owner or other filters.
    """
    signed = _decode(cursor)
    signature, place = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(secret, where, place)):
        raise _refusal()
    return Position(int.from_bytes(place[:_TIME_BYTES], "big", signed=True), place[_TIME_BYTES:].decode())


def _decode(cursor: str) -> bytes:
    if len(cursor) > _LONGEST or not cursor.isascii():
        raise _refusal()
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise _refusal() from None


def _sign(secret: bytes, where: JobFilter | DeadLetterFilter, place: bytes) -> bytes:
    return hmac.digest(secret, to_json(_bound(where)) + b"\n" + place, "sha256")[:_SIGNATURE_BYTES]


def _bound(where: JobFilter | DeadLetterFilter) -> Sequence[object]:
    return type(where).__name__, *(_plain(getattr(where, one.name)) for one in fields(where))


def _plain(value: Any) -> Any:
    """A part of a filter in the same form each time."""
    if isinstance(value, datetime):
        return value.timestamp()
    return sorted(value) if isinstance(value, frozenset) else value


def _refusal() -> Problem:
    return Problem(INVALID_CURSOR, "Use next_cursor of a page with the same filters, or leave the cursor out.")
