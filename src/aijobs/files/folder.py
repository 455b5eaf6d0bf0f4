"""Files in a folder that API and workers share."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from typing_extensions import override

from aijobs.errors import ConfigurationError
from aijobs.files.keys import age_of, check_key, is_key
from aijobs.files.store import CHUNK_BYTES, FileStore, FileWriter, StoredFile

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_UNFINISHED = "unfinished"


def default_folder() -> Path:
    """The folder that the processes of one user share when nothing is set: below the system's temporary folder."""
    return Path(tempfile.gettempdir()) / f"aijobs-files-{os.getuid()}"


class FolderStore(FileStore):
    """A `FileStore` in a folder.

    Args:
        folder: an absolute path; made when it is not there.
        private: whether a folder is refused that is not this user's alone.
    """

    def __init__(self, folder: Path, *, private: bool = False) -> None:
        self.url = str(folder)
        self._folder = folder
        self._private = private

    @override
    def prepare(self) -> None:
        try:
            self._folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            found = self._folder.lstat()
        except OSError as error:
            raise self._unfit(f"it cannot be made ({type(error).__name__})") from error
        if self._private and not _is_private(found):
            raise self._unfit("others than this user may write there")
        if not os.access(self._folder, os.R_OK | os.W_OK | os.X_OK):
            raise self._unfit("this user may not read and write there")

    @override
    def begin(self, key: str) -> FileWriter:
        target = self._path(key)
        self._make(target.parent)
        return _Writer(self._make(self._folder / _UNFINISHED) / secrets.token_hex(16), target)

    @override
    def open(self, key: str) -> BinaryIO:
        return self._path(key).open("rb")

    @override
    @contextmanager
    def path(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        yield path

    @override
    def copy(self, key: str, to: str) -> None:
        source, target = self._path(key), self._path(to)
        self._make(target.parent)
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:
            # Not every file system has links.
            with source.open("rb") as file:
                self.put(to, iter(lambda: file.read(CHUNK_BYTES), b""))

    @override
    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    @override
    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    @override
    def list(self, space: str) -> Iterator[StoredFile]:
        for shard in _entries(self._folder / space):
            for entry in _entries(Path(shard.path)):
                key = f"{space}/{shard.name}/{entry.name}"
                if is_key(key):
                    yield StoredFile(key, age_of(key))

    @override
    def clear_unfinished(self, age_seconds: float) -> None:
        for entry in _entries(self._folder / _UNFINISHED):
            with suppress(FileNotFoundError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > age_seconds:
                    Path(entry.path).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / check_key(key)

    def _make(self, folder: Path) -> Path:
        try:
            folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        except FileNotFoundError:
            # The first file; or somebody has emptied the temporary folder, and nobody else may take our place there.
            self.prepare()
            folder.parent.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        return folder

    def _unfit(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"Uploaded files cannot be kept in {self._folder}: {why}. Set AIJOBS_FILES_URL to a folder that the API "
            "and the workers share, or to a bucket."
        )


class _Writer(FileWriter):
    def __init__(self, unfinished: Path, target: Path) -> None:
        self._unfinished = unfinished
        self._target = target
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE_FILE)
        # What comes is in large pieces already.
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    @override
    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]

    @override
    def commit(self) -> None:
        # Without that, a file may be found empty after a power cut.
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.rename(self._target)

    @override
    def discard(self) -> None:
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return


def _is_private(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
