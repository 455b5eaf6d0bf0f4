"""The seam between aijobs and whatever holds the files' bytes. Everything blocks; event loops use threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

#: So much is read at once.
CHUNK_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete file in a store."""

    key: str
    #: Seconds since it was begun.
    age_seconds: float


class FileWriter(ABC):
    """A file that is being written; nobody sees it before it is complete."""

    @abstractmethod
    def write(self, chunk: bytes) -> None:
        """Appends bytes.

        Raises:
            OSError: the store cannot take them.
        """

    @abstractmethod
    def commit(self) -> None:
        """Makes the file complete.

        Raises:
            OSError: the store cannot keep it.
        """

    @abstractmethod
    def discard(self) -> None:
        """Leaves nothing behind."""


class FileStore(ABC):
    """Where the bytes of uploaded files are, each under a key of `aijobs.files.keys`.

    Every method raises `ValueError` for what is no key, and `OSError` when the store does not work.
    """

    #: Its address, without password.
    url: str
    #: How long to wait between two sweeps; where listing costs money, it is long.
    sweep_seconds: float = 60.0

    @abstractmethod
    def begin(self, key: str) -> FileWriter:
        """Begins a new file."""

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Writes a whole file, or none of it."""
        writer = self.begin(key)
        try:
            for chunk in chunks:
                writer.write(chunk)
            writer.commit()
        except BaseException:
            writer.discard()
            raise

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """The bytes of a file, to be closed by the caller.

        Raises:
            FileNotFoundError: the store has no such file.
        """

    @abstractmethod
    def path(self, key: str) -> AbstractContextManager[Path]:
        """A local path of the file within a `with` block; it is not to be changed.

        Raises:
            FileNotFoundError: the store has no such file.
        """

    @abstractmethod
    def copy(self, key: str, to: str) -> None:
        """Makes the file known under a second key.

        Raises:
            FileNotFoundError: the store has no such file.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes a file; one that is not there is no error."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the store has the file."""

    @abstractmethod
    def list(self, space: str) -> Iterator[StoredFile]:
        """The complete files in a space, read as they are asked for."""

    @abstractmethod
    def clear_unfinished(self, age_seconds: float) -> None:
        """Removes what writers that died have left for so long."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes sure that files can be kept here.

        Raises:
            ConfigurationError: they cannot; the message says what to do.
        """
