"""The agent's library: passages of Markdown files, found by their words (Okapi BM25)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

#: How soon more of the same word stops to matter, and how much long passages are held against them.
K1, B = 1.2, 0.75
#: A table's row with fewer characters says too little on its own.
ROW = 80

_WORD = re.compile(r"[^\W_]+")
_HEADING = re.compile(r"#+ +(.+)")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
#: Words that say nothing of what is asked.
_COMMON = frozenset(
    _WORD.findall(
        "a about an and are as at be by can do does for from has have how i if in into is it its my no not of on "
        "one or say so that the their them then there they this to was what when where which who why will with you your"
    )
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph, an item or a row, and where it is."""

    source: str
    heading: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as the model gets them."""
        return asdict(self)


class Library:
    """Finds passages by the words of a question.

    Args:
        passages: all that it has.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._words = [Counter(words(f"{one.heading} {one.text}")) for one in passages]
        self._mean = sum(map(Counter.total, self._words)) / max(len(passages), 1)
        seen = Counter(word for counts in self._words for word in counts)
        self._weights = {word: math.log(1 + (len(passages) - n + 0.5) / (n + 0.5)) for word, n in seen.items()}

    def contents(self) -> dict[str, list[str]]:
        """The headings of each file."""
        found: dict[str, list[str]] = {}
        for passage in self._passages:
            headings = found.setdefault(passage.source, [])
            if passage.heading not in headings:
                headings.append(passage.heading)
        return found

    def search(self, query: str, count: int = 4) -> list[Passage]:
        """The passages that fit best, best first; none that has no word of the query."""
        wanted = set(words(query))
        scores = [self._score(wanted, counts) for counts in self._words]
        best = sorted(range(len(scores)), key=lambda place: -scores[place])[:count]
        return [self._passages[place] for place in best if scores[place] > 0]

    def _score(self, wanted: set[str], counts: Counter[str]) -> float:
        damping = K1 * (1 - B + B * counts.total() / self._mean) if counts else 1.0
        return sum(self._weights[word] * n * (K1 + 1) / (n + damping) for word in wanted if (n := counts[word]))


def words(text: str) -> list[str]:
    """The words of a text that say what it is about, without endings such as the plural's."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _COMMON]


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


@lru_cache(maxsize=4)
def open_library(folder: Path) -> Library:
    """Reads all Markdown files of a folder, once for all jobs of a process."""
    return Library([passage for path in sorted(folder.glob("*.md")) for passage in _passages(path)])


def _passages(path: Path) -> Iterator[Passage]:
    heading = path.stem
    text = _CODE.sub("", path.read_text(encoding="utf-8"))
    for block in re.split(r"\n\s*\n", text):
        if title := _HEADING.match(block):
            heading = _plain(title[1])
        else:
            yield from (Passage(path.name, heading, piece) for piece in _pieces(block) if _WORD.search(piece))


def _pieces(block: str) -> list[str]:
    """A paragraph, the items of a list, or the rows of a table."""
    if block.startswith("|"):
        return [row for line in block.splitlines()[2:] if len(row := _row(line)) >= ROW]
    return [_plain(item) for item in _ITEM.split(block)]


def _row(line: str) -> str:
    """A row as a sentence: its first cell says what the others are about."""
    first, *others = (_plain(cell).rstrip(".?") for cell in line.strip().strip("|").split(" | "))
    return f"{first[:1].upper()}{first[1:]}: {'; '.join(filter(None, others))}."


def _plain(text: str) -> str:
    """Without links, marks and line breaks."""
    return " ".join(re.sub(r"[*`<>]", "", _LINK.sub(r"\1", text)).split())
