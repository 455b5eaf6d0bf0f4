"""The handles that tasks get of files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs import FileGone, UploadedFile
from aijobs.files import FileStore, open_files
from aijobs.files.keys import new_key, space_of
from aijobs.settings import current

SPACE = space_of(b"secret")


@pytest.fixture
def key() -> str:
    return new_key(SPACE, "job-1", ".pdf")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileStore]:
    monkeypatch.setenv("AIJOBS_FILES_URL", str(tmp_path))
    current.cache_clear()
    yield open_files(str(tmp_path))
    monkeypatch.undo()
    current.cache_clear()


def test_a_handle_reads_from_the_store_of_its_process(files: FileStore, key: str) -> None:
    file = UploadedFile.from_bytes(b"%PDF-1.7 content", "a.pdf").stored_as(files, key)
    assert UploadedFile.model_validate_json(file.model_dump_json()) == file
    assert file.read_bytes() == b"%PDF-1.7 content"
    with file.open() as opened:
        assert opened.seek(5) == 5
        assert opened.read(3) == b"1.7"
    with file.path() as path:
        assert path.read_bytes() == b"%PDF-1.7 content"
    files.delete(key)
    with pytest.raises(FileGone, match="AIJOBS_FILES_URL") as gone:
        file.read_bytes()
    assert str(pickle.loads(pickle.dumps(gone.value))) == str(gone.value)
    with pytest.raises(FileGone), file.path():
        pass
    with pytest.raises(FileGone):
        file.stored_as(files, new_key(SPACE, "job-2"))


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    source = tmp_path / "report.pdf"
    source.write_bytes(b"%PDF-1.7")
    file = UploadedFile.from_path(source)
    assert (file.name, file.size, file.content_type) == ("report.pdf", 8, "application/pdf")
    assert not file.is_stored
    assert file.read_bytes() == b"%PDF-1.7"
    with file.path() as path:
        assert path == source
    with pytest.raises(OSError, match="missing"):
        UploadedFile.from_path(tmp_path / "missing")


def test_bytes_as_a_file() -> None:
    file = UploadedFile.from_bytes(b"a,b\n", "../table.csv")
    assert (file.name, file.content_type) == ("table.csv", "text/csv")
    with file.path() as path:
        assert path.suffix == ".csv"
        assert path.read_bytes() == b"a,b\n"
    assert not path.exists()
    assert UploadedFile.from_bytes(b"").content_type == "application/octet-stream"


def test_a_file_that_is_not_stored_yet_does_not_travel() -> None:
    with pytest.raises(TypeError, match="ProgressTask"):
        UploadedFile.from_bytes(b"x", "a.txt").__json__()
