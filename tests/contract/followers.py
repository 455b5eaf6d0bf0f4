"""Clients of event streams that leave at any moment, come back, and know nothing but what they have seen."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

#: Before a client that found nobody comes back.
PAUSE_SECONDS = 0.05

#: The longest event.
MOST_BYTES = 16_777_216

#: What a server answers that cannot serve right now.
_UNAVAILABLE = 503


@dataclass
class Follower:
    """Follows one job from its first event to its end, over many connections."""

    port: int
    job_id: str
    #: How many events it takes on one connection, at most.
    patience: int = 40
    ids: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    #: Connections that it left while there was more to come.
    left: int = 0
    #: Connections that ended, or failed, before it left.
    lost: int = 0
    over: bool = False

    async def follow(self) -> None:
        """Comes back until the job has ended."""
        while not self.over:
            try:
                await self._visit()
            except (OSError, asyncio.IncompleteReadError):
                self.lost += 1
                await asyncio.sleep(PAUSE_SECONDS)

    def where(self) -> str:
        """The header that says where to go on."""
        return f"Last-Event-ID: {self.ids[-1] if self.ids else 0}\r\n"

    def take(self, kind: str, data: dict[str, Any]) -> bool:
        """One event; whether it is the end."""
        self.ids.append(data["seq"])
        self.kinds.append(kind)
        return kind == "job.completed"

    async def _visit(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=MOST_BYTES)
        try:
            request = f"GET /jobs/{self.job_id}/events HTTP/1.0\r\n{self.where()}\r\n"
            writer.write(request.encode())
            await self._read(reader)
        finally:
            # Half of them vanish, the others say good-bye.
            if random.random() < 0.5:
                writer.transport.abort()
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == _UNAVAILABLE:
            raise ConnectionRefusedError
        assert status == 200, head
        for _ in range(random.randint(1, self.patience)):
            if self._take(await self._event(reader)):
                self.over = True
                return
        self.left += 1

    async def _event(self, reader: asyncio.StreamReader) -> dict[str, str]:
        while True:
            text = (await reader.readuntil(b"\n\n")).decode().strip()
            fields = dict(line.split(": ", 1) for line in text.splitlines())
            if "event" in fields:
                return fields

    def _take(self, fields: dict[str, str]) -> bool:
        data = json.loads(fields["data"])
        assert (data["seq"], data["job_id"]) == (int(fields["id"]), self.job_id)
        return self.take(fields["event"], data)
