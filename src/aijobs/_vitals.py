"""The signs of life that a worker or a scheduler leaves in a folder, for `aijobs health` to read.

Only the standard library is imported, and little of it: a health check runs every few seconds, for as long as the
container does.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

#: Names the folder; the field `health_folder` of the settings.
VARIABLE = "AIJOBS_HEALTH_FOLDER"
#: Who leaves signs.
WORKER, SCHEDULER = "worker", "beat"

#: Where an API is, in its container, and its health route when the routes have their usual prefix.
API_PORT, HEALTH_PATH = 8000, "/jobs/health"

#: How often a sign is left, seconds.
INTERVAL_SECONDS = 1.0
#: How old the last one may be, seconds.
SILENCE_SECONDS = 10.0

_STOPPED, _ENDED = frozenset("Tt"), frozenset("ZX")


class Sign(NamedTuple):
    """What a process says of itself; times are seconds by `time.monotonic`, which all processes of a machine share."""

    pid: int
    #: When it was left.
    left: float
    #: Until when the main loop has to turn again; None while it is not in its loop.
    due: float | None
    #: Whether the process itself runs a task, which may keep its other threads from running.
    busy: bool


class Vitals(threading.Thread):
    """A thread that leaves a sign of life every second.

    Args:
        folder: where; it is made if need be.
        name: who leaves them.
        is_busy: whether the process itself runs a task.
    """

    def __init__(self, folder: Path, name: str, is_busy: Callable[[], bool] = lambda: False) -> None:
        super().__init__(name="aijobs-vitals", daemon=True)
        self._file = _file(folder, name)
        self._is_busy = is_busy
        self._due: float | None = None
        self._said_busy = self._complained = False
        self._stopped = threading.Event()

    def run(self) -> None:
        """Goes on until it is stopped."""
        while not self._stopped.is_set():
            self._leave(busy=self._is_busy())
            self._stopped.wait(INTERVAL_SECONDS)

    def stop(self) -> None:
        """Leaves no more; what was left last grows old."""
        self._stopped.set()

    def turn(self, within: float) -> None:
        """The main loop turns, and will again within so many seconds."""
        self._due = time.monotonic() + within

    def rest(self) -> None:
        """The main loop was left; nothing is expected of it."""
        self._due = None

    def begin_task(self) -> None:
        """A task begins in this process, and may not let this thread run until it ends."""
        if not self._said_busy:
            self._leave(busy=True)

    def _leave(self, *, busy: bool) -> None:
        sign = Sign(os.getpid(), time.monotonic(), self._due, busy)
        try:
            self._write(json.dumps(sign))
        except OSError as error:
            if not self._complained:
                logger.warning("%s cannot be written, so that aijobs health finds nothing: %s", self._file, error)
            self._complained = True
        self._said_busy = busy

    def _write(self, text: str) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Put in place at once, so that nobody reads half of it; two threads may be at it.
        draft = self._file.with_suffix(f".{threading.get_ident()}")
        draft.write_text(text)
        draft.replace(self._file)


def last_sign(folder: Path, name: str) -> Sign | None:
    """The sign that was left last, or None.

    Raises:
        ValueError: what is there is no such sign.
        OSError: it cannot be read.
    """
    try:
        pid, left, due, busy = json.loads(_file(folder, name).read_text())
        return Sign(int(pid), float(left), None if due is None else float(due), bool(busy))
    except FileNotFoundError:
        return None
    except TypeError:
        raise ValueError("not a sign of life") from None


def complaint(sign: Sign, now: float) -> str | None:
    """What is wrong with the process that left a sign; None when it is well.

    Args:
        sign: the last one that it left.
        now: the time by `time.monotonic`.
    """
    state = process_state(sign.pid)
    if not state or state in _ENDED:
        return f"process {sign.pid} has ended"
    silence = now - sign.left
    if silence > SILENCE_SECONDS:
        if state in _STOPPED:
            return f"process {sign.pid} is stopped, for {silence:.0f} s now"
        # A task that holds Python's lock keeps all threads from running; that is work.
        return None if sign.busy else f"process {sign.pid} has given no sign of life for {silence:.0f} s"
    if sign.due is not None and now > sign.due:
        return f"process {sign.pid} hangs: its main loop should have turned {now - sign.due:.0f} s ago"
    return None


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as by SIGSTOP."""
    return process_state(pid) in _STOPPED


def process_state(pid: int) -> str:
    """The letter that `ps` shows for the state of a process; empty when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self/stat").exists() else _state_from_ps(pid)
    # The name before the state may hold anything, parentheses too.
    return stat.rpartition(") ")[2][:1]


def _state_from_ps(pid: int) -> str:
    import subprocess

    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607, S603
    return shown.stdout.strip()[:1]


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
