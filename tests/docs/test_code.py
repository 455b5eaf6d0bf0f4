"""What the pages say works: their modules, their code and their commands, against real servers and workers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs.embedded import EmbeddedServer
from tests.docs.pages import PAGES, languages
from tests.docs.reader import Reader, free_port

#: Pages on which the broker is started by `aijobs dev`, not by us.
WITHOUT_BROKER = {"getting-started.md", "development-server.md"}

_END_SECONDS = 60.0


@pytest.fixture(scope="session")
def ending(redis_server: EmbeddedServer) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What was told to end: a worker takes seconds for that, in which the next page can be read."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    try:
        for process in processes:
            process.wait(_END_SECONDS)
    finally:
        for process in processes:
            process.kill()


@pytest.fixture
def reader(
    page: Path,
    tmp_path: Path,
    redis_server: EmbeddedServer,
    ending: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Reader]:
    monkeypatch.delenv("REDIS_URL", raising=False)
    # A busy machine must not make the store look away.
    monkeypatch.setenv("AIJOBS_STORE_TIMEOUT_SECONDS", "10")
    # Nothing may stay where users have their files.
    monkeypatch.setenv("AIJOBS_FILES_URL", str(tmp_path / "files"))
    own = f"{redis_server.port}/{PAGES.index(page) + 1}"
    reader = Reader(tmp_path, f"{free_port()}/0" if page.name in WITHOUT_BROKER else own)
    yield reader
    ending += reader.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_works(page: Path, reader: Reader) -> None:
    reader.read(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert set(languages(page.read_text())) <= {"python", "console", "json", "text"}
