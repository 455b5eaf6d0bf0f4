"""`async def` tasks without a worker: called directly, eagerly, and on a loop; and stacks that follow contexts."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from celery import Celery

from aijobs import ConfigurationError, ProgressTask
from aijobs.worker.coroutines import is_coroutine_task, run_coroutine
from aijobs.worker.stacks import ContextStack

NOTHING = "redis://localhost:1/0"


@pytest.fixture
def app() -> Celery:
    return Celery("coroutines", broker=NOTHING, backend=NOTHING, set_as_current=False)


def declared(app: Celery, function: Any, **options: Any) -> Any:
    task = app.task(base=ProgressTask, **options)(function)
    app.finalize()
    return app.tasks[task.name]


async def loop_and_thread() -> tuple[int, int]:
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop()), threading.get_ident()


def test_a_thread_has_one_loop() -> None:
    assert run_coroutine(loop_and_thread()) == run_coroutine(loop_and_thread())


def test_threads_have_their_own() -> None:
    here, there = run_coroutine(loop_and_thread()), []
    thread = threading.Thread(target=lambda: there.append(run_coroutine(loop_and_thread())))
    thread.start()
    thread.join()
    assert here[1] != there[0][1]


def test_on_a_running_loop_a_thread_runs_it() -> None:
    async def here() -> Any:
        return run_coroutine(loop_and_thread()), threading.get_ident()

    (_, thread), mine = asyncio.run(here())
    assert thread != mine


def test_called_directly(app: Celery) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    task = declared(app, double, name="double")
    assert is_coroutine_task(task)
    assert task(4) == 8
    assert task.apply((5,)).get() == 10


def test_errors_pass(app: Celery) -> None:
    async def fail() -> None:
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        declared(app, fail, name="fail")()


def test_asynchronous_generators_are_refused(app: Celery) -> None:
    async def count() -> Any:
        yield 1

    with pytest.raises(ConfigurationError, match="asynchronous generator"):
        declared(app, count, name="count")


def test_request_in_children_and_threads(app: Celery) -> None:
    async def look(self: Any) -> list[Any]:
        async def child() -> Any:
            return self.request.id

        return [
            await child(),
            *await asyncio.gather(child(), child()),
            await asyncio.to_thread(lambda: self.request.id),
        ]

    task = declared(app, look, name="look", bind=True)
    assert task.apply(task_id="mine").get() == ["mine"] * 4


def test_stack() -> None:
    stack = ContextStack()
    assert (stack.top, stack.pop(), len(stack)) == (None, None, 0)
    stack.push("a")
    copy = contextvars.copy_context()
    stack.push("b")
    assert (stack.top, tuple(stack.stack)) == ("b", ("a", "b"))
    assert copy.run(lambda: stack.top) == "a"
    assert stack.pop() == "b"
    assert copy.run(stack.pop) == "a"
    assert stack.top == "a"


def test_a_coroutine_that_gives_a_coroutine_is_told_to_await() -> None:
    async def inner() -> int:
        return 1

    async def outer() -> Any:
        return inner()

    with pytest.raises(TypeError, match="write `return await"):
        run_coroutine(outer())
