"""What one client sees of a subject's events: nothing lost, nothing twice, in order."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import Request
from typing_extensions import override

from aijobs.errors import StoreUnavailable
from aijobs.http.channel import Channel, Channels
from aijobs.http.problems import INVALID_EVENT_ID, Problem
from aijobs.http.render import View, job_json, output_json
from aijobs.http.sse import CHUNK_BYTES, PING
from aijobs.http.sse import event as encode
from aijobs.http.subject import End, Entry, Record, Snapshot, Subject, read
from aijobs.job import EventType, Job, JobEvent
from aijobs.store.base import JobStore, Wait

#: So many events are read at a time.
BATCH = 100

_EVENT_ID = re.compile(r"[0-9]{1,15}", re.ASCII)


def last_event_id(request: Request) -> int | None:
    """After which event a client wants to go on; None on a fresh connection.

    The header counts before the parameter: an EventSource that comes back repeats its first URL.

    Raises:
        Problem: no event can have this id.
    """
    header = _event_id(request.headers.getlist("last-event-id"))
    parameter = _event_id(request.query_params.getlist("starting_after"))
    return parameter if header is None else header


def _event_id(given: Sequence[str]) -> int | None:
    if not any(given):
        return None
    if len(given) > 1 or not _EVENT_ID.fullmatch(given[0]):
        raise Problem(INVALID_EVENT_ID, "Send the id of one event of this job, or none to begin with a snapshot.")
    return int(given[0])


class JobSubject(Subject[Job, JobEvent]):
    """A job, as streams tell of it.

    Args:
        store: which holds the job.
        job_id: of a job that was there a moment ago.
    """

    def __init__(self, store: JobStore, job_id: str) -> None:
        self._store = store
        self.id = job_id

    @override
    def watch(self) -> AbstractAsyncContextManager[Wait]:
        return self._store.watch(self.id)

    @override
    async def record(self) -> Job | None:
        return await self._store.run_async(self._store.get(self.id))

    @override
    async def events(self, after: int) -> Sequence[JobEvent]:
        return await self._store.run_async(self._store.events(self.id, after, BATCH, CHUNK_BYTES))

    @override
    def may_end(self, event: JobEvent) -> bool:
        return event.type is EventType.COMPLETED

    @override
    def encode(self, event: JobEvent) -> bytes:
        # The end of a run that another one followed is a status like others.
        kind = EventType.STATUS if event.type is EventType.COMPLETED else event.type
        return encode(kind, event.seq, {"seq": event.seq, "job_id": self.id, **event.data})

    @override
    async def snapshot(self) -> Snapshot[Job] | None:
        found = await self._store.run_async(self._store.encoded_output(self.id))
        return None if found is None else Snapshot(self, found[0], output_json(found[1]))

    @override
    def begin(self, snapshot: Snapshot[Job], view: View, *, gap: bool) -> bytes:
        shown = job_json(snapshot.record, view, {"seq": snapshot.seq})
        text = b"%s,%s}" % (shown[:-1], b'"output":' + snapshot.more)
        return encode("stream.gap" if gap else "job.snapshot", snapshot.seq, text)

    @override
    def end(self, record: Job, view: View) -> bytes:
        return encode(EventType.COMPLETED, record.seq, job_json(record, view, {"seq": record.seq}))


class Feed:
    """What one client is sent.

    Where it is, is the number of the last event that it was given: what comes next is taken from what the channel has
    read lately or, for one who is late, from the store.

    Args:
        channels: of the router.
        subject: what the client follows.
        record: of the subject, as it was a moment ago.
        view: as the subject wants it to show the record.
        after: the number of the last event that the client has; None to begin with a snapshot.
    """

    def __init__(
        self, channels: Channels, subject: Subject[Any, Any], record: Record, view: Hashable, after: int | None
    ) -> None:
        self._channels = channels
        self._subject = subject
        self._view = view
        self._newest = record.seq
        self._after = after or 0
        self._begins_with_snapshot = after is None or after > record.seq
        #: The end that a snapshot was of.
        self._rest: Sequence[Entry] = ()
        self._ended = False

    async def encoded(self) -> AsyncGenerator[bytes]:
        """The events, encoded; it ends with the subject, with its record, or when the store does not answer."""
        try:
            if self._begins_with_snapshot:
                shown = await self._show(self._newest, gap=self._after > 0)
                if shown is None:
                    return
                yield shown
                # It may be long, and the stream goes on for long.
                del shown
            if self._rest:
                yield self._take(self._rest)
                return
            async with self._channels.joined(self._subject, self._newest) as channel:
                while (chunk := await self._next(channel)) is not None:
                    yield chunk
                    del chunk
        except StoreUnavailable:
            # The client comes back and goes on where it was.
            return

    async def _next(self, channel: Channel) -> bytes | None:
        while not self._ended:
            entries = self._rest or channel.after(self._after)
            if entries is None:
                return await self._catch_up(channel)
            if entries:
                return self._take(entries)
            if channel.over:
                break
            if not await channel.news():
                return PING
        return None

    async def _catch_up(self, channel: Channel) -> bytes | None:
        entries = await read(self._subject, self._after)
        if entries and entries[0].seq == self._after + 1:
            return self._take(entries)
        return await self._show(channel.newest, gap=True)

    def _take(self, entries: Sequence[Entry]) -> bytes:
        chunks, size = [], 0
        for one in entries:
            chunks.append(one.seen(self._view))
            size += len(chunks[-1])
            self._after, self._ended = one.seq, one.end is not None
            if size >= CHUNK_BYTES:
                break
        return b"".join(chunks)

    async def _show(self, newest: int, *, gap: bool) -> bytes | None:
        snapshot = await self._channels.snapshot(self._subject, newest)
        # A store that was set back begins anew for everybody, once the channel has noticed.
        if snapshot is None or snapshot.record.seq < newest:
            return None
        self._after, record = snapshot.seq, snapshot.record
        self._rest = [Entry(record.seq, b"", End(self._subject, record))] if record.finished else ()
        return snapshot.seen(self._view, gap=gap)
