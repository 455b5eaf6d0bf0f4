"""Server-sent events (WHATWG) as a response that gives up on slow readers and ends when the server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aijobs._tasks import stop
from aijobs.http.drain import draining
from aijobs.http.render import json_bytes

logger = logging.getLogger(__name__)

#: A comment, which clients ignore; it keeps proxies from closing an idle connection.
PING = b": ping\n\n"

#: So many bytes are handed over at a time, which is what a client that does not read may hold back.
CHUNK_BYTES = 65_536

#: These end a line for many a client that splits text into lines, though neither for JSON nor for the standard.
_LINE_ENDS = {char.encode(): json.dumps(char).strip('"').encode() for char in "\x85\u2028\u2029"}

#: When it is, clients have so long to take what was sent.
_DRAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one event stream, in seconds."""

    #: A comment is sent after so long without an event.
    ping_seconds: float = 15.0
    #: A client that takes nothing for so long is left.
    send_seconds: float = 10.0
    #: The stream ends after so long; the client comes back where it was.
    lifetime_seconds: float = 600.0
    #: What clients are told to wait before they come back.
    retry_seconds: float = 2.0


def event(kind: str, event_id: int, data: Any) -> bytes:
    """One event whose data is JSON, given as bytes or as a value."""
    text = data if isinstance(data, bytes) else json_bytes(data)
    for line_end, escaped in _LINE_ENDS.items():
        text = text.replace(line_end, escaped)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event_id, kind.encode(), text)


class EventStream(Response):
    """Sends what a generator yields until it ends, the client leaves, or the server shuts down.

    A stream that ends by itself ends as HTTP has it; only a client that does not read is cut off. The generator is
    closed before the response returns, whatever the reason.

    Args:
        source: makes the generator of encoded events.
        limits: of time.
    """

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(self, source: Callable[[], AsyncGenerator[bytes]], limits: StreamLimits) -> None:
        super().__init__(headers={"cache-control": "no-store, no-transform", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._limits = limits
        #: Since when the client is to take what is being sent; None between two parts.
        self._waiting_since: float | None = None
        #: Whether something is being sent that takes several parts.
        self._is_amid = False
        self._is_ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the stream (ASGI)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(until_left(receive))
        try:
            patience = await self._until_over(sending, leaving)
            if not leaving.done() and not await self._end(sending, send, patience):
                logger.info("An event stream was cut off, since its client did not read")
                _abort(receive)
                await asyncio.wait({leaving}, timeout=_DRAIN_SECONDS)
        finally:
            await stop(sending)
            await stop(leaving)
        if self.background is not None:
            await self.background()

    async def _until_over(self, sending: asyncio.Task[None], leaving: asyncio.Task[None]) -> float:
        """Waits until the stream ends for whatever reason; returns how long its last bytes may take, seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._limits.lifetime_seconds
        with draining() as drained:
            while (rest := self._rest(clock())) > 0 and clock() < end:
                done, _ = await asyncio.wait(
                    {sending, leaving, drained},
                    timeout=min(rest, end - clock()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if done:
                    break
            rest = self._rest(clock())
            return min(rest, _DRAIN_SECONDS) if drained.done() else rest

    def _rest(self, now: float) -> float:
        """How long the client may still take nothing, seconds."""
        waited = 0.0 if self._waiting_since is None else now - self._waiting_since
        return max(0.0, self._limits.send_seconds - waited)

    async def _send_all(self, send: Send) -> None:
        await self._send(send, b"retry: %d\n\n" % (self._limits.retry_seconds * 1000))
        async with contextlib.aclosing(self._source()) as chunks:
            async for chunk in chunks:
                await self._send(send, chunk)
                # It may be long, and the next one may be long in coming.
                del chunk
                if self._is_ending:
                    break

    async def _send(self, send: Send, chunk: bytes) -> None:
        self._is_amid = len(chunk) > CHUNK_BYTES
        for start in range(0, len(chunk), CHUNK_BYTES):
            # A time-out of its own for each part would cost as much as sending it.
            self._waiting_since = asyncio.get_running_loop().time()
            part = chunk[start : start + CHUNK_BYTES]
            await send({"type": "http.response.body", "body": part, "more_body": True})
            self._waiting_since = None
        self._is_amid = False

    async def _end(self, sending: asyncio.Task[None], send: Send, patience: float) -> bool:
        """Ends the response; False when the client does not read.

        A stream that ends properly does so between two events: not every client drops half an event.
        """
        self._is_ending = True
        if self._is_amid:
            await asyncio.wait({sending}, timeout=patience)
        failure = await stop(sending)
        if self._is_amid and failure is None:
            return False
        try:
            async with asyncio.timeout(patience):
                if failure is not None:
                    raise failure
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return False
        except OSError:
            # Some servers say in this way that the client has left.
            return True
        return True


async def until_left(receive: Receive) -> None:
    """Waits until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort(receive: Receive) -> None:
    # ASGI has no word for it, and a connection that is closed politely waits for its reader for ever, which would also
    # keep the server from going down.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
