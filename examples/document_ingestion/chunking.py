"""Cuts a text into chunks for search: along paragraphs and sentences, each overlapping the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: The most characters a chunk has: about 200 words, a passage that still answers one question.
SIZE = 1_200
#: The most characters of the end of a chunk that the next one repeats, so that no thought is cut in two.
OVERLAP = 200

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")


def chunk_text(text: str, *, size: int = SIZE, overlap: int = OVERLAP) -> list[str]:
    """Cuts a text into chunks.

    A chunk ends where a paragraph or a sentence does; only a longer sentence is cut between words, and only a
    longer word inside. Chunks without a letter or a digit are left out.

    Args:
        text: any text; blank lines separate its paragraphs.
        size: the most characters of a chunk.
        overlap: the most characters that a chunk repeats of the one before; whole sentences only.

    Raises:
        ValueError: `size` is below 20, or `overlap` is not between 0 and `size`.
    """
    if size < 20 or not 0 <= overlap < size:
        raise ValueError(f"Chunks need size >= 20 and 0 <= overlap < size, not {size=} and {overlap=}.")
    chunks: list[str] = []
    pieces: list[str] = []
    length = 0
    for piece in _pieces(text, size):
        if pieces and length + len(piece) > size:
            chunks.append("".join(pieces).strip())
            pieces = _tail(pieces, min(overlap, size - len(piece)))
            length = sum(map(len, pieces))
        pieces.append(piece)
        length += len(piece)
    chunks.append("".join(pieces).strip())
    return [chunk for chunk in chunks if any(map(str.isalnum, chunk))]


def _pieces(text: str, size: int) -> Iterator[str]:
    """Sentences, each with the white space that follows it."""
    for paragraph in _PARAGRAPH.split(text.strip()):
        sentences = [sentence for sentence in _SENTENCE.split(paragraph) if sentence.strip()]
        for number, sentence in enumerate(sentences, start=1):
            parts = list(_cut(sentence.strip(), size - 2))
            yield from (f"{part} " for part in parts[:-1])
            yield parts[-1] + ("\n\n" if number == len(sentences) else " ")


def _cut(sentence: str, size: int) -> Iterator[str]:
    start = 0
    while len(sentence) - start > size:
        space = sentence.rfind(" ", start + 1, start + size + 1)
        end = start + size if space == -1 else space
        yield sentence[start:end].strip()
        start = end
    yield sentence[start:].strip()


def _tail(pieces: list[str], length: int) -> list[str]:
    """The last pieces that together have at most `length` characters."""
    start = len(pieces)
    while start and len(pieces[start - 1]) <= length:
        start -= 1
        length -= len(pieces[start])
    return pieces[start:]
