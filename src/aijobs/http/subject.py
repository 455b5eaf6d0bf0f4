"""What streams tell of, whatever it is: a record, numbered events, and how both are sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from aijobs.store.base import Wait


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
    async def snapshot(self) -> Snapshot[RecordT] | None:
        """The record and what belongs to it, of one moment; None when it is gone."""

    @abstractmethod
    def begin(self, snapshot: Snapshot[RecordT], view: Any, *, gap: bool) -> bytes:
        """The event that shows a snapshot, at the begin of a stream or after a gap."""

    @abstractmethod
    def end(self, record: RecordT, view: Any) -> bytes:
        """The event that shows the finished record."""


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[RecordT]):
    """A record and what belongs to it, of one moment, encoded once for all who see the same of it."""

    subject: Subject[RecordT, Any]
    record: RecordT
    #: What only snapshots show, as JSON.
    more: bytes = b""
    _encoded: dict[Hashable, bytes] = field(default_factory=dict)

    @property
    def seq(self) -> int:
        """The number of the newest event that it shows: the end, if there is one, is still to be sent."""
        return self.record.seq - 1 if self.record.finished else self.record.seq

    def seen(self, view: Hashable, *, gap: bool) -> bytes:
        """The event that shows it to those with this view."""
        if (view, gap) not in self._encoded:
            self._encoded[view, gap] = self.subject.begin(self, view, gap=gap)
        return self._encoded[view, gap]


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
