"""An HTTP/1.1 client that costs little beside the server it measures: keep-alive, lengths and chunks, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection that is kept alive between requests."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Sends JSON; gives status and body of the answer."""
        head = f"POST {path} HTTP/1.1\r\nhost: benchmark\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return await self._answer()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Gives status and body, read to its end."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nhost: benchmark\r\n\r\n".encode())
        return await self._answer()

    async def _answer(self) -> tuple[int, bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            return status, b"".join([chunk async for chunk in self._chunks()])
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        return status, await self.reader.readexactly(int(length or 0))

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """A connection to this port of 127.0.0.1."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer):
        yield Connection(reader, writer)


async def work_off(port: int, clients: int, tasks: int, work: Callable[[Connection, int], Awaitable[None]]) -> None:
    """Has so many clients at once, each with a connection of its own, share so many pieces of work, numbered from 1."""
    numbers = iter(range(1, tasks + 1))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(_work(port, numbers, work))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _work(port: int, numbers: Iterator[int], work: Callable[[Connection, int], Awaitable[None]]) -> None:
    async with connected(port) as connection:
        for number in numbers:
            await work(connection, number)
