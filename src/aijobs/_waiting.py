"""How synchronous code waits where waiting would hold up an event loop.

In a worker with the asyncio pool, Celery's own code runs in greenlets of the loop's thread. There it must not block: it
steps aside until what it waits for is there. Elsewhere nothing of this has an effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Green(Protocol):
    """Synchronous code that can step aside."""

    def wait(self, awaitable: Awaitable[T]) -> T:
        """What an awaitable gives; the event loop goes on meanwhile."""

    def carry(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine of a task gives."""

    def leave(self, call: Callable[[], T]) -> T:
        """What a call gives that blocks, made by a thread."""


_find: list[Callable[[], Green | None]] = []


def green() -> Green | None:
    """What runs right here, if it is synchronous code that can step aside."""
    return _find[0]() if _find else None


def find_green(find: Callable[[], Green | None]) -> None:
    """Has `green` ask this."""
    _find[:] = [find]


def pause(seconds: float) -> None:
    """Sleeps, without holding up an event loop where that can be helped."""
    here = green()
    if here is None:
        time.sleep(seconds)
    else:
        here.wait(asyncio.sleep(seconds))


def call_aside(call: Callable[[], T]) -> T:
    """Makes a call that may block for long, without holding up an event loop where that can be helped."""
    here = green()
    return call() if here is None else here.leave(call)
