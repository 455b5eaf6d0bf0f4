"""The pages and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Every page whose code is tried here. The examples have tests of their own.
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(.*?)^```", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    """The text of a page in `docs`."""
    return (ROOT / "docs" / name).read_text()


def without_code(text: str) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", text)


def languages(text: str) -> Iterator[str]:
    """What a page says its code blocks are."""
    for block in _FENCE.finditer(text):
        yield block[1].partition("\n")[0]


def table(name: str, first_column: str) -> list[list[str]]:
    """The rows of the table in a page of `docs` whose first column has this heading; cells as they are written."""
    lines = without_code(read(name)).splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def code(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)
