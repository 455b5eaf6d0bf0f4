"""A coroutine that is interrupted sees what it should, once, and its outcome is told apart from an interruption."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from aijobs.worker.exceptions import JobCancelled, TaskAborted
from aijobs.worker.execution import Execution, make_task, position_of


def carried(coroutine: Coroutine[Any, Any, Any], *interruptions: BaseException) -> Any:
    """What a coroutine comes to that is interrupted whenever it waits."""

    async def interrupt() -> Any:
        execution = Execution(coroutine, asyncio.get_running_loop())
        for why in interruptions:
            for _ in range(5):
                await asyncio.sleep(0)
            execution.interrupt(why)
        await asyncio.wait([execution.task])
        return execution.result()

    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(make_task)
        return runner.run(interrupt())


async def waits() -> None:
    await asyncio.sleep(60)


def test_what_is_not_interrupted_gives_its_value() -> None:
    async def add() -> int:
        await asyncio.sleep(0)
        return 3

    assert carried(add()) == 3


def test_a_cancel_leaves_as_what_it_was_for() -> None:
    seen: list[BaseException] = []

    async def wait() -> None:
        try:
            await waits()
        except BaseException as error:
            seen.append(error)
            raise

    with pytest.raises(JobCancelled):
        carried(wait(), JobCancelled())
    assert isinstance(seen[0], asyncio.CancelledError)
    assert not isinstance(seen[0], Exception)


def test_a_soft_limit_is_both() -> None:
    seen: list[BaseException] = []

    async def wait() -> str:
        try:
            await waits()
        except SoftTimeLimitExceeded as error:
            seen.append(error)
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0, "it may go on"
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
        return "went on"

    assert carried(wait(), SoftTimeLimitExceeded()) == "went on"
    assert isinstance(seen[0], asyncio.CancelledError)


@pytest.mark.parametrize("why", [JobCancelled(), SoftTimeLimitExceeded()])
def test_before_it_began(why: Exception) -> None:
    async def interrupt() -> None:
        execution = Execution(waits(), asyncio.get_running_loop())
        execution.interrupt_here(why)
        await asyncio.wait([execution.task])
        execution.result()

    with pytest.raises(type(why)):
        asyncio.run(interrupt())


def test_cleaning_up_is_not_interrupted() -> None:
    done = []

    async def wait() -> None:
        try:
            await waits()
        finally:
            await asyncio.sleep(0.05)
            done.append("closed")

    with pytest.raises(JobCancelled):
        carried(wait(), *(JobCancelled() for _ in range(5)))
    assert done == ["closed"]


def test_what_swallows_it_gets_it_again() -> None:
    swallowed = []

    async def wait() -> None:
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await waits()
            swallowed.append(1)
        await waits()

    with pytest.raises(JobCancelled):
        carried(wait(), *(JobCancelled() for _ in range(4)))
    assert len(swallowed) == 3


def test_wrapped_by_a_library() -> None:
    async def wait() -> None:
        try:
            await waits()
        except asyncio.CancelledError as error:
            raise RuntimeError("a library's own") from error

    with pytest.raises(JobCancelled) as raised:
        carried(wait(), JobCancelled())
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_an_error_of_its_own_at_the_soft_limit_is_its_own() -> None:
    async def wait() -> None:
        try:
            await waits()
        except SoftTimeLimitExceeded:
            raise ValueError("nothing found yet") from None

    with pytest.raises(ValueError, match="nothing found"):
        carried(wait(), SoftTimeLimitExceeded())


@pytest.mark.parametrize("why", [JobCancelled(), SoftTimeLimitExceeded()])
def test_task_groups_end_their_children(why: Exception) -> None:
    ended = []

    async def child() -> None:
        try:
            await waits()
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    async def wait() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(child())

    with pytest.raises(type(why)):
        carried(wait(), why)
    assert ended == [1, 1, 1]


def test_group_of_a_body_that_is_interrupted() -> None:
    async def wait() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            await waits()

    with pytest.raises(SoftTimeLimitExceeded):
        carried(wait(), SoftTimeLimitExceeded())


def test_time_outs_of_its_own_are_its_own() -> None:
    async def wait() -> str:
        try:
            async with asyncio.timeout(0.01):
                await waits()
        except TimeoutError:
            return "timed out"
        return "waited"

    assert carried(wait()) == "timed out"


def test_cancelled_by_its_own_code() -> None:
    async def cancel() -> None:
        raise asyncio.CancelledError

    with pytest.raises(TaskAborted):
        carried(cancel())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("wrong")])
def test_other_exceptions_pass(error: BaseException) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)):
        carried(fail())


def test_children_that_are_left_behind_are_ended() -> None:
    ended = []

    async def child() -> None:
        try:
            await waits()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    async def leave() -> str:
        asyncio.create_task(child())  # noqa: RUF006
        await asyncio.sleep(0)
        return "left"

    assert carried(leave()) == "left"
    assert ended == [1]


def test_position() -> None:
    async def run() -> str:
        coroutine = waits()
        task = asyncio.ensure_future(coroutine)
        await asyncio.sleep(0)
        try:
            return position_of(coroutine)
        finally:
            task.cancel()

    place = asyncio.run(run())
    assert "test_execution.py" in place
    assert place.endswith(" in waits")
