"""Reading forms, however they are cut, slowed down or broken off."""

from __future__ import annotations

import asyncio
import itertools
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies
from starlette.requests import Request
from typing_extensions import override

from aijobs import FileRules, UploadedFile
from aijobs.files import FileRefused, FileWriter
from aijobs.files.folder import FolderStore
from aijobs.files.keys import new_key, space_of
from aijobs.http.multipart import PartEnd, PartEvent, PartHead, part_events
from aijobs.http.problems import Problem
from aijobs.http.reading import FormLimits, FormReader, ReceivedForm
from aijobs.http.signature import FileParameter

pytestmark = pytest.mark.anyio

SPACE = space_of(b"secret")
LIMITS = FormLimits(body_bytes=200_000_000, file_bytes=100_000_000, files=5)
TEXT = FileParameter(FileRules(extensions={".txt"}), many=True)

Chunks = Iterator[bytes] | AsyncIterator[bytes]


def request_of(chunks: Chunks) -> Request:
    """A request whose body arrives in these chunks."""

    async def receive() -> dict[str, Any]:
        chunk = await anext(chunks, None) if isinstance(chunks, AsyncIterator) else next(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    headers = [(b"content-type", b"multipart/form-data; boundary=B")]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def cut(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The body in chunks of these sizes, and what is left."""
    at = 0
    for size in sizes:
        yield body[at : at + size]
        at += size
    yield body[at:]


def a_file(content: bytes, name: str = "a.txt") -> bytes:
    head = f'--B\r\nContent-Disposition: form-data; name="parts"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


def reader_into(folder: Path, limits: FormLimits = LIMITS, store: FolderStore | None = None) -> FormReader:
    return FormReader(
        store or FolderStore(folder),
        {"parts": TEXT},
        limits,
        lambda extension: ("job", new_key(SPACE, "job", extension)),
    )


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def events_of(chunks: Iterator[bytes]) -> list[PartEvent]:
    """The parts of a body, the bytes of each in one piece."""
    found: list[PartEvent] = []
    async for event in part_events(request_of(chunks), lambda size: None):
        if isinstance(event, bytes) and isinstance(found[-1], bytes):
            found[-1] += event
        else:
            found.append(event)
    return found


ODD = strategies.lists(
    strategies.sampled_from([b"\r\n", b"--B", b"--", b"B", b"\r", b"x", b"\r\n--B", b"\0"]), max_size=30
)


@settings(max_examples=200, deadline=None)
@given(ODD.map(b"".join), strategies.lists(strategies.integers(0, 40), max_size=40))
def test_parts_are_the_same_however_they_are_cut(content: bytes, sizes: list[int]) -> None:
    if b"\r\n--B" in b"\r\n" + content + b"\r\n":
        return
    body = a_file(content) + a_file(b"second", "b.txt") + b"--B--\r\n"
    middle: list[PartEvent] = [content] if content else []
    expected = [PartHead("parts", "a.txt"), *middle, PartEnd(), PartHead("parts", "b.txt"), b"second", PartEnd()]
    assert asyncio.run(events_of(cut(body, sizes))) == expected


@settings(max_examples=200, deadline=None)
@given(strategies.binary(max_size=300), strategies.integers(0, 300), strategies.integers(0, 200))
def test_a_broken_body_is_a_problem_and_nothing_else(junk: bytes, at: int, cut_at: int) -> None:
    body = a_file(b"first") + b"--B--\r\n"
    broken = body[: min(at, len(body))] + junk + body[min(cut_at, len(body)) :]
    assert asyncio.run(refusal_of(broken)) in (None, 400)


async def refusal_of(body: bytes) -> int | None:
    """With which status a body is refused, if it is."""
    try:
        await events_of(iter([body]))
    except Problem as problem:
        return problem.status_code
    return None


async def read_whole(folder: Path, chunks: Chunks) -> ReceivedForm:
    reader = reader_into(folder)
    async with reader.discarding():
        return await reader.read(request_of(chunks))


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    chunk = b"x" * 65_536

    def body() -> Iterator[bytes]:
        yield a_file(b"").removesuffix(b"\r\n")
        for _ in range(640):
            yield chunk
        yield b"\r\n--B--\r\n"

    tracemalloc.start()
    try:
        form = await read_whole(tmp_path, body())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    file = form.files["parts"][0].content
    assert isinstance(file, UploadedFile)
    assert file.size == 640 * 65_536
    assert peak < 2_000_000


class Held(FolderStore):
    """A store on a disk that stops until it is let go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.writes = threading.Event()
        self.may_go_on = threading.Event()

    @override
    def begin(self, key: str) -> FileWriter:
        self.writes.set()
        assert self.may_go_on.wait(60)
        return super().begin(key)


async def test_the_event_loop_goes_on_while_a_disk_does_not(tmp_path: Path) -> None:
    store = Held(tmp_path)
    body = a_file(b"x" * 300_000) + b"--B--\r\n"
    reading = asyncio.create_task(reader_into(tmp_path, store=store).read(request_of(iter([body]))))
    await asyncio.to_thread(store.writes.wait, 60)
    # This test itself runs on the loop.
    assert not reading.done()
    store.may_go_on.set()
    assert len((await reading).files["parts"]) == 1


async def test_a_request_that_is_cancelled_while_a_thread_writes_leaves_nothing(tmp_path: Path) -> None:
    store = Held(tmp_path)
    reader = reader_into(tmp_path, store=store)

    async def handle() -> None:
        async with reader.discarding():
            await reader.read(request_of(iter([a_file(b"done"), a_file(b"x" * 300_000), b"--B--\r\n"])))

    handling = asyncio.create_task(handle())
    await asyncio.to_thread(store.writes.wait, 60)
    handling.cancel()
    await asyncio.sleep(0)
    store.may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert kept(tmp_path) == []


async def test_a_request_that_fails_later_leaves_nothing(tmp_path: Path) -> None:
    reader = reader_into(tmp_path)

    async def handle() -> None:
        async with reader.discarding():
            await reader.read(request_of(iter([a_file(b"one"), a_file(b"two"), b"--B--\r\n"])))
            assert len(kept(tmp_path)) == 2
            raise LookupError

    with pytest.raises(LookupError):
        await handle()
    assert kept(tmp_path) == []


async def test_a_body_that_is_too_slow(tmp_path: Path) -> None:
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield a_file(b"x" * 300_000)
        await never.wait()

    reader = reader_into(tmp_path, FormLimits(10**9, 10**9, 5, seconds=0.2))
    with pytest.raises(Problem) as refused:
        async with reader.discarding():
            await reader.read(request_of(body()))
    assert refused.value.status_code == 408
    assert kept(tmp_path) == []


@pytest.mark.parametrize("most", [999, 1_000, 1_001])
async def test_the_limit_is_exact_and_stops_the_reading(tmp_path: Path, most: int) -> None:
    taken: list[int] = []

    def body() -> Iterator[bytes]:
        yield a_file(b"").removesuffix(b"\r\n")
        for number in range(10):
            taken.append(number)
            yield b"x" * 100
        yield b"\r\n--B--\r\n"
        taken.append(10)

    reader = reader_into(tmp_path, FormLimits(10**6, most, 5))
    if most >= 1_000:
        assert len((await reader.read(request_of(body()))).files["parts"]) == 1
        return
    with pytest.raises(Problem) as refused:
        async with reader.discarding():
            await reader.read(request_of(body()))
    assert refused.value.status_code == 413
    assert taken == list(range(10))


async def test_what_is_refused_leaves_the_others_alone_in_a_batch(tmp_path: Path) -> None:
    jobs = (f"job{number}" for number in itertools.count())

    def place(extension: str) -> tuple[str, str]:
        job = next(jobs)
        return job, new_key(SPACE, job, extension)

    limits = FormLimits(10**6, 1_000, 5)
    reader = FormReader(FolderStore(tmp_path), {"parts": TEXT}, limits, place, tolerant=True)
    body = a_file(b"x" * 5_000) + a_file(b"good") + a_file(b"\0") + a_file(b"good", "b.pdf") + b"--B--\r\n"
    form = await reader.read(request_of(cut(body, [100] * 50)))
    contents = [one.content for one in form.files["parts"]]
    reasons = [one.reason.value if isinstance(one, FileRefused) else "taken" for one in contents]
    assert reasons == ["too_large", "taken", "wrong_type", "wrong_type"]
    assert len(kept(tmp_path)) == 1
    await reader.discard("job0", "job2")
    assert len(kept(tmp_path)) == 1
    await reader.discard("job1")
    assert kept(tmp_path) == []
