"""One reader for all streams about the same thing: each event is read and encoded once, and kept for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from aijobs._tasks import stop
from aijobs.errors import StoreUnavailable
from aijobs.http.subject import Entry, Snapshot, Subject, read
from aijobs.store.base import Wait

#: What is kept for those who are a little late; who is later reads from the store.
RECENT_EVENTS = 256
RECENT_BYTES = 262_144
#: So long is waited for a store that does not answer: streams should not end with every hiccup.
PATIENCE_SECONDS = 5.0
#: Between two attempts to reach it.
AGAIN_SECONDS = 0.2


class Channel:
    """Reads the events of one subject for as long as somebody follows it.

    Args:
        subject: whose events.
        newest: the number of the last event before those that are to be read.
        quiet_seconds: after so long without an event it is checked that the record is still there.
    """

    def __init__(self, subject: Subject[Any, Any], newest: int, quiet_seconds: float) -> None:
        self._subject = subject
        self._quiet_seconds = quiet_seconds
        #: Numbered without a gap; the last one is the newest.
        self._recent: list[Entry] = []
        self._size = 0
        self._waiting: set[asyncio.Future[bool]] = set()
        #: Since when the store has not answered.
        self._lost_at: float | None = None
        self._reader = asyncio.create_task(self._read(), name="aijobs-channel")
        self.newest = newest
        self.over = False
        self.followers = 0

    def after(self, seq: int) -> Sequence[Entry] | None:
        """The events after one, as far as they are known; None when they have to be read from the store."""
        missing = self.newest - seq
        if missing <= 0:
            return ()
        return self._recent[-missing:] if missing <= len(self._recent) else None

    async def news(self) -> bool:
        """Waits for the next event or the end of reading; False when it has been quiet for long."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            return bool(await waiting)
        finally:
            self._waiting.discard(waiting)

    async def aclose(self) -> None:
        """Ends the reading.

        Raises:
            Exception: what made it end before, other than the loss of the store.
        """
        if (failure := await stop(self._reader)) is not None:
            raise failure

    async def _read(self) -> None:
        try:
            while self._is_patient():
                try:
                    async with self._subject.watch() as wait:
                        return await self._follow(wait)
                except StoreUnavailable:
                    self._lost_at = self._lost_at or _now()
                    await asyncio.sleep(AGAIN_SECONDS)
        finally:
            # Who follows comes back, and goes on where it was.
            self.over = True
            self._tell(True)

    def _is_patient(self) -> bool:
        return self._lost_at is None or _now() - self._lost_at < PATIENCE_SECONDS

    async def _follow(self, wait: Wait) -> None:
        more = True
        while True:
            if more or await wait(self._quiet_seconds):
                entries = await read(self._subject, self.newest)
                self._lost_at = None
                more = len(entries) > 1
                if entries and self._add(entries):
                    return
            elif await self._is_intact():
                self._tell(False)
            else:
                return

    def _add(self, entries: Sequence[Entry]) -> bool:
        """Keeps and announces what was read; returns whether it ends here."""
        if entries[0].seq != self.newest + 1:
            self._forget(len(self._recent))
        self._recent += entries
        self._size += sum(len(one.data) for one in entries)
        self.newest = entries[-1].seq
        while len(self._recent) > RECENT_EVENTS or self._size > RECENT_BYTES:
            self._forget(1)
        self._tell(True)
        return entries[-1].end is not None

    def _forget(self, count: int) -> None:
        self._size -= sum(len(one.data) for one in self._recent[:count])
        del self._recent[:count]

    async def _is_intact(self) -> bool:
        """Whether record and history still agree; a store that was set back has lost some of either."""
        record = await self._subject.record()
        if record is None or record.seq < self.newest:
            return False
        return record.seq == self.newest or bool(await self._subject.events(self.newest))

    def _tell(self, news: bool) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(news)


@dataclass(slots=True, weakref_slot=True)
class _Turn:
    """One reads, and those who wait meanwhile look at what it has read."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    snapshot: Snapshot[Any] | None = None


class Channels:
    """The channels of one router.

    Args:
        quiet_seconds: of each channel.
    """

    def __init__(self, quiet_seconds: float) -> None:
        self._quiet_seconds = quiet_seconds
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Channel]] = WeakKeyDictionary()
        #: They last as long as somebody waits.
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, _Turn]] = WeakKeyDictionary()

    async def snapshot(self, subject: Subject[Any, Any], newest: int) -> Snapshot[Any] | None:
        """What a subject shows, read once for all who ask at the same time; None when it is gone.

        Args:
            subject: which is shown.
            newest: the number of an event that has been written; the snapshot is no older.
        """
        turns = self._turns.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        turn = turns.setdefault(subject.id, _Turn())
        async with turn.lock:
            if turn.snapshot is None or turn.snapshot.record.seq < newest:
                turn.snapshot = await subject.snapshot()
            return turn.snapshot

    @asynccontextmanager
    async def joined(self, subject: Subject[Any, Any], newest: int) -> AsyncIterator[Channel]:
        """The channel of a subject, which reads while anybody has joined it.

        Args:
            subject: whose events.
            newest: the number of an event that has been written.
        """
        channels = self._open.setdefault(asyncio.get_running_loop(), {})
        channel = channels.get(subject.id)
        if channel is None or channel.over:
            channel = channels[subject.id] = Channel(subject, newest, self._quiet_seconds)
        channel.followers += 1
        try:
            yield channel
        finally:
            channel.followers -= 1
            if not channel.followers:
                if channels.get(subject.id) is channel:
                    del channels[subject.id]
                await channel.aclose()


def _now() -> float:
    return asyncio.get_running_loop().time()
