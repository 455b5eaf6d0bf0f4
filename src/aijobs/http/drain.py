"""Knowing that the server goes down, so that what waits for news ends by itself before it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from weakref import WeakKeyDictionary

#: How often to look whether the server is going down.
POLL_SECONDS = 0.25


@contextlib.contextmanager
def draining() -> Iterator[asyncio.Future[None]]:
    """A future of the running event loop that is done when the server begins to go down.

    It is told by uvicorn, also with several workers and under gunicorn. Other servers end their responses themselves.
    """
    with _drains.setdefault(asyncio.get_running_loop(), _Drain()).announced() as announced:
        yield announced


class _Drain:
    """Looks for all who wait in one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self._polling = False

    @contextlib.contextmanager
    def announced(self) -> Iterator[asyncio.Future[None]]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        if not self._polling:
            self._poll()
        try:
            yield future
        finally:
            self._waiting.discard(future)
            future.cancel()

    def _poll(self) -> None:
        if _server_stops():
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
        self._polling = bool(self._waiting)
        if self._polling:
            asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll)


_drains: WeakKeyDictionary[asyncio.AbstractEventLoop, _Drain] = WeakKeyDictionary()


def _server_stops() -> bool:
    # On SIGTERM, uvicorn waits for its responses to end before it tells the app anything. What it has set by then is
    # `should_exit` of the server whose method handles the signal.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
