"""A file while it arrives: counted, looked at, and written in threads, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aijobs.files import FileRefused, FileRules, FileStore, FileWriter, Reason, UploadedFile
from aijobs.files.keys import extension_of
from aijobs.files.kinds import HEAD_BYTES
from aijobs.files.store import CHUNK_BYTES

T = TypeVar("T")

#: A disk that hangs must not take the threads with which the event loop does other things.
_THREADS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="aijobs-files")

#: Gives the job and the key of a new file with this extension.
NewKey = Callable[[str], tuple[str, str]]


async def in_thread(act: Callable[[], T]) -> T:
    """Does something that waits for the file store."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, act)


class Arrival:
    """One file of a form. What it is refused for is kept; it then takes no more bytes, and nothing of it stays.

    Args:
        files: where it goes.
        new_key: gives its place there.
        name: as the client calls it, cleaned.
        rules: of its parameter.
        max_bytes: a larger file is refused.

    Attributes:
        job_id: whose file it is.
        refusal: why it is not taken; None while it may be.
    """

    def __init__(self, files: FileStore, new_key: NewKey, name: str, rules: FileRules, max_bytes: int) -> None:
        self.job_id, self._key = new_key(extension_of(name))
        self.refusal: FileRefused | None = None
        self._files = files
        self._name = name
        self._rules = rules
        self._max_bytes = max_bytes
        self._content_type = ""
        self._size = 0
        self._waiting = bytearray()
        self._digest = hashlib.sha256()
        # A request that is cancelled leaves a thread behind that still writes.
        self._lock = threading.Lock()
        self._writer: FileWriter | None = None
        self._is_complete = self._is_discarded = False

    async def begin(self) -> None:
        """Looks at its name."""
        try:
            self._rules.check_name(self._name)
        except FileRefused as refused:
            await self._refuse(refused)

    async def take(self, data: bytes) -> None:
        """Takes its next bytes.

        Raises:
            OSError: they cannot be written.
        """
        if self.refusal is not None:
            return
        self._size += len(data)
        if self._size > self._max_bytes:
            await self._refuse(FileRefused(Reason.TOO_LARGE, f"The file may have {self._max_bytes} bytes at most."))
            return
        self._waiting += data
        if len(self._waiting) >= CHUNK_BYTES:
            await self._write()

    async def end(self) -> UploadedFile | FileRefused:
        """The file when it is complete, or why it was refused.

        Raises:
            OSError: it cannot be kept.
        """
        if self.refusal is None and not self._size:
            await self._refuse(FileRefused(Reason.EMPTY, "The file is empty."))
        if self._waiting:
            await self._write()
        if self.refusal is not None:
            return self.refusal
        await in_thread(self._commit)
        return UploadedFile(
            key=self._key,
            name=self._name,
            size=self._size,
            content_type=self._content_type,
            sha256=self._digest.hexdigest(),
        )

    def discard(self) -> None:
        """Leaves nothing of it, however far it has come; waits for a thread that writes.

        Raises:
            OSError: it cannot be removed.
        """
        with self._lock:
            self._is_discarded = True
            if self._is_complete:
                self._files.delete(self._key)
            elif self._writer is not None:
                self._writer.discard()

    async def _refuse(self, refused: FileRefused) -> None:
        self.refusal = refused
        self._waiting.clear()
        await in_thread(self.discard)

    async def _write(self) -> None:
        chunk = bytes(self._waiting)
        self._waiting.clear()
        try:
            await in_thread(lambda: self._write_chunk(chunk))
        except FileRefused as refused:
            await self._refuse(refused)

    def _write_chunk(self, chunk: bytes) -> None:
        with self._lock:
            if self._is_discarded:
                return
            if self._writer is None:
                self._content_type = self._rules.check_content(self._name, chunk[:HEAD_BYTES])
                self._writer = self._files.begin(self._key)
            self._writer.write(chunk)
            self._digest.update(chunk)

    def _commit(self) -> None:
        with self._lock:
            if not self._is_discarded and self._writer is not None:
                self._writer.commit()
                self._is_complete = True
