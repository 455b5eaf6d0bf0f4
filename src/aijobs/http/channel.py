"""One reader for all streams about the same thing: each event is read and encoded once, and kept for a while."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from aijobs._tasks import stop
from aijobs.errors import StoreUnavailable
from aijobs.store.base import Wait

#: What is kept for those who are a little late; who is later reads from the store.
RECENT_EVENTS = 256
RECENT_BYTES = 262_144
#: So long is waited for a store that does not answer: streams should not end with every hiccup.
PATIENCE_SECONDS = 5.0
#: Between two attempts to reach it.
AGAIN_SECONDS = 0.2


class Record(Protocol):
    """What a stream tells of, as it is at one moment."""

    @property
    def seq(self) -> int:
        """The number of its newest event."""

    @property
    def finished(self) -> bool:
        """Whether that event is its end."""


class Event(Protocol):
    """One entry of its history."""

    @property
    def seq(self) -> int:
        """Counts the events from 1."""


RecordT = TypeVar("RecordT", bound=Record)
EventT = TypeVar("EventT", bound=Event)


class Subject(ABC, Generic[RecordT, EventT]):
    """What a stream tells of: a job, or whatever else has a record and numbered events."""

    #: Tells it from all others of the same router.
    id: str

    @abstractmethod
    def watch(self) -> AbstractAsyncContextManager[Wait]:
        """Listens for news; when this begins, no later event goes unnoticed."""

    @abstractmethod
    async def record(self) -> RecordT | None:
        """As it is now; None when it is gone."""

    @abstractmethod
    async def events(self, after: int) -> Sequence[EventT]:
        """Some of the events after one, oldest first; two at least if there are so many."""

    @abstractmethod
    def may_end(self, event: EventT) -> bool:
        """Whether the event is an end; one that was followed by a new beginning is none."""

    @abstractmethod
    def encode(self, event: EventT) -> bytes:
        """An event that is not the end, as it is sent to everybody."""

    @abstractmethod
    def snapshot(self, record: RecordT, seq: int, view: Any, *, gap: bool = False) -> bytes:
        """The event that shows a record, at the begin of a stream or after a gap."""

    @abstractmethod
    def end(self, record: RecordT, view: Any) -> bytes:
        """The event that shows the finished record."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event that is encoded; the end is so for each view."""

    seq: int
    data: bytes
    end: End | None = None

    def seen(self, view: Hashable) -> bytes:
        """The event as it is sent to those with this view."""
        return self.data if self.end is None else self.end.seen(view)


@dataclass(frozen=True, slots=True)
class End:
    """The finished record, encoded once for all who see the same of it."""

    subject: Subject[Any, Any]
    record: Record
    _encoded: dict[Hashable, bytes] = field(default_factory=dict)

    def seen(self, view: Hashable) -> bytes:
        """The last event as it is sent to those with this view."""
        if view not in self._encoded:
            self._encoded[view] = self.subject.end(self.record, view)
        return self._encoded[view]


async def read(subject: Subject[Any, EventT], after: int) -> Sequence[Entry]:
    """Some of the events after one; nothing comes after the end."""
    entries = []
    for event in await subject.events(after):
        if subject.may_end(event) and (end := await _end(subject, event)):
            entries.append(Entry(event.seq, b"", end))
            break
        entries.append(Entry(event.seq, subject.encode(event)))
    return entries


async def _end(subject: Subject[Any, EventT], event: EventT) -> End | None:
    record = await subject.record()
    return End(subject, record) if record is not None and record.finished and record.seq == event.seq else None


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


class Channels:
    """The channels of one router.

    Args:
        quiet_seconds: of each channel.
    """

    def __init__(self, quiet_seconds: float) -> None:
        self._quiet_seconds = quiet_seconds
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Channel]] = WeakKeyDictionary()

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
