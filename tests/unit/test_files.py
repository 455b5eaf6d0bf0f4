"""The stores that keep files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs import ConfigurationError
from aijobs.files import FileStore, open_files
from aijobs.files.bucket import FsspecStore
from aijobs.files.folder import FolderStore, default_folder
from aijobs.files.keys import new_key, space_of

SPACE = space_of(b"secret")

# --- stores ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "memory", "fsspec folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    match request.param:
        case "folder":
            yield FolderStore(tmp_path / "files")
        case "memory":
            yield FsspecStore(f"memory://{tmp_path.name}/files")
        case _:
            yield FsspecStore(f"local://{tmp_path}/files")


@pytest.fixture
def key() -> str:
    return new_key(SPACE, "job-1", ".pdf")


def keys(store: FileStore, space: str = SPACE) -> list[str]:
    return [file.key for file in store.list(space)]


def test_a_file_is_kept_until_it_is_deleted(store: FileStore, key: str) -> None:
    store.prepare()
    assert not store.exists(key)
    assert keys(store) == []
    store.put(key, [b"one ", b"", b"two"])
    assert store.exists(key)
    with store.open(key) as file:
        assert file.read(4) == b"one "
        assert file.read() == b"two"
    with store.path(key) as path:
        assert path.read_bytes() == b"one two"
        assert path.suffix == ".pdf"
    assert keys(store) == [key]
    store.delete(key)
    store.delete(key)
    assert not store.exists(key)
    assert keys(store) == []


def test_a_file_that_is_not_there(store: FileStore, key: str) -> None:
    with pytest.raises(FileNotFoundError):
        store.open(key).read()
    with pytest.raises(FileNotFoundError), store.path(key):
        pass
    with pytest.raises(FileNotFoundError):
        store.copy(key, new_key(SPACE, "job-2"))


def test_a_copy_is_a_file_of_its_own(store: FileStore, key: str) -> None:
    other = new_key(SPACE, "job-2", ".pdf")
    store.put(key, [b"content"])
    store.copy(key, other)
    store.delete(key)
    with store.open(other) as file:
        assert file.read() == b"content"


def test_spaces_are_apart(store: FileStore, key: str) -> None:
    store.put(key, [b"x"])
    assert keys(store, space_of(b"another")) == []


def test_a_writer_that_gives_up_leaves_nothing(store: FileStore, key: str) -> None:
    writer = store.begin(key)
    writer.write(b"x" * 100_000)
    writer.discard()
    assert not store.exists(key)

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        store.put(key, broken())
    assert keys(store) == []


def test_many_files_are_listed(store: FileStore) -> None:
    made = {new_key(SPACE, f"job-{n}") for n in range(30)}
    for one in made:
        store.put(one, [b"x"])
    found = list(store.list(SPACE))
    assert {file.key for file in found} == made
    assert all(-1 < file.age_seconds < 60 for file in found)


def test_threads_may_write_at_once(store: FileStore) -> None:
    made = [new_key(SPACE, f"job-{n}") for n in range(8)]
    threads = [threading.Thread(target=store.put, args=(one, [one.encode()] * 100)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in made:
        with store.open(one) as file:
            assert file.read() == one.encode() * 100


# --- the folder ------------------------------------------------------------------------------------------------------


def test_only_the_owner_may_read(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path / "files")
    store.prepare()
    store.put(key, [b"x"])
    with store.path(key) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "files").stat().st_mode) == 0o700


def test_a_folder_that_was_removed_is_made_again_and_as_private(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path / "files", private=True)
    store.put(key, [b"x"])
    shutil.rmtree(tmp_path / "files")
    store.put(key, [b"y"])
    with store.path(key) as path:
        assert {stat.S_IMODE(one.stat().st_mode) for one in list(path.parents)[:3]} == {0o700}


def test_nothing_is_seen_before_it_is_complete(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path)
    writer = store.begin(key)
    writer.write(b"half")
    assert not store.exists(key)
    assert keys(store) == []
    writer.commit()
    assert store.exists(key)


def test_what_a_writer_that_died_has_left_is_cleared(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path)
    script = (
        "import os, sys; from pathlib import Path; from aijobs.files.folder import FolderStore\n"
        "writer = FolderStore(Path(sys.argv[1])).begin(sys.argv[2]); writer.write(b'x'); os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path), key], check=False, timeout=60)
    assert died.returncode == -9
    left = list((tmp_path / "unfinished").iterdir())
    assert len(left) == 1
    store.clear_unfinished(3_600)
    assert left[0].exists()
    old = time.time() - 7_200
    os.utime(left[0], (old, old))
    store.clear_unfinished(3_600)
    assert not left[0].exists()
    store.clear_unfinished(3_600)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder in another file system."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the temporary folder and /dev/shm are not two file systems")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_a_copy_where_a_file_cannot_have_two_names(tmp_path: Path, elsewhere: Path, key: str) -> None:
    store, other = FolderStore(tmp_path), new_key(SPACE, "job-2")
    shard = (tmp_path / key).parent
    shard.parent.mkdir()
    shard.symlink_to(elsewhere)
    (tmp_path / key).write_bytes(b"x" * 300_000)
    store.copy(key, other)
    with store.open(other) as file:
        assert file.read() == b"x" * 300_000


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / SPACE / "ab").mkdir(parents=True)
    (tmp_path / SPACE / "note.txt").write_text("mine")
    (tmp_path / SPACE / "ab" / "note.txt").write_text("mine")
    assert keys(FolderStore(tmp_path)) == []


def test_a_folder_that_others_may_write_to_is_not_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others than this user"):
        FolderStore(tmp_path, private=True).prepare()
    FolderStore(tmp_path).prepare()


def test_a_link_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="others than this user"):
        FolderStore(tmp_path / "link", private=True).prepare()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="AIJOBS_FILES_URL"):
        FolderStore(tmp_path / "file" / "below").prepare()


# --- URLs ------------------------------------------------------------------------------------------------------------


def test_where_files_are_kept(tmp_path: Path) -> None:
    assert open_files(None).url == str(default_folder())
    assert open_files(str(tmp_path)).url == str(tmp_path)
    assert open_files(f"file://{tmp_path}/a%20b").url == f"{tmp_path}/a b"
    assert isinstance(open_files("memory://bucket/folder"), FsspecStore)
    assert open_files("memory://key:secret@bucket?token=1").url == "memory://bucket"
    assert open_files(str(tmp_path)) is open_files(str(tmp_path))


@pytest.mark.parametrize("url", ["files", "./files", "~/files", "file://host/files", "file:relative"])
def test_paths_that_mean_something_else_elsewhere(url: str) -> None:
    with pytest.raises(ConfigurationError, match="AIJOBS_FILES_URL"):
        open_files(url)


@pytest.mark.parametrize("url", ["nosuch://bucket", "abfs://container/path"])
def test_a_url_that_needs_what_is_not_there(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"aijobs\[files\]"):
        open_files(url)
