"""The thread that writes what reporters left to it: whatever is due at about the same time goes out together."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from aijobs.errors import StoreUnavailable
from aijobs.store.base import JobStore, Operation
from aijobs.store.values import Change

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: What is due so soon is written with what is due now, seconds.
SOON_SECONDS = 0.005
#: So many are written together, at most.
MOST_TOGETHER = 50


class Writer(Protocol):
    """Somebody who has something to write."""

    @property
    def store(self) -> JobStore:
        """Where to write it."""

    def begin(self) -> Operation[Change] | None:
        """What to write, if anything; then `end` must follow."""

    def end(self, outcome: Change | StoreUnavailable) -> None:
        """Tells how it went."""


class Flusher:
    """Writes for others, in a thread of its own that starts with the first of them.

    An exception from outside, such as a cancel, may come anywhere in `add`: no lock may stay held then. A condition
    would not do; its methods are Python, which can be interrupted.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._due: dict[Writer, float] = {}
        self._wakes = -math.inf
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def runs_here(self) -> bool:
        """Whether the calling code runs in its thread."""
        return threading.current_thread() is self._thread

    def add(self, writer: Writer, due: float) -> None:
        """Has what somebody has to write written at a time on the monotonic clock, or before when that was said."""
        with self._lock:
            self._due[writer] = due = min(due, self._due.get(writer, math.inf))
            if due < self._wakes:
                self._bell.put(None)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="aijobs-progress", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            _contained(self._wait_and_write)

    def _wait_and_write(self) -> None:
        self._wait()
        write_together(self._take())

    def _wait(self) -> None:
        """Waits until something is due, or sooner when something is said that is due before."""
        with self._lock:
            self._wakes = min(self._due.values(), default=math.inf)
        pause = self._wakes - time.monotonic()
        with contextlib.suppress(Empty):
            self._bell.get(pause > 0, None if pause == math.inf else max(0.0, pause))

    def _take(self) -> Sequence[Writer]:
        with self._lock:
            self._wakes = -math.inf
            soon = time.monotonic() + SOON_SECONDS
            ripe = [writer for writer, due in self._due.items() if due <= soon][:MOST_TOGETHER]
            for writer in ripe:
                del self._due[writer]
            return ripe


def write_together(writers: Iterable[Writer]) -> None:
    """Writes what each of them has to write, for each store in one exchange."""
    by_store = sorted(writers, key=lambda writer: id(writer.store))
    for _, group in groupby(by_store, key=lambda writer: id(writer.store)):
        begun = [(writer, operation) for writer in group if (operation := _contained(writer.begin)) is not None]
        if begun:
            _exchange(begun)


def _exchange(begun: Sequence[tuple[Writer, Operation[Change]]]) -> None:
    operations = [operation for _, operation in begun]
    outcomes: Sequence[Change | StoreUnavailable] = [StoreUnavailable("It was not tried.")] * len(begun)
    try:
        answers = begun[0][0].store.run_all(operations)
        outcomes = answers
    finally:
        for (writer, _), outcome in zip(begun, outcomes, strict=True):
            _contained(partial(writer.end, outcome))


def _contained(call: Callable[[], T]) -> T | None:
    """What a call gives; when it fails, the other writers are to go on."""
    try:
        return call()
    except Exception:
        # What handles the log may be what fails.
        with contextlib.suppress(Exception):
            logger.exception("Progress and output could not be written")
        return None


#: That of this process.
flusher = Flusher()


def _forget_parent() -> None:
    flusher.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_forget_parent)
