"""Every link within the project leads somewhere, and every page can be reached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, without_code

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')

EVERY_PAGE = [*PAGES, *ROOT.glob("examples/*/README.md")]


def links(page: Path) -> Iterator[str]:
    """Where a page's links within the project lead."""
    for link in _LINK.findall(without_code(page.read_text())):
        if not re.match(r"[a-z]+:", link):
            yield link


def anchors(page: Path) -> set[str]:
    """What can stand after `#` in a link to a page: its headings, as GitHub names them, and what it names itself."""
    text = without_code(page.read_text())
    headings = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in _HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in headings} | set(_ANCHOR.findall(text))


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert named >= {*PAGES, *EVERY_PAGE} - {index}
