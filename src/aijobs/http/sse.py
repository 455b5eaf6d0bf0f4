"""Server-sent events (WHATWG) as a response that gives up on slow readers and ends when the server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aijobs.http.render import json_bytes

logger = logging.getLogger(__name__)

#: A comment, which clients ignore; it keeps proxies from closing an idle connection.
PING = b": ping\n\n"

#: These end a line for many a client that splits text into lines, though neither for JSON nor for the standard.
_LINE_ENDS = {char.encode(): json.dumps(char).strip('"').encode() for char in "\x85\u2028\u2029"}

#: How often to look whether the server is going down.
_DRAIN_POLL_SECONDS = 0.25
#: When it is, clients have so long to take what was sent.
_DRAIN_SECONDS = 0.5
#: A stream has so long to leave its subscription before it is cancelled once more.
_CANCEL_SECONDS = 1.0


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
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the stream (ASGI)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_left(receive))
        try:
            patience = await self._until_over(sending, leaving)
            if not leaving.done() and not await self._end(sending, send, patience):
                logger.info("An event stream was cut off: its client took nothing for %g s", patience)
                _abort(receive)
                await asyncio.wait({leaving}, timeout=_DRAIN_SECONDS)
        finally:
            await _stop(sending)
            await _stop(leaving)
        if self.background is not None:
            await self.background()

    async def _until_over(self, sending: asyncio.Task[None], leaving: asyncio.Task[None]) -> float:
        """Waits until the stream ends for whatever reason; returns how long its last bytes may take."""
        with _drain().announced() as draining:
            await asyncio.wait(
                {sending, leaving, draining},
                timeout=self._limits.lifetime_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            return _DRAIN_SECONDS if draining.done() else self._limits.send_seconds

    async def _send_all(self, send: Send) -> None:
        await _send(send, b"retry: %d\n\n" % (self._limits.retry_seconds * 1000), self._limits.send_seconds)
        async with contextlib.aclosing(self._source()) as chunks:
            async for chunk in chunks:
                await _send(send, chunk, self._limits.send_seconds)

    async def _end(self, sending: asyncio.Task[None], send: Send, patience: float) -> bool:
        """Ends the response; False when the client does not read."""
        try:
            if (failure := await _stop(sending)) is not None:
                raise failure
            await _send(send, b"", patience, last=True)
        except _SlowReader:
            return False
        except OSError:
            # Some servers say in this way that the client has left.
            return True
        return True


class _SlowReader(Exception):
    """The client takes nothing."""


class _Drain:
    """Tells the streams of one event loop that the server goes down."""

    def __init__(self) -> None:
        self._streams: set[asyncio.Future[None]] = set()
        self._polling = False

    @contextlib.contextmanager
    def announced(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the server goes down."""
        draining = asyncio.get_running_loop().create_future()
        self._streams.add(draining)
        if not self._polling:
            self._poll()
        try:
            yield draining
        finally:
            self._streams.discard(draining)
            draining.cancel()

    def _poll(self) -> None:
        if _server_stops():
            for draining in self._streams:
                if not draining.done():
                    draining.set_result(None)
        self._polling = bool(self._streams)
        if self._polling:
            asyncio.get_running_loop().call_later(_DRAIN_POLL_SECONDS, self._poll)


_drains: WeakKeyDictionary[asyncio.AbstractEventLoop, _Drain] = WeakKeyDictionary()


def _drain() -> _Drain:
    return _drains.setdefault(asyncio.get_running_loop(), _Drain())


def _server_stops() -> bool:
    # On SIGTERM, uvicorn waits for its responses to end before it tells the app anything. What it has set by then is
    # `should_exit` of the server whose method handles the signal.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


async def _send(send: Send, chunk: bytes, patience: float, *, last: bool = False) -> None:
    try:
        async with asyncio.timeout(patience):
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
    except TimeoutError:
        raise _SlowReader from None


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stop(task: asyncio.Task[None]) -> BaseException | None:
    """Cancels a task unless it has ended, and returns what it raised."""
    while not task.done():
        # One cancellation may not be enough: `asyncio.wait_for`, with which redis-py sends, loses it on Python 3.11
        # when it comes in the moment that the sending is done.
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
    return None if task.cancelled() else task.exception()


def _abort(receive: Receive) -> None:
    # ASGI has no word for it, and a connection that is closed politely waits for its reader for ever, which would also
    # keep the server from going down.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        transport.abort()
