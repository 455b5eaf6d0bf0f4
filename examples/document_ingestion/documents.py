"""Which files may be read, which of them are documents, and their bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

#: What the file names of documents end with; `parsing.py` has a parser for each.
SUFFIXES = frozenset({".pdf", ".docx", ".md", ".markdown", ".html", ".htm", ".txt", ".rst"})


class PathNotAllowed(ValueError):
    """The path leads out of the folders that may be read."""


class Problem(StrEnum):
    """Why a document could not be ingested."""

    UNSUPPORTED = "unsupported"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    ENCRYPTED = "encrypted"
    EMPTY = "empty"
    TOO_LARGE = "too_large"


class DocumentError(Exception):
    """One document cannot be ingested; the others can.

    Attributes:
        problem: what kind of problem it is, for programs.
    """

    def __init__(self, problem: Problem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A file's bytes, as they were when it was read."""

    path: Path
    data: bytes

    @property
    def digest(self) -> str:
        """Changes when, and only when, the content does."""
        return hashlib.sha256(self.data).hexdigest()


def allowed_path(path: str, roots: Sequence[Path]) -> Path:
    """Follows every link and `..` of a path and checks where it ends.

    Args:
        path: absolute, or relative to the first root.
        roots: the folders that may be read, resolved.

    Raises:
        PathNotAllowed: it ends outside all roots. The message is the same whether or not something is there.
    """
    if not roots:
        raise PathNotAllowed("No folder may be read yet: name some in DOCUMENT_ROOTS.")
    try:
        resolved = (roots[0] / path).resolve()
    except (OSError, RuntimeError, ValueError):  # link loops, NUL bytes, names that are too long
        resolved = None
    if resolved is None or not any(resolved.is_relative_to(root) for root in roots):
        raise PathNotAllowed("This path is not below a folder that may be read (DOCUMENT_ROOTS).")
    return resolved


def find_documents(paths: Iterable[str], roots: Sequence[Path]) -> list[Path]:
    """Lists files, and the documents below folders, each once.

    A file that is named itself is listed whatever it is, so that the caller hears about it. Below a folder
    hidden files, other kinds of files, names that are no text, and links that lead out of the roots are passed over.

    Raises:
        PathNotAllowed: a given path ends outside all roots.
    """
    found: dict[Path, None] = {}
    for path in paths:
        start = allowed_path(path, roots)
        found.update(dict.fromkeys(_below(start, roots) if start.is_dir() else [start]))
    return list(found)


def _below(folder: Path, roots: Sequence[Path]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = _document(Path(parent, name), roots)
            if path is not None:
                yield path


def _document(path: Path, roots: Sequence[Path]) -> Path | None:
    if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
        return None
    try:
        resolved = allowed_path(str(path), roots)
    except PathNotAllowed:
        return None
    return resolved if resolved.is_file() and _is_text(str(resolved)) else None


def _is_text(name: str) -> bool:
    """Whether a name can be stored and shown: file systems take any bytes."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def read_document(path: Path, max_bytes: int) -> RawDocument:
    """Reads a document of a known kind.

    Args:
        path: a file that may be read.
        max_bytes: a file with more bytes is refused without reading the rest.

    Raises:
        DocumentError: it is missing, no document, empty, too large or unreadable.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DocumentError(Problem.UNSUPPORTED, f"Only these can be read: {', '.join(sorted(SUFFIXES))}.")
    if not path.is_file():
        raise DocumentError(Problem.MISSING, "There is no file at this path.")
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise DocumentError(Problem.UNREADABLE, f"The file cannot be read: {error.strerror}.") from error
    if not data.strip():
        raise DocumentError(Problem.EMPTY, "The file is empty.")
    if len(data) > max_bytes:
        raise DocumentError(Problem.TOO_LARGE, f"The file has over {max_bytes:,} bytes (DOCUMENT_MAX_BYTES).")
    return RawDocument(path, data)
