"""What tasks give out, as entries that the store takes: JSON, none longer than an event may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import pydantic_core

from aijobs.job import EventType, LogEntry, Piece
from aijobs.store.values import OutputEntry
from aijobs.worker.outcome import encode_json

#: The longest entry; with what an event says besides, it is within 64 KiB.
MOST_BYTES = 65_000
#: Of the message of a log line that is too long, so many characters are kept.
CUT_MESSAGE = 8_000


def data_entry(data: Any) -> OutputEntry:
    """A piece that is not text. NaN and infinities become null, as in results.

    Raises:
        ValueError: it is too large.
        TypeError: JSON cannot hold it.
    """
    encoded = _encode_strictly(Piece(data=data).to_dict())
    if len(encoded) > MOST_BYTES:
        raise ValueError(
            f"emit() takes data of up to {MOST_BYTES} bytes of JSON at once, and this has {len(encoded)}. "
            "Emit it in parts, or keep it elsewhere and emit where it is."
        )
    return OutputEntry(EventType.OUTPUT, encoded)


def log_entry(line: LogEntry) -> OutputEntry:
    """A line for people. Fields that JSON cannot hold become text; what is too long is cut, without its fields."""
    encoded = encode_json(line.to_dict())
    if len(encoded) > MOST_BYTES:
        encoded = encode_json(LogEntry(f"{line.message[:CUT_MESSAGE]}…", line.level[:CUT_MESSAGE]).to_dict())
    return OutputEntry(EventType.LOG, encoded)


def merge(said: Iterable[str | OutputEntry]) -> Iterator[OutputEntry]:
    """Entries, with the texts between them joined as far as an entry may be long."""
    for is_text, some in groupby(said, lambda one: isinstance(one, str)):
        if is_text:
            yield from _text_entries("".join(some))  # type: ignore[arg-type]
        else:
            yield from some  # type: ignore[misc]


def _text_entries(text: str) -> Iterator[OutputEntry]:
    for begin in range(0, len(text), MOST_BYTES):
        yield from _halves(text[begin : begin + MOST_BYTES])


def _halves(text: str) -> Iterator[OutputEntry]:
    encoded = _encode_text(text)
    if len(encoded) <= MOST_BYTES:
        yield OutputEntry(EventType.OUTPUT, encoded)
    else:
        middle = len(text) // 2
        yield from _halves(text[:middle])
        yield from _halves(text[middle:])


def _encode_text(text: str) -> bytes:
    try:
        return pydantic_core.to_json({"text": text})
    except ValueError:
        # Half a character may come with one token, and its other half with the next.
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return pydantic_core.to_json({"text": whole})


def _encode_strictly(value: Any) -> bytes:
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null")
    except ValueError as error:
        if "surrogates not allowed" in str(error):
            return encode_json(value)
        raise TypeError(f"emit() takes text and what JSON can hold. {error}.") from None
