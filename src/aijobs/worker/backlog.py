"""What an attempt has said and the store does not have yet."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, takewhile

from aijobs.store.values import OutputEntry, OutputWrite
from aijobs.worker.pieces import merge

#: So much is written at a time, at most.
MOST_ENTRIES = 500
MOST_BYTES = 262_144
#: What an entry costs beside its text, bytes.
ENTRY_BYTES = 200


@dataclass(frozen=True, slots=True)
class _State:
    """Replaced as a whole, so that an exception from outside never leaves half a change."""

    #: How many entries the store has.
    before: int
    #: Entries whose extent stands, since they may have been written already.
    sealed: tuple[OutputEntry, ...]
    #: What was said since; it is added to the last of these.
    fresh: tuple[list[str | OutputEntry], ...]


class Backlog:
    """Keeps what is said, in order, until it is known to be written; any thread may add to it.

    It may be written again and again while no answer comes: an entry, once it was taken to be written, stays as it is
    and where it is, so the store can tell what it has.

    Something may be added in the midst of another call of the same thread: garbage is collected anywhere, and what a
    finalizer logs may be forwarded to the job.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._state = _State(0, (), ([],))
        #: Bytes that wait, about.
        self.size = 0

    def add(self, said: str | OutputEntry) -> None:
        """Adds text or an entry."""
        with self._lock:
            self._state.fresh[-1].append(said)
            self.size += _size(said)

    def take(self) -> OutputWrite | None:
        """The oldest that is to be written, as much as is written at a time."""
        whole = self.take_all()
        if whole is None or (len(whole.entries) <= MOST_ENTRIES and self.size <= MOST_BYTES):
            return whole
        return OutputWrite(whole.before, whole.entries[: _how_many(whole.entries)])

    def take_all(self) -> OutputWrite | None:
        """All that is to be written, or None."""
        with self._lock:
            if any(self._state.fresh):
                self._seal()
            state = self._state
            return OutputWrite(state.before, state.sealed) if state.sealed else None

    def settle(self, write: OutputWrite) -> None:
        """Lets go of what was written."""
        with self._lock:
            state = self._state
            done = max(0, write.before + len(write.entries) - state.before)
            self._state = _State(state.before + done, state.sealed[done:], state.fresh)
            self.size = sum(map(_size, chain(self._state.sealed, *state.fresh)))

    def _seal(self) -> None:
        state = self._state = replace(self._state, fresh=(*self._state.fresh, []))
        *done, rest = state.fresh
        self._state = _State(state.before, (*state.sealed, *merge(chain(*done))), (rest,))


def _size(said: str | OutputEntry) -> int:
    return len(said) if isinstance(said, str) else len(said.json) + ENTRY_BYTES


def _how_many(entries: Sequence[OutputEntry]) -> int:
    """How many of the first entries are written together; at least one."""
    sizes = accumulate(map(_size, entries[:MOST_ENTRIES]))
    return max(1, sum(1 for _ in takewhile(lambda size: size <= MOST_BYTES, sizes)))
