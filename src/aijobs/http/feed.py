"""A job's event stream as server-sent events: nothing lost, nothing twice, in order."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import Request

from aijobs.errors import StoreUnavailable
from aijobs.http.problems import INVALID_EVENT_ID, Problem
from aijobs.http.render import job_json
from aijobs.http.sse import PING, event
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
    given = request.headers.getlist("last-event-id") or request.query_params.getlist("starting_after")
    if not any(given):
        return None
    if len(given) > 1 or not _EVENT_ID.fullmatch(given[0]):
        raise Problem(INVALID_EVENT_ID, "Send the id of one event of this job, or none to begin with a snapshot.")
    return int(given[0])


class JobFeed:
    """Reads one job's events as long as there are some to come.

    Args:
        store: which holds the job.
        job_id: of a job that was there a moment ago.
        base: the router's path, for the job's `urls`.
        after: the `seq` of the last event that the client has; None to begin with a snapshot.
        ping_seconds: how long to wait for news at a time.
    """

    def __init__(self, store: JobStore, job_id: str, base: str, after: int | None, ping_seconds: float) -> None:
        self._store = store
        self._id = job_id
        self._base = base
        self._after = after
        self._ping_seconds = ping_seconds
        self._ended = False

    async def encoded(self) -> AsyncGenerator[bytes]:
        """The events, encoded; it ends with the job, with its record, or when the store does not answer."""
        try:
            # Listening begins before the first look, so nothing can happen unseen in between.
            async with self._store.watch(self._id) as wait, aclosing(self._follow(wait)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except StoreUnavailable:
            # The client comes back and goes on where it was.
            return

    async def _follow(self, wait: Wait) -> AsyncGenerator[bytes]:
        newest = None
        if self._after is None:
            yield await self._snapshot("job.snapshot")
        else:
            newest = await self._newest()
        while not self._ended:
            events = await self._store.run_async(self._store.events(self._id, self._after or 0, BATCH))
            if self._misses(events, newest):
                yield await self._snapshot("stream.gap")
            elif events:
                yield await self._encode(events)
            elif not await wait(self._ping_seconds):
                yield PING
                newest = await self._newest()
                continue
            newest = None

    def _misses(self, events: Sequence[JobEvent], newest: int | None) -> bool:
        """Whether the event after the last one sent is there no more, or that one was of a history that was lost."""
        after = self._after or 0
        return events[0].seq != after + 1 if events else newest is not None and newest != after

    async def _newest(self) -> int | None:
        job = await self._job()
        return None if job is None else job.seq

    async def _job(self) -> Job | None:
        """The record; without one there is nothing more to tell."""
        job = await self._store.run_async(self._store.get(self._id))
        self._ended = self._ended or job is None
        return job

    async def _snapshot(self, kind: str) -> bytes:
        job = await self._job()
        if job is None:
            return b""
        # A finished job's newest event is its end, which is still to be sent.
        self._after = job.seq - 1 if job.finished else job.seq
        snapshot = self._show(kind, self._after, job)
        return snapshot + self._complete(job.seq, job) if job.finished else snapshot

    async def _encode(self, events: Sequence[JobEvent]) -> bytes:
        chunks = []
        for one in events:
            self._after = one.seq
            if one.type is EventType.COMPLETED and (job := await self._job()) is not None and job.finished:
                chunks.append(self._complete(one.seq, job))
                break
            chunks.append(event(one.type, one.seq, {"seq": one.seq, "job_id": self._id, **one.data}))
        return b"".join(chunks)

    def _complete(self, seq: int, job: Job) -> bytes:
        self._ended = True
        return self._show(EventType.COMPLETED, seq, job)

    def _show(self, kind: str, seq: int, job: Job) -> bytes:
        return event(kind, seq, job_json(job, self._base, {"seq": seq}))
