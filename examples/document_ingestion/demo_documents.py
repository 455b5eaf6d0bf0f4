"""Real documents that are wherever the demo runs: manuals that come with Python and its packages."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from importlib import import_module, metadata
from pathlib import Path
from typing import cast

#: Shorter texts are no documents worth searching.
MIN_CHARACTERS = 500

_PROJECT = Path(__file__).parents[2]


def write_default_documents(folder: Path) -> int:
    """Writes the documents into a folder, one file each.

    They are the project's own README and docs, the descriptions of the installed packages, and the
    chapters of the language reference that come with Python.

    Returns:
        how many there are.
    """
    texts: dict[str, str] = {}
    for name, text in [*_project_docs(), *_package_descriptions(), *_language_reference()]:
        if len(text) >= MIN_CHARACTERS:
            texts.setdefault(name, text)  # a package may be installed in two places: the first one is in use
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    return len(texts)


def _project_docs() -> Iterator[tuple[str, str]]:
    for path in [_PROJECT / "README.md", *sorted(_PROJECT.glob("docs/**/*.md"))]:
        if path.is_file():
            yield f"aijobs/{path.relative_to(_PROJECT)}", path.read_text(encoding="utf-8")


def _package_descriptions() -> Iterator[tuple[str, str]]:
    for package in metadata.distributions():
        # The metadata is a mail message: older tools put the description in a header, newer ones in the body.
        fields = cast(Message, package.metadata)
        text = fields.get("Description") or fields.get_payload()
        markdown = "markdown" in fields.get("Description-Content-Type", "")
        yield f"packages/{fields['Name']}{'.md' if markdown else '.rst'}", str(text)


def _language_reference() -> Iterator[tuple[str, str]]:
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError:  # some systems package it separately
        return
    for name, text in topics.items():
        yield f"python/{name}.rst", text
