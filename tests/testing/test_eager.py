"""`task_always_eager` and `apply()`: tasks executed in the caller's process, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from celery import Celery, Task

from aijobs import LLM_CALL, ProgressTask
from aijobs.testing import rate_limited, run_job, scripted


@pytest.fixture
def app() -> Celery:
    return Celery("eager", task_always_eager=True, set_as_current=False)


@pytest.fixture
def everything(app: Celery) -> Any:
    @app.task(base=ProgressTask, bind=True, shared=False, name="everything")
    def everything(self: Any, words: list[str]) -> Any:
        start = self.resume(default=0)
        with self.step("write"):
            for word in self.track(words, resume=True):
                self.emit(word)
                self.checkpoint(start + 1)
        self.log("done", words=len(words))
        return [self.run_step("count", len, words), self.stream(iter(words)), self.resume()]

    return everything


@pytest.fixture
def everything_async(app: Celery) -> Any:
    async def count(words: list[str]) -> int:
        return len(words)

    @app.task(base=ProgressTask, bind=True, shared=False, name="everything_async")
    async def everything_async(self: Any, words: list[str]) -> Any:
        async def tokens() -> Any:
            for word in words:
                await asyncio.sleep(0)
                yield word

        self.progress(1, 2)
        return [await self.run_step("count", count, words), await self.stream(tokens())]

    return everything_async


WAYS = {
    "delay": lambda task, *args: task.delay(*args).get(),
    "apply_async": lambda task, *args: task.apply_async(args).get(),
    "apply": lambda task, *args: task.apply(args).get(),
    "call": lambda task, *args: task(*args),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_task_says_does_nothing(everything: Any, way: str) -> None:
    assert WAYS[way](everything, ["a", "b"]) == [2, "ab", None]


@pytest.mark.parametrize("way", WAYS)
def test_coroutine_tasks_run(everything_async: Any, way: str) -> None:
    given = WAYS[way](everything_async, ["a", "b"])
    assert (asyncio.run(given) if asyncio.iscoroutine(given) else given) == [2, "ab"]


def test_a_coroutine_task_runs_within_an_event_loop(everything_async: Any) -> None:
    async def test() -> Any:
        return everything_async.delay(["a"]).get()

    assert asyncio.run(test()) == [1, "a"]


def test_retries_are_made_at_once(app: Celery) -> None:
    ask = scripted(ConnectionError("no route"), "42")

    @app.task(base=ProgressTask, shared=False, name="ask", **LLM_CALL.options())
    def answer() -> Any:
        return ask()

    assert answer.delay().get() == "42"


def test_rate_limits_are_retries_that_do_not_wait(app: Celery) -> None:
    ask = scripted(rate_limited(retry_after=600), "42")

    @app.task(base=ProgressTask, shared=False, name="ask", **LLM_CALL.options())
    def answer() -> Any:
        return ask()

    assert answer.delay().get() == "42"


def test_run_job_takes_an_eager_app_as_it_takes_others(app: Celery, everything: Any) -> None:
    ask = scripted(rate_limited(retry_after=600), "42")

    @app.task(base=ProgressTask, bind=True, shared=False, name="ask", **LLM_CALL.options())
    def answer(self: Task[Any, Any]) -> Any:
        return [ask(), everything.delay(["a"]).get()]

    run = run_job(answer)
    assert run.assert_success() == ["42", [1, "a", None]]
    assert run.waits[0] >= 600
    assert run_job(everything, ["a", "b"]).assert_success() == [2, "ab", 1]
