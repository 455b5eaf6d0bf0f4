"""Ending asyncio tasks."""

from __future__ import annotations

import asyncio
from typing import Any

#: A task has so long to end before it is cancelled once more.
_PATIENCE_SECONDS = 1.0


async def stop(task: asyncio.Task[Any]) -> BaseException | None:
    """Cancels a task unless it has ended, waits for its end, and returns what it raised."""
    while not task.done():
        # One cancellation may not be enough: `asyncio.wait_for`, with which redis-py sends, loses it on Python 3.11
        # when it comes in the moment that the sending is done.
        task.cancel()
        await asyncio.wait({task}, timeout=_PATIENCE_SECONDS)
    return None if task.cancelled() else task.exception()
