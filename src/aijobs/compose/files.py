"""Writes files that people may change, and does not take their changes away."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aijobs.errors import ConfigurationError

_NOTICE = "Written by `aijobs compose`, and yours to change: it does not overwrite what you changed."
_MARK = re.compile(r"digest sha256:([0-9a-f]{64})")
#: Stands in a text for its digest while that is computed.
_BLANK = f"digest sha256:{'0' * 64}"
#: The digest stands among the first lines.
_HEAD_LINES = 6
# Docker reads these only at the very top.
_DIRECTIVE = re.compile(r"(?:#[ \t]*(?:syntax|check|escape)[ \t]*=.*\n)+", re.IGNORECASE)


class Standing(StrEnum):
    """How a file of the project stands to the one that would be written."""

    SAME = "unchanged"
    MISSING = "new"
    #: As it was written once; what is written now differs.
    OUTDATED = "updated"
    #: Changed by people; what is written now is what they changed.
    EDITED = "kept, with your changes"
    #: Changed by people, and what is written now differs from what they changed.
    CONFLICT = "changed by hand"
    #: Never written by aijobs.
    FOREIGN = "not written by aijobs"


#: What a run without `--force` may not write over.
PROTECTED = frozenset({Standing.CONFLICT, Standing.FOREIGN})
#: What `--check` is content with.
CURRENT = frozenset({Standing.SAME, Standing.EDITED})


@dataclass(frozen=True, slots=True)
class File:
    """A file to write.

    Attributes:
        path: where, relative to the project, with slashes.
        text: what, with a digest in its head.
    """

    path: str
    text: str

    @classmethod
    def of(cls, path: str, text: str) -> File:
        """A file with a head that says who wrote it, and a digest that shows whether it was changed since."""
        return cls(path, sealed(_headed(path, text)))


def sealed(text: str) -> str:
    """A text with its digest in the place that its head has for it."""
    return text.replace(_BLANK, f"digest sha256:{_digest(text)}", 1)


def blank_head() -> str:
    """The head of a file that has no comments, as a text for one of its values."""
    return f"{_NOTICE} {_BLANK}"


def standing(root: Path, file: File) -> Standing:
    """How the file in a project's folder stands to the one that would be written."""
    path = _safe_path(root, file.path)
    if not path.exists():
        return Standing.MISSING
    found = _read(path)
    if found == file.text:
        return Standing.SAME
    written = _written(found)
    if written is None:
        return Standing.FOREIGN
    if written == _digest(found):
        return Standing.OUTDATED
    return Standing.EDITED if written == _written(file.text) else Standing.CONFLICT


def write(root: Path, files: Sequence[File], *, force: bool = False) -> list[tuple[str, Standing]]:
    """Writes files, all of them or none.

    Args:
        root: the project's folder.
        files: what to write.
        force: whether to write over what people changed.

    Returns:
        For each file, how it stood.

    Raises:
        ConfigurationError: a file was changed by hand, or is not one of ours, or lies elsewhere; nothing was written.
    """
    found = [(file, standing(root, file)) for file in files]
    in_the_way = [f"{file.path} ({how})" for file, how in found if how in PROTECTED]
    if in_the_way and not force:
        raise ConfigurationError(
            f"Nothing was written, since it would overwrite {', '.join(in_the_way)}. See what would change with "
            "--check; then take it over by hand, with the line of the digest, or leave files out with --skip, or "
            "overwrite them with --force."
        )
    for file, how in found:
        if how not in CURRENT or (force and how is not Standing.SAME):
            _replace(_safe_path(root, file.path), file.text)
    return [(file.path, how) for file, how in found]


def differences(root: Path, files: Sequence[File]) -> list[str]:
    """Diffs from the files in a project's folder to those that would be written; none where all are up to date."""
    return [_diff(root, file) for file in files if standing(root, file) not in CURRENT]


def leftovers(root: Path, files: Iterable[File], folder: str) -> list[str]:
    """Files below a folder that were written once and would no longer be."""
    wanted = {file.path for file in files}
    found = (path for path in sorted((root / folder).rglob("*")) if path.is_file() and not path.is_symlink())
    names = [(path.relative_to(root).as_posix(), path) for path in found]
    return [name for name, path in names if name not in wanted and _is_ours(path)]


def _headed(path: str, text: str) -> str:
    if _BLANK in text:
        return text
    opening, closing = {".md": ("<!-- ", " -->"), ".sql": ("-- ", "")}.get(Path(path).suffix, ("# ", ""))
    head = "".join(f"{opening}{line}{closing}\n" for line in (_NOTICE, _BLANK))
    directives = _DIRECTIVE.match(text)
    split = directives.end() if directives else 0
    return f"{text[:split]}{head}\n{text[split:].lstrip()}"


def _digest(text: str) -> str:
    blank = _MARK.sub(_BLANK, text, count=1)
    return hashlib.sha256(blank.encode()).hexdigest()


def _written(text: str) -> str | None:
    """The digest in a text's head."""
    found = _MARK.search("\n".join(text.splitlines()[:_HEAD_LINES]))
    return found[1] if found else None


def _read(path: Path) -> str:
    """A file's text, whichever line ends a checkout gave it."""
    return path.read_text(encoding="utf-8", errors="replace")


def _is_ours(path: Path) -> bool:
    return _written(_read(path)) is not None


def _diff(root: Path, file: File) -> str:
    path = root / file.path
    old = _read(path).splitlines(keepends=True) if path.exists() else []
    new = file.text.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, file.path, f"{file.path} (generated)"))


def _safe_path(root: Path, name: str) -> Path:
    """Where a file is; links that lead elsewhere are not followed."""
    base = root.resolve()
    path = base / name
    if path.is_symlink() or not path.parent.resolve().is_relative_to(base) or (path.exists() and not path.is_file()):
        raise ConfigurationError(f"{name} is in the way: it is no plain file of the project, so nothing was written.")
    return path


def _replace(path: Path, text: str) -> None:
    """Writes a file as a whole, so that nobody reads a half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
