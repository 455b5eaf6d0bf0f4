"""The example's first parts: which documents may be read, and what they say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from document_ingestion import parsing
from document_ingestion.config import Settings
from document_ingestion.documents import (
    DocumentError,
    PathNotAllowed,
    RawDocument,
    allowed_path,
    find_documents,
    read_document,
)
from document_ingestion.parsing import parse
from tests.examples.document_files import BREAD, COFFEE, TEA, encrypted_pdf, pdf, word_document


def parsed(name: str, data: bytes) -> parsing.Parsed:
    return parse(RawDocument(Path(name), data))


# Reading


def test_a_pdf_has_the_text_and_title_that_it_shows() -> None:
    assert parsed("a.pdf", pdf(TEA, "All about tea")) == parsing.Parsed("All about tea", TEA)


def test_an_encrypted_pdf_that_opens_without_a_password_is_read() -> None:
    assert parsed("a.pdf", encrypted_pdf(TEA, "")).text == TEA


def test_a_word_document_keeps_the_order_of_paragraphs_and_tables() -> None:
    document = parsed("a.docx", word_document("Coffee", [COFFEE], [["Roast", "Minutes"], ["dark", "15"]]))
    assert document == parsing.Parsed("Coffee", f"Coffee\n\n{COFFEE}\n\nRoast | Minutes\ndark | 15")


def test_html_loses_its_scripts_and_keeps_its_paragraphs() -> None:
    page = "<title>Größe</title><!-- note --><script>x</script><p>Eins<br>zwei <b>drei</b></p><ul><li>vier<li>fünf</ul>"
    document = parsed("a.html", f"<meta charset=iso-8859-1>{page}".encode("latin-1"))
    assert document == parsing.Parsed("Größe", "Eins\nzwei drei\n\nvier\n\nfünf")


def test_markdown_loses_its_marks() -> None:
    text = f"# Bread\n\n**Sourdough** [bread](https://example.org)\n\n```\nx = 1\ny = 2\n```\n\n<p>{BREAD}</p>\n"
    assert parsed("a.md", text.encode()) == parsing.Parsed(
        "Bread", f"Bread\n\nSourdough bread\n\nx = 1\ny = 2\n\n{BREAD}"
    )


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Le café est servi à la crème, déjà.", "latin-1"),
        ("Naïve Größe, für \N{LEFT DOUBLE QUOTATION MARK}alle\N{RIGHT DOUBLE QUOTATION MARK}.", "utf-8-sig"),
        ("Le café est servi à la crème, déjà.", "utf-16"),
        ("Кофе готовят в турке на медленном огне, не доводя его до кипения.", "cp1251"),
        ("コーヒーは世界中で飲まれています。日本語の文章です。", "shift_jis"),
    ],
)
def test_text_is_read_in_its_encoding(text: str, encoding: str) -> None:
    assert parsed("a.txt", text.encode(encoding)).text == text


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("a.rst", ".. image:: badge.svg\n\nTea\n===\n\nIt grows.", "Tea"),
        ("a.txt", "\n  Tea in spring\nIt grows.", "Tea in spring"),
        ("a.html", "<h1>Tea <i>in</i> spring</h1>", "Tea in spring"),
        ("tea.md", "It grows.", "tea.md"),
    ],
)
def test_a_document_is_called_as_it_calls_itself(name: str, text: str, title: str) -> None:
    assert parsed(name, text.encode()).title == title


def test_html_may_be_nested_as_deeply_as_it_likes() -> None:
    assert parsed("a.html", b"<div>" * 50_000 + b"tea").text == "tea"


def test_a_page_too_large_to_read_is_refused() -> None:
    with pytest.raises(DocumentError, match="10,000,000 characters of HTML"):
        parsed("a.html", b"<p>" * 3_500_000)


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(DocumentError, match="Unpacked, the file has over 10,000 bytes"):
        parsed("a.docx", word_document("Coffee", [COFFEE], [["x"]]))


# Finding


def test_documents_are_found_once_and_in_order(library: Path) -> None:
    found = find_documents([str(library), "notes", "tea.pdf"], [library])
    assert [path.name for path in found] == [
        *("bread.md", "cheese.html", "coffee.docx", "open.pdf", "tea.pdf"),
        *(
            "binary.txt",
            "blank.md",
            "broken.docx",
            "broken.pdf",
            "empty.txt",
            "huge.txt",
            "locked.pdf",
            "scan.pdf",
        ),
        "café.txt",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../outside.txt",
        "/etc/passwd",
        "a/../../outside.txt",
        "link.txt",
        "folder",
        "a\0b",
        "loop/a.txt",
    ],
)
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    outside = root.parent / "outside.txt"
    outside.write_text(TEA)
    (root / "link.txt").symlink_to(outside)
    (root / "folder").symlink_to(root.parent)
    (root / "loop").symlink_to(root / "loop")
    if path == "loop/a.txt":
        assert find_documents(["."], [root]) == []
        return
    with pytest.raises(PathNotAllowed):
        find_documents([path], [root])


def test_below_a_folder_links_out_of_it_special_files_and_names_that_are_no_text_are_passed_over(root: Path) -> None:
    (root.parent / "outside.txt").write_text(TEA)
    (root / "inside.txt").write_text(TEA)
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    (root / "folder").symlink_to(root.parent)
    os.mkfifo(root / "pipe.txt")
    (root / os.fsdecode(b"no-text-\xff.txt")).write_text(TEA)
    assert find_documents(["."], [root]) == [root / "inside.txt"]


def test_without_a_root_nothing_may_be_read() -> None:
    with pytest.raises(PathNotAllowed, match="DOCUMENT_ROOTS"):
        allowed_path("/etc/passwd", Settings.from_env({}).roots)


def test_what_is_outside_cannot_be_told_from_what_is_not_there(root: Path) -> None:
    with pytest.raises(PathNotAllowed) as there:
        allowed_path("/etc/passwd", [root])
    with pytest.raises(PathNotAllowed) as not_there:
        allowed_path("/etc/no such file", [root])
    assert str(there.value) == str(not_there.value)


@pytest.mark.parametrize(("name", "problem"), [("gone.txt", "missing"), ("a.exe", "unsupported")])
def test_a_file_that_is_named_but_cannot_be_read_is_reported(root: Path, name: str, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(root / name, 100_000)
    assert caught.value.problem == problem
