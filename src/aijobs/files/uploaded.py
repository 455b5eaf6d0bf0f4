"""`UploadedFile`: what a task gets of a file."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, TypeAdapter

from aijobs.errors import FileGone
from aijobs.files.keys import check_key, clean_name, extension_of
from aijobs.files.kinds import HEAD_BYTES, content_type
from aijobs.files.libmagic import UNKNOWN
from aijobs.files.opening import open_files
from aijobs.files.store import CHUNK_BYTES, FileStore
from aijobs.settings import current


class UploadedFile(BaseModel):
    """A file that was sent with a job. Annotate a task's parameter with it, and the task's route takes a file.

    The value itself is small and travels in the job's arguments. Its bytes are in the file store that
    `AIJOBS_FILES_URL` names, as long as the job's record is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Where the file store has it; random, and no part of it comes from the client but a checked extension.
    key: Annotated[str, AfterValidator(check_key)]
    #: As the client calls it, for people; it may look like anything and is no path.
    name: Annotated[str, AfterValidator(clean_name)]
    #: Bytes.
    size: Annotated[int, Field(ge=0)]
    #: By what is in it, not by what the client says.
    content_type: str
    #: Of its bytes, in hexadecimal.
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    _source: Path | bytes | None = PrivateAttr(None)

    @classmethod
    def from_path(cls, path: str | Path) -> UploadedFile:
        """A file of this machine, to be passed to a `ProgressTask`, which stores it when it is sent.

        Raises:
            OSError: it cannot be read.
            ConfigurationError: libmagic is not there.
        """
        return cls._local(Path(path), Path(path).name)

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "file") -> UploadedFile:
        """The same of bytes in memory.

        Args:
            content: of the file.
            name: with the extension that fits its content.

        Raises:
            ConfigurationError: libmagic is not there.
        """
        return cls._local(content, name)

    def open(self) -> BinaryIO:
        """The bytes as a binary file; use it in a `with` statement.

        Raises:
            FileGone: the file store does not have it.
            OSError: the file store does not work.
        """
        if self._source is not None:
            return _open(self._source)
        try:
            return self._store().open(self.key)
        except FileNotFoundError as error:
            raise FileGone(self.name) from error

    @contextmanager
    def path(self) -> Iterator[Path]:
        """A local path within a `with` block, for libraries that want one: the file itself, or a copy for that time.

        Raises:
            FileGone: the file store does not have it.
            OSError: the file store does not work.
        """
        with self._whereabouts() as path:
            yield path

    def read_bytes(self) -> bytes:
        """All bytes at once.

        Raises:
            FileGone: the file store does not have it.
            OSError: the file store does not work.
        """
        with self.open() as file:
            return file.read()

    @property
    def is_stored(self) -> bool:
        """Whether the file store has it; not yet, when it was made with `from_path` or `from_bytes`."""
        return self._source is None

    def stored_as(self, store: FileStore, key: str) -> UploadedFile:
        """The same file under another key, which is written now."""
        if self._source is None:
            try:
                store.copy(self.key, key)
            except FileNotFoundError as error:
                raise FileGone(self.name) from error
        else:
            with _open(self._source) as file:
                store.put(key, _chunks(file))
        return UploadedFile(**{**self.model_dump(), "key": key})

    def __json__(self) -> dict[str, Any]:
        """As Celery writes it into a message."""
        if not self.is_stored:
            raise TypeError(
                f"The file {self.name!r} is not stored yet. Files made with UploadedFile.from_path() or from_bytes() "
                "can be passed to a task whose base is ProgressTask, by delay(), apply_async() or submit(); not "
                "inside other values, and not to a later step of a chain."
            )
        return self.model_dump()

    @classmethod
    def _local(cls, source: Path | bytes, given: str) -> UploadedFile:
        digest, size, head = hashlib.sha256(), 0, b""
        with _open(source) as file:
            for chunk in _chunks(file):
                head = head or chunk[:HEAD_BYTES]
                digest.update(chunk)
                size += len(chunk)
        name = clean_name(given)
        kind = content_type(extension_of(name), head) or UNKNOWN
        made = cls.model_construct(key="", name=name, size=size, content_type=kind, sha256=digest.hexdigest())
        made._source = source
        return made

    @contextmanager
    def _whereabouts(self) -> Iterator[Path]:
        if isinstance(self._source, Path):
            yield self._source
        elif self._source is not None:
            with tempfile.NamedTemporaryFile(suffix=extension_of(self.name)) as file:
                file.write(self._source)
                file.flush()
                yield Path(file.name)
        else:
            store = self._store()
            if not store.exists(self.key):
                raise FileGone(self.name)
            with store.path(self.key) as path:
                yield path

    @staticmethod
    def _store() -> FileStore:
        return open_files(current().files_url)


def mentions_file(adapter: TypeAdapter[Any]) -> bool:
    """Whether an annotation has an `UploadedFile` in it, however deep."""
    return _mentions(adapter.core_schema)


def _mentions(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        made = schema.get("cls")
        if isinstance(made, type) and issubclass(made, UploadedFile):
            return True
        return any(map(_mentions, schema.values()))
    return isinstance(schema, list | tuple) and any(map(_mentions, schema))


def _open(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")
