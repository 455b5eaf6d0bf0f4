"""The folder in which a development server keeps its data: one server at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from aijobs.errors import AijobsError

_LOCK_NAME = "lock"
_POLL_SECONDS = 0.05
#: How long to wait for the server of a killed session to finish writing.
_LEFTOVER_SECONDS = 15.0


class DataFolderError(AijobsError):
    """The data folder cannot be used."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Makes the folder if need be and holds its lock.

    A process that inherits the lock's file descriptor holds it as well, until it ends: so a folder is free
    only when the server has written its last byte, even if the session that started it was killed.

    Yields:
        The lock's file descriptor.

    Raises:
        DataFolderError: somebody else uses the folder, or it cannot be written.
    """
    try:
        _create(folder)
        lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataFolderError(
            f"The data folder {folder} cannot be used: {error.strerror}. Choose another one."
        ) from error
    try:
        _acquire(lock, folder)
        yield lock
    finally:
        os.close(lock)


def _create(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _acquire(lock: int, folder: Path) -> None:
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while not _try(lock):
        holder = os.pread(lock, 32, 0).decode().strip()
        if _is_alive(holder) or time.monotonic() > deadline:
            raise DataFolderError(
                f"The data folder {folder} is in use by process {holder or 'unknown'}: "
                "stop that one, or choose another folder (aijobs dev: --data)."
            )
        time.sleep(_POLL_SECONDS)
    os.truncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        # PermissionError: it lives, as another user's.
        with contextlib.suppress(PermissionError):
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True
