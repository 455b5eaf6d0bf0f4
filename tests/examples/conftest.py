"""Makes the examples importable, and gives them documents to read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from tests.examples.document_files import BREAD, COFFEE, TEA, encrypted_pdf, pdf, word_document  # noqa: E402


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path.resolve() / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that may be read, without links in its path."""
    folder = tmp_path.resolve() / "documents"
    folder.mkdir()
    return folder


@pytest.fixture
def library(root: Path) -> Path:
    """A folder with a good document of each kind, and bad ones below `bad`."""
    files: dict[str, bytes] = {
        "tea.pdf": pdf(TEA, "All about tea"),
        "open.pdf": encrypted_pdf("This one opens without a password.", ""),
        "coffee.docx": word_document("Coffee", [COFFEE], [["Roast", "Minutes"], ["dark", "15"]]),
        "bread.md": f"# Bread\n\n{BREAD}\n".encode(),
        "cheese.html": b"<title>Cheese</title><p>Rennet curdles the milk of cows and goats.",
        "notes/café.txt": "Le café est servi à la crème.".encode("latin-1"),
        "bad/broken.pdf": pdf(TEA)[:200],
        "bad/broken.docx": b"PK\x03\x04 no archive",
        "bad/locked.pdf": encrypted_pdf(TEA, "secret"),
        "bad/empty.txt": b"",
        "bad/blank.md": b" \n\n",
        "bad/huge.txt": b"word " * 50_000,
        "bad/scan.pdf": pdf(""),
        "bad/binary.txt": b"\x00\x01\x02\x03" * 50,
        "ignored.png": b"\x89PNG",
        ".hidden.txt": b"Hidden files are passed over.",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return root
