"""Ending tasks that do not listen at first."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from aijobs._tasks import stop

pytestmark = pytest.mark.anyio


async def test_a_lost_cancellation_is_repeated() -> None:
    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        await asyncio.sleep(3_600)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    assert await stop(task) is None
    assert task.cancelled()


async def test_what_a_task_raised_is_returned() -> None:
    async def fail() -> None:
        raise ValueError("no")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    assert str(await stop(task)) == "no"
