"""Files wherever fsspec reaches: S3, Google Cloud Storage, Azure, and dozens more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from typing_extensions import override

from aijobs.errors import ConfigurationError
from aijobs.files.keys import age_of, check_key, is_key
from aijobs.files.store import FileStore, FileWriter, StoredFile

#: So much is held in memory until it is sent; S3 takes parts of 5 MiB at least.
_BLOCK_BYTES = 5 * 1024 * 1024


class FsspecStore(FileStore):
    """A `FileStore` in a file system of fsspec.

    Args:
        url: such as `s3://bucket/folder`; credentials come from the environment, as the file system has it.

    Raises:
        ConfigurationError: fsspec, or what it needs for this URL, is not installed.
    """

    sweep_seconds = 900.0

    def __init__(self, url: str) -> None:
        self.url = _without_login(url)
        self._url = url
        self._system()

    @override
    def prepare(self) -> None:
        # A bucket may allow writing alone, so nothing is tried that an upload does not do.
        return

    @override
    def begin(self, key: str) -> FileWriter:
        system, path = self._at(key)
        return _Writer(system, path, _in_its_folder(system, path, lambda: _open_new(system, path)))

    @override
    def open(self, key: str) -> BinaryIO:
        system, path = self._at(key)
        file: BinaryIO = system.open(path, "rb")
        return file

    @override
    @contextmanager
    def path(self, key: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="aijobs-") as folder:
            copy = Path(folder) / key.rpartition("/")[2]
            with self.open(key) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, _BLOCK_BYTES)
            yield copy

    @override
    def copy(self, key: str, to: str) -> None:
        system, source = self._at(key)
        _, target = self._at(to)
        _in_its_folder(system, target, lambda: system.cp_file(source, target))

    @override
    def delete(self, key: str) -> None:
        system, path = self._at(key)
        try:
            system.rm_file(path)
        except FileNotFoundError:
            return

    @override
    def exists(self, key: str) -> bool:
        system, path = self._at(key)
        return bool(system.exists(path))

    @override
    def list(self, space: str) -> Iterator[StoredFile]:
        system, root = self._system()
        # What another process has added must not be missed.
        system.invalidate_cache()
        for path in system.find(f"{root}/{space}"):
            key = "/".join(path.split("/")[-3:])
            if is_key(key):
                yield StoredFile(key, age_of(key))

    @override
    def clear_unfinished(self, age_seconds: float) -> None:
        # A bucket shows none, and drops them by a rule of its own.
        return

    def _at(self, key: str) -> tuple[Any, str]:
        system, root = self._system()
        return system, f"{root}/{check_key(key)}"

    def _system(self) -> tuple[Any, str]:
        """The file system and the folder in it. fsspec keeps one for each process and thread."""
        try:
            from fsspec.core import url_to_fs

            system, root = url_to_fs(self._url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"AIJOBS_FILES_URL={self.url} cannot be used: {error}. Install aijobs[files] and what fsspec needs "
                "for this kind of URL, such as s3fs for s3:// or gcsfs for gs://."
            ) from error
        return system, str(root).rstrip("/")


class _Writer(FileWriter):
    def __init__(self, system: Any, path: str, file: Any) -> None:
        self._system = system
        self._path = path
        self._file = file

    @override
    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    @override
    def commit(self) -> None:
        self._file.close()

    @override
    def discard(self) -> None:
        # Not every file system can give up a file that was begun. Its key has not been told to anybody yet.
        self._file.close()
        if self._system.exists(self._path):
            self._system.rm_file(self._path)


def _open_new(system: Any, path: str) -> Any:
    return system.open(path, "wb", block_size=_BLOCK_BYTES)


def _in_its_folder(system: Any, path: str, write: Callable[[], Any]) -> Any:
    """Writes, and makes the folder only where there are such things: a bucket has none, and may not allow to ask."""
    try:
        return write()
    except FileNotFoundError:
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        return write()


def _without_login(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.partition("?")[0].rpartition("@")[2]
