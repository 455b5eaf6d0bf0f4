"""What a channel keeps, and what becomes of those who follow when something other than an event happens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from typing_extensions import override

from aijobs.errors import StoreUnavailable
from aijobs.http import channel
from aijobs.http.channel import Channel, Channels
from aijobs.http.feed import Feed
from aijobs.http.sse import CHUNK_BYTES, EventStream, StreamLimits
from aijobs.http.subject import Snapshot, Subject
from aijobs.store.base import Wait

pytestmark = pytest.mark.anyio

QUIET_SECONDS = 0.02


@dataclass(frozen=True)
class Line:
    seq: int
    text: str = "x"


@dataclass(frozen=True)
class Cover:
    seq: int
    finished: bool = False


@dataclass
class Diary(Subject[Cover, Line]):
    """Something to follow that is kept in memory."""

    id: str = "diary"
    cover: Cover | None = field(default_factory=lambda: Cover(0))
    lines: list[Line] = field(default_factory=list)
    #: What reading raises.
    trouble: Exception | None = None
    reads: int = 0
    snapshots: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, *texts: str, ends: bool = False) -> None:
        for text in texts:
            assert self.cover is not None
            self.lines.append(Line(self.cover.seq + 1, text))
            self.cover = Cover(self.cover.seq + 1, ends)
        self.news.set()

    @override
    def watch(self) -> AbstractAsyncContextManager[Wait]:
        return self._watch()

    @asynccontextmanager
    async def _watch(self) -> AsyncIterator[Wait]:
        async def wait(timeout: float) -> bool:
            try:
                await asyncio.wait_for(self.news.wait(), timeout)
            except TimeoutError:
                return False
            self.news.clear()
            return True

        yield wait

    @override
    async def record(self) -> Cover | None:
        return self.cover

    @override
    async def events(self, after: int) -> Sequence[Line]:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return [line for line in self.lines if line.seq > after]

    @override
    def may_end(self, event: Line) -> bool:
        return event.text == "end"

    @override
    def encode(self, event: Line) -> bytes:
        return f"{event.seq} {event.text}\n".encode()

    @override
    async def snapshot(self) -> Snapshot[Cover] | None:
        self.snapshots += 1
        cover = self.cover
        await asyncio.sleep(0)
        return None if cover is None else Snapshot(self, cover)

    @override
    def begin(self, snapshot: Snapshot[Cover], view: Any, *, gap: bool) -> bytes:
        return f"{snapshot.seq} {'gap' if gap else 'cover'} for {view}\n".encode()

    @override
    def end(self, record: Cover, view: Any) -> bytes:
        return f"{record.seq} end for {view}\n".encode()


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def channels() -> Channels:
    return Channels(QUIET_SECONDS)


async def follow(
    channels: Channels, diary: Diary, after: int | None, view: str = "ann", cover: Cover | None = None
) -> str:
    """All that one client is given, but pings; `cover` is what it was shown before."""
    known = cover or diary.cover
    assert known is not None
    feed = Feed(channels, diary, known, view, after)
    async with aclosing(feed.encoded()) as chunks:
        return b"".join([chunk async for chunk in chunks if not chunk.startswith(b":")]).decode()


async def test_each_view_has_an_end_of_its_own(channels: Channels, diary: Diary) -> None:
    clients = [asyncio.create_task(follow(channels, diary, 0, view)) for view in ("ann", "ann", "ben")]
    diary.write("a")
    await asyncio.sleep(0)
    diary.write("end", ends=True)
    assert await asyncio.gather(*clients) == ["1 a\n2 end for ann\n"] * 2 + ["1 a\n2 end for ben\n"]


async def test_what_is_kept_is_bounded(diary: Diary) -> None:
    reader = Channel(diary, 0, QUIET_SECONDS)
    diary.write(*["short"] * (2 * channel.RECENT_EVENTS))
    await reader.news()
    newest = reader.newest
    assert len(reader.after(newest - channel.RECENT_EVENTS) or ()) == channel.RECENT_EVENTS
    assert reader.after(newest - channel.RECENT_EVENTS - 1) is None
    diary.write("x" * channel.RECENT_BYTES)
    while reader.newest == newest:
        await reader.news()
    assert reader.after(newest) is None, "it does not fit at all"
    await reader.aclose()


async def test_who_comes_at_the_same_time_shares_a_snapshot(channels: Channels, diary: Diary) -> None:
    diary.write("a")
    clients = [asyncio.create_task(follow(channels, diary, None)) for _ in range(20)]
    await asyncio.sleep(0)
    # Who comes now knows of an event that the snapshot which is being read does not show.
    diary.write("b")
    clients += [asyncio.create_task(follow(channels, diary, None)) for _ in range(20)]
    while diary.snapshots < 2:
        await asyncio.sleep(0)
    diary.write("end", ends=True)
    texts = await asyncio.gather(*clients)
    # The second snapshot shows the second event.
    assert set(texts[:20]) == {"1 cover for ann\n2 b\n3 end for ann\n"}
    assert set(texts[20:]) == {"2 cover for ann\n3 end for ann\n"}
    assert diary.snapshots == 2
    assert await follow(channels, diary, None) == "2 cover for ann\n3 end for ann\n"


async def test_what_was_sent_is_not_kept(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    long = b"x" * (CHUNK_BYTES + 1)
    monkeypatch.setattr(diary, "begin", lambda *_, **__: long)
    nobody_has_it = sys.getrefcount(long)

    async def send(message: Any) -> None:
        sent.append(len(message.get("body", b"")))

    async def receive() -> Any:
        await asyncio.sleep(3_600)

    feed = Feed(Channels(3_600), diary, Cover(0), "ann", None)
    response = asyncio.create_task(EventStream(feed.encoded, StreamLimits())({"type": "http"}, receive, send))
    while sent[-1:] != [1]:
        await asyncio.sleep(0)
    # Until the stream waits for news.
    await asyncio.sleep(0.01)
    assert sys.getrefcount(long) == nobody_has_it
    response.cancel()
    await asyncio.wait({response})


async def test_a_subject_that_is_gone_by_now_has_no_stream(channels: Channels, diary: Diary) -> None:
    cover, diary.cover = diary.cover, None
    assert await follow(channels, diary, None, cover=cover) == ""


async def test_a_late_client_reads_by_itself_what_is_not_kept(channels: Channels, diary: Diary) -> None:
    early = asyncio.create_task(follow(channels, diary, 0))
    diary.write(*["x" * CHUNK_BYTES] * 9)
    async with channels.joined(diary, 0) as shared:
        while shared.newest < 9:
            await shared.news()
    late = asyncio.create_task(follow(channels, diary, 0))
    diary.write("end", ends=True)
    assert await early == await late
    assert [line.split()[0] for line in (await late).splitlines()] == [str(seq) for seq in range(1, 11)]


async def test_who_is_late_when_the_store_was_set_back_is_let_go(diary: Diary) -> None:
    channels = Channels(quiet_seconds=3_600)
    diary.write(*"abcde")
    async with channels.joined(diary, 5):
        diary.cover, diary.lines = Cover(2), diary.lines[:2]
        assert await follow(channels, diary, 3, cover=Cover(5)) == ""


@pytest.mark.parametrize("cover", [None, Cover(1), Cover(9)], ids=["gone", "set back", "without its events"])
async def test_a_record_that_does_not_fit_its_history_ends_the_streams(
    cover: Cover | None, channels: Channels, diary: Diary
) -> None:
    diary.write("a", "b")
    client = asyncio.create_task(follow(channels, diary, None))
    await asyncio.sleep(0)
    diary.cover = cover
    assert await client == "2 cover for ann\n"


async def test_a_store_that_is_away_for_long_ends_the_streams(
    channels: Channels, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(channel, "AGAIN_SECONDS", 0.01)
    diary.trouble = StoreUnavailable("away")
    assert await follow(channels, diary, None) == "0 cover for ann\n"
    assert diary.reads > 1


async def test_what_no_store_should_do_is_raised(channels: Channels, diary: Diary) -> None:
    diary.trouble = ValueError("no event")
    with pytest.raises(ValueError, match="no event"):
        await follow(channels, diary, None)
