"""Turns the bytes of a document into its title and text. Works on bytes alone: no file is opened here."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import docx
from bs4 import BeautifulSoup
from bs4.dammit import EncodingDetector
from bs4.element import NavigableString, Tag
from celery.exceptions import SoftTimeLimitExceeded
from charset_normalizer import from_bytes
from docx.document import Document as DocxDocument
from docx.table import Table
from markdown_it import MarkdownIt
from pypdf import PdfReader

from document_ingestion.documents import DocumentError, Problem, RawDocument

#: A document with more text than this (about 2,000 pages) is reported as too large.
MAX_CHARACTERS = 5_000_000
#: A DOCX file is a ZIP archive: more than this, once unpacked, is taken for a decompression bomb.
MAX_UNPACKED_BYTES = 500_000_000
#: HTML takes about a hundred times its size in memory while it is read.
MAX_MARKUP = 10_000_000

_BLOCK_TAGS = """p h1 h2 h3 h4 h5 h6 hr li ul ol dl dt dd tr table pre blockquote
div section article main aside nav header footer"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_UNDERLINED = re.compile(r"^[ \t]*(\w.*)\n[ \t]*([=*~^#-])\2{2,}[ \t]*$", re.MULTILINE)
_FIRST_LINE = re.compile(r"^[ \t]*(\w.*)$", re.MULTILINE)
_SPACES = re.compile(r"\s+")
_HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "head"})
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a document says."""

    #: What the document calls itself; empty when it does not.
    title: str
    #: Blank lines separate paragraphs.
    text: str


def parse(raw: RawDocument) -> Parsed:
    """Reads a document's title and text; a document without a title is called by its file's name.

    Raises:
        DocumentError: the document is broken, encrypted, too large, or has no text.
    """
    try:
        parsed = PARSERS[raw.path.suffix.lower()](raw.data)
    except (DocumentError, SoftTimeLimitExceeded):
        raise
    except Exception as error:  # on broken files parsers raise whatever they stumble over
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DocumentError(Problem.UNREADABLE, f"The file is broken or of another kind ({reason}).") from error
    return _checked(parsed, raw.path)


def _checked(parsed: Parsed, path: Path) -> Parsed:
    text = parsed.text.replace("\0", "").strip()
    if not text:
        raise DocumentError(Problem.EMPTY, "The document has no text; a scan needs text recognition first.")
    if len(text) > MAX_CHARACTERS:
        raise DocumentError(Problem.TOO_LARGE, f"The document has over {MAX_CHARACTERS:,} characters of text.")
    return Parsed(" ".join(parsed.title.split())[:200] or path.name, text)


def parse_pdf(data: bytes) -> Parsed:
    """Reads a PDF; one that opens without a password is read although it is encrypted."""
    reader = PdfReader(BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise DocumentError(Problem.ENCRYPTED, "The PDF needs a password; save a copy without one.")
    text = "\n\n".join(page.extract_text() for page in reader.pages)
    return Parsed((reader.metadata and reader.metadata.title) or "", text)


def parse_docx(data: bytes) -> Parsed:
    """Reads paragraphs and tables of a Word document, in their order."""
    if sum(member.file_size for member in zipfile.ZipFile(BytesIO(data)).infolist()) > MAX_UNPACKED_BYTES:
        raise DocumentError(Problem.TOO_LARGE, f"Unpacked, the file has over {MAX_UNPACKED_BYTES:,} bytes.")
    document = docx.Document(BytesIO(data))
    return Parsed(document.core_properties.title, "\n\n".join(_docx_blocks(document)))


def parse_html(data: bytes) -> Parsed:
    """Reads the text of an HTML page, decoded as the page declares."""
    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    return _html_text(data if declared else decode(data))


def parse_markdown(data: bytes) -> Parsed:
    """Reads Markdown through the HTML it stands for, since it may contain HTML too."""
    return _html_text(_MARKDOWN.render(decode(data)))


def _html_text(markup: bytes | str) -> Parsed:
    if len(markup) > MAX_MARKUP:
        raise DocumentError(Problem.TOO_LARGE, f"The page has over {MAX_MARKUP:,} characters of HTML.")
    soup = BeautifulSoup(markup, "lxml")
    heading = soup.title or soup.h1
    return Parsed(heading.get_text(" ") if heading else "", tidy("".join(_visible_text(soup))))


def _visible_text(soup: BeautifulSoup) -> Iterator[str]:
    """The text that a browser shows, with a blank line wherever a block begins or ends."""
    inside = [_Inside(soup)]
    for node in soup.descendants:
        while inside[-1].tag is not node.parent:
            yield inside.pop().edge
        if isinstance(node, Tag):
            inside.append(_Inside(node, inside[-1]))
            yield "\n" if node.name == "br" else inside[-1].edge
        elif type(node) is NavigableString and not inside[-1].hidden:  # its subclasses are comments and the like
            yield node if inside[-1].preformatted else _SPACES.sub(" ", node)


class _Inside:
    """What it means for a text to be inside a tag, and inside all tags around it."""

    __slots__ = ("edge", "hidden", "preformatted", "tag")

    def __init__(self, tag: Tag, outer: _Inside | None = None) -> None:
        self.tag = tag
        self.hidden: bool = tag.name in _HIDDEN or (outer is not None and outer.hidden)
        self.preformatted: bool = tag.name == "pre" or (outer is not None and outer.preformatted)
        self.edge = "\n\n" if tag.name in _BLOCKS else ""


def parse_text(data: bytes) -> Parsed:
    """Reads plain text; its title is the first line that is underlined, or else the first line."""
    text = decode(data).replace("\r\n", "\n")
    heading = _UNDERLINED.search(text) or _FIRST_LINE.search(text)
    return Parsed(heading[1] if heading else "", text)


#: Which parser reads the files whose names end so.
PARSERS: Mapping[str, Callable[[bytes], Parsed]] = MappingProxyType(
    {
        ".pdf": parse_pdf,
        ".docx": parse_docx,
        ".html": parse_html,
        ".htm": parse_html,
        ".md": parse_markdown,
        ".markdown": parse_markdown,
        ".txt": parse_text,
        ".rst": parse_text,
    }
)


def decode(data: bytes) -> str:
    """Decodes text: UTF-8 when it is valid, else the encoding that the bytes look most like.

    Raises:
        DocumentError: the bytes look like no text at all.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = _guess(data)
    if "\0" in text:
        raise DocumentError(Problem.UNREADABLE, "The file is not text: it has NUL characters.")
    return text


def _guess(data: bytes) -> str:
    matches = from_bytes(data)
    best = matches.best()
    if best is None:
        raise DocumentError(Problem.UNREADABLE, "The file is not text in any known encoding.")
    # Short Western texts fit Central European code pages as well: of equals, take the one that is common.
    equals = [one for one in matches if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    return str(next((one for one in equals if one.encoding == "cp1252"), best))


def tidy(text: str) -> str:
    """Ends lines without white space and separates paragraphs by exactly one blank line."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(map(str.rstrip, text.split("\n")))).strip()


def _docx_blocks(document: DocxDocument) -> list[str]:
    return [
        "\n".join(" | ".join(cell.text for cell in row.cells) for row in block.rows)
        if isinstance(block, Table)
        else block.text
        for block in document.iter_inner_content()
    ]
