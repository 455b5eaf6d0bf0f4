"""Text for terminals: tables, times, and nothing in it that a terminal would obey."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

#: Where no terminal says how wide it is.
DEFAULT_WIDTH = 160

_GAP = "  "
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def printable(text: str) -> str:
    """One line of text with control characters, line ends and the like written as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def printable_lines(text: str) -> list[str]:
    """The lines of a text, each made printable."""
    return [printable(line.expandtabs()) for line in text.split("\n")]


def json_line(value: Any) -> str:
    """A value as one line of JSON in plain ASCII, so no character of it can do anything to a terminal."""
    from pydantic_core import to_jsonable_python

    return json.dumps(to_jsonable_python(value, inf_nan_mode="null"))


def moment(when: datetime | None) -> str:
    """A time in UTC, to the second."""
    return "-" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float) -> str:
    """A length of time in its largest unit, with the next smaller one."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        parts += [f"{count} {unit}"] if count or parts else []
    return " ".join([*parts, f"{left} s"][:2])


def counted(number: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns below a head, each cut to the width of the terminal."""
    cells = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    return [cut(_GAP.join(map(str.ljust, row, widths)).rstrip()) for row in cells]


def cut(line: str) -> str:
    """A line that fits the terminal."""
    width = shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns
    return line if len(line) <= width else f"{line[: width - 1]}…"
