"""What a task keeps, as its author sees it: attempts that end in the middle, and those that go on."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, computed_field
from typing_extensions import TypedDict

from aijobs import JobCancelled
from aijobs.errors import StoreUnavailable
from aijobs.settings import Settings
from aijobs.store import open_store
from aijobs.store.base import Operation
from aijobs.store.redis import RedisStore
from aijobs.store.values import Return
from aijobs.worker.checkpoints import Checkpoints
from aijobs.worker.exceptions import LeaseLost
from tests.helpers import claim, new_job
from tests.unit.attempts import Attempts, job, latest, task

__all__ = ["job", "task"]


class Page(BaseModel):
    number: int
    title: str = Field("", alias="pageTitle")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shown(self) -> str:
        return f"{self.number}: {self.title}"


@dataclass
class Totals:
    pages: int = 0
    words: list[int] = field(default_factory=list)


class Size(TypedDict):
    width: int


class Colour(Enum):
    RED = "red"


# Checkpoints


def test_the_next_attempt_has_what_was_kept(job: Attempts) -> None:
    self = job.begin()
    assert (self.resume(), self.resume(0)) == (None, 0)
    self.checkpoint({"page": 1})
    self.checkpoint({"page": 2})
    assert self.resume() == {"page": 2}
    self = job.begin()
    assert self.resume({"page": 0}) == {"page": 2}


def test_a_model_or_dataclass_is_one_again(job: Attempts) -> None:
    self = job.begin()
    self.checkpoint(Totals(2, [3, 4]))
    assert self.resume(Totals()) == Totals(2, [3, 4])
    assert self.resume() == {"pages": 2, "words": [3, 4]}
    self = job.begin()
    self.checkpoint(Page(number=1, pageTitle="One"))
    assert self.resume(Page(number=0)) == Page(number=1, pageTitle="One")


def test_what_another_version_kept_and_this_one_cannot_read_is_not_there(job: Attempts) -> None:
    job.begin().checkpoint({"pages": "many"})
    assert job.begin().resume(Totals()) == Totals()
    (message,) = job.logged()
    assert "cannot be read, and counts as not there" in message
    assert "many" not in message


def test_what_json_cannot_hold_is_refused(job: Attempts) -> None:
    self = job.begin()
    with pytest.raises(TypeError, match="This checkpoint cannot be kept: JSON cannot hold this object"):
        self.checkpoint(object())
    with pytest.raises(TypeError, match="JSON cannot hold this str"):
        self.checkpoint("\ud800")
    assert self.resume() is None


def test_too_much_is_refused_with_the_setting_that_bounds_it(job: Attempts) -> None:
    self = job.begin()
    self.checkpoint("x" * 1_000)
    with pytest.raises(ValueError, match=r"would be 2,0[0-9][0-9] bytes, and AIJOBS_CHECKPOINT_BYTES allows 2,000"):
        self.run_step("large", lambda: "y" * 1_000)
    with pytest.raises(ValueError, match="AIJOBS_CHECKPOINT_BYTES"):
        self.checkpoint("x" * 3_000)
    assert job.begin().resume() == "x" * 1_000


def test_a_write_tells_of_a_cancel_once_and_keeps_the_value(job: Attempts) -> None:
    self = job.begin()
    job.store.run(job.store.cancel(job.new.id))
    try:
        self.checkpoint(1)
    except JobCancelled:
        # What cleans up is not interrupted again.
        self.checkpoint(2)
    else:
        pytest.fail("the task did not hear of it")
    assert job.store.run(job.store.kept(job.new.id)) == {"checkpoint": "2"}


def test_an_attempt_that_lost_its_job_hears_of_it(job: Attempts) -> None:
    self = job.begin()
    job.store.run(job.store.requeue(claim(job.new, job.token), None, why=Return.LOST))
    job.store.run(job.store.start(claim(job.new, "elsewhere")))
    with pytest.raises(LeaseLost):
        self.checkpoint(1)
    with pytest.raises(LeaseLost):
        list(self.track([1], resume=True))


def test_an_event_loop_does_not_wait_for_a_store_that_is_away() -> None:
    nobody_listens = open_store("redis://127.0.0.1:1/0", Settings())
    checkpoints = Checkpoints(nobody_listens, claim(new_job()), 100)

    async def keep() -> None:
        checkpoints.keep("page", "1")

    async def read() -> None:
        checkpoints.kept()

    for does_not_wait in (keep, read):
        with pytest.raises(StoreUnavailable):
            asyncio.run(does_not_wait())


class SlowForThreads(RedisStore):
    """A store that has other threads than the main one wait until it is released."""

    asked, released = threading.Event(), threading.Event()

    def run(self, operation: Operation[Any]) -> Any:
        if threading.current_thread() is not threading.main_thread():
            self.asked.set()
            self.released.wait(30)
        return super().run(operation)


def test_an_event_loop_does_not_wait_for_a_thread_that_reads(redis_url: str) -> None:
    store, new = SlowForThreads(redis_url, Settings()), new_job()
    store.run(store.start(claim(new)))
    checkpoints = Checkpoints(store, claim(new), 100)

    async def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(checkpoints.kept)
            assert store.asked.wait(30)
            assert checkpoints.kept() == {}
            checkpoints.keep("page", "1")
            assert not reading.done(), "the thread still waits for its answer"
            store.released.set()
            assert reading.result() == checkpoints.kept() == {"page": "1"}

    asyncio.run(work())


# Steps


def test_a_step_is_run_once(job: Attempts) -> None:
    calls: list[str] = []

    def extract(name: str, *, pages: int) -> dict[str, int]:
        calls.append(name)
        return {name: pages}

    for _ in range(3):
        assert job.begin().run_step("extract", extract, "a", pages=2) == {"a": 2}
    assert calls == ["a"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (tuple[int, str], (1, "a")),
        (dict[int, set[str]], {1: {"a"}}),
        (Page, Page(number=1, pageTitle="One")),
        (list[Totals], [Totals(1, [2])]),
        (Size, {"width": 1}),
        (Path | None, Path("a")),
        (Colour, Colour.RED),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=1)),
        (datetime, datetime(2026, 1, 2, 3, 4)),
        (float, math.inf),
        (type(None), None),
    ],
)
def test_a_result_is_what_its_function_says_each_time(job: Attempts, kind: Any, value: Any) -> None:
    def make() -> Any:
        return value

    make.__annotations__["return"] = kind
    results = [job.begin().run_step("make", make) for _ in range(2)]
    assert results == [value, value]


def test_without_an_annotation_a_result_is_what_json_makes_of_it_each_time(job: Attempts) -> None:
    make = lambda: {"pair": (1, 2), "page": Page(number=1), 3: math.inf}  # noqa: E731
    for _ in range(2):
        result = job.begin().run_step("make", make)
        assert result == {"pair": [1, 2], "page": {"number": 1, "pageTitle": ""}, "3": math.inf}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Totals, Totals(4)),
        (functools.partial(Totals, words=[1]), Totals(4, [1])),
        (functools.partial(functools.partial(pow), 3), 81),
        ([4, 4].count, 2),
        (Decimal(10).compare, "1"),
    ],
)
def test_a_step_calls_whatever_can_be_called(job: Attempts, function: Any, expected: Any) -> None:
    assert [job.begin().run_step("call", function, 4) for _ in range(2)] == [expected, expected]


def test_a_step_that_fails_keeps_nothing_and_may_be_tried_again(job: Attempts) -> None:
    outcomes = iter(["no", "7"])

    def work() -> int:
        return int(next(outcomes))

    self = job.begin()
    with pytest.raises(ValueError, match="invalid literal"):
        self.run_step("work", work)
    assert self.run_step("work", work) == 7
    assert job.begin().run_step("work", work) == 7


def test_a_step_is_given_the_function_and_not_what_it_gave(job: Attempts) -> None:
    self = job.begin()
    with pytest.raises(TypeError, match="Step 'work' has nothing to call: int is no function"):
        self.run_step("work", 7)
    assert self.run_step("work", int) == 0


def test_a_name_stands_for_one_step(job: Attempts) -> None:
    self = job.begin()
    assert self.run_step("page 1", int) == 0
    with pytest.raises(ValueError, match=r'named \'page 1\' already.*run_step\(f"page 1 \{number\}", …\)'):
        self.run_step("page 1", int)


class Opaque:
    """Nothing that JSON could hold."""


def gives_opaque() -> Opaque:
    raise AssertionError("it is not called")


def gives_unknown() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821, UP037
    raise AssertionError("it is not called")


def gives_text_for_number() -> int:
    return "many"  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (gives_opaque, "result of step 'work' could not be kept: pydantic cannot make a Opaque of JSON"),
        (gives_unknown, "its return annotation cannot be read"),
        (gives_text_for_number, "result of step 'work' cannot be kept.*does not make a int"),
        (Opaque, "result of step 'work' could not be kept: pydantic cannot make a Opaque of JSON"),
        (lambda: [Opaque()], "result of step 'work' cannot be kept: JSON cannot hold this list"),
        (lambda: asyncio.sleep(0), "gave a coroutine, but is not declared with `async def`"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_result_that_cannot_be_kept_is_an_error_also_outside_a_worker(
    job: Attempts, task: Any, function: Any, message: str, inside: bool
) -> None:
    with pytest.raises(TypeError, match=message):
        (job.begin() if inside else task).run_step("work", function)
    assert job.store.run(job.store.kept(job.new.id)) == {}


def test_what_another_version_returned_is_made_anew(job: Attempts) -> None:
    def before() -> str:
        return "many"

    def after() -> int:
        return 3

    assert job.begin().run_step("count", before) == "many"
    assert job.begin().run_step("count", after) == 3
    assert job.begin().run_step("count", after) == 3


def test_a_step_is_reported(job: Attempts) -> None:
    self = job.begin()
    self.progress(1, 2)
    assert self.run_step("look", lambda: latest().step) == "look"
    assert latest().step is None


# Steps of coroutines


async def twice(number: int, log: list[int]) -> tuple[int, int]:
    log.append(number)
    await asyncio.sleep(0)
    return number, 2 * number


@pytest.mark.parametrize(
    "shape", [twice, functools.partial(twice), type("Twice", (), {"__call__": staticmethod(twice)})()]
)
def test_a_coroutine_is_run_once(job: Attempts, shape: Any) -> None:
    log: list[int] = []
    for _ in range(2):
        assert asyncio.run(job.begin().run_step("twice", shape, 3, log)) == (3, 6)
    assert log == [3]


def test_coroutines_run_at_once_and_each_is_kept(job: Attempts) -> None:
    log: list[int] = []

    async def all_of_them(self: Any, numbers: range) -> list[tuple[int, int]]:
        return list(await asyncio.gather(*(self.run_step(f"twice {n}", twice, n, log) for n in numbers)))

    asyncio.run(all_of_them(job.begin(), range(10)))
    assert latest().step is None
    self = job.begin()
    assert asyncio.run(all_of_them(self, range(12))) == [(n, 2 * n) for n in range(12)]
    assert sorted(log) == list(range(12))


def test_a_coroutine_that_hears_of_a_cancel_cleans_up_undisturbed(job: Attempts) -> None:
    self = job.begin()

    async def first() -> int:
        await asyncio.to_thread(job.store.run, job.store.cancel(job.new.id))
        return 1

    async def work() -> str:
        try:
            await self.run_step("first", first)
        except JobCancelled:
            assert await self.run_step("clean up", twice, 2, []) == (2, 4)
            raise
        return "not reached"

    with pytest.raises(JobCancelled):
        asyncio.run(work())
    kept = job.store.run(job.store.kept(job.new.id))
    assert sorted(kept) == ['step:"clean up"', 'step:"first"']


def test_threads_run_steps_at_once(job: Attempts) -> None:
    together = threading.Barrier(4, timeout=60)

    def work(number: int) -> int:
        together.wait()
        return 2 * number

    self = job.begin()
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(copy_context().run, self.run_step, f"work {n}", work, n) for n in range(4)]
        assert [one.result() for one in running] == [0, 2, 4, 6]
    again = job.begin()
    assert [again.run_step(f"work {n}", work, n) for n in range(4)] == [0, 2, 4, 6]


# Outside a worker


def test_outside_a_worker_nothing_is_kept_and_results_are_the_same(task: Any) -> None:
    task.checkpoint({"page": 1})
    assert task.resume() is None
    assert task.resume(Totals()) == Totals()
    assert task.run_step("a", lambda: (1, 2)) == task.run_step("a", lambda: (1, 2)) == [1, 2]
    assert asyncio.run(task.run_step("twice", twice, 3, [])) == (3, 6)
