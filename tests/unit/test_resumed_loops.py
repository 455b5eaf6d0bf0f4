"""Loops that go on in the next attempt, wherever the one before ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aijobs import Progress
from aijobs.runtime import runtime_of
from aijobs.worker.positions import digest
from tests.unit.attempts import Attempts, job, latest, task

__all__ = ["job", "task"]


class Page(BaseModel):
    number: int


@dataclass
class Line:
    number: int


class Colour(Enum):
    RED = "red"


class Opaque:
    """Nothing that JSON could hold."""


def until(items: Iterator[Any], last: Any) -> list[Any]:
    """What is given out up to an item at which the attempt ends in the middle."""
    seen = []
    for item in items:
        seen.append(item)
        if item == last:
            break
    return seen


@pytest.mark.parametrize("shape", [list, iter, lambda items: (item for item in items)])
def test_a_loop_goes_on_at_the_item_that_was_not_done(job: Attempts, shape: Any) -> None:
    items = [f"page {number}" for number in range(6)]
    assert until(job.begin().track(shape(items), resume=True), "page 3") == items[:4]
    assert until(job.begin().track(shape(items), resume=True), "page 4") == items[3:5]
    assert list(job.begin().track(shape(items), resume=True)) == items[4:]
    assert list(job.begin().track(shape(items), resume=True)) == []


def test_progress_goes_on_where_it_was(job: Attempts) -> None:
    until(job.begin().track(range(10), resume=True, unit="pages", description="reading"), 7)
    loop = job.begin().track(range(10), resume=True, unit="pages", description="reading")
    assert next(loop) == 7
    assert latest() == Progress(7, 10, "pages", message="reading")
    list(loop)
    assert latest().current == 10


async def shown(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


async def until_async(items: Any, last: Any) -> list[Any]:
    seen = []
    async for item in items:
        seen.append(item)
        if item == last:
            break
    return seen


@pytest.mark.parametrize("shape", [list, iter, shown])
def test_a_coroutine_goes_on_as_well(job: Attempts, shape: Any) -> None:
    items = [f"page {number}" for number in range(6)]

    def attempt(items: list[str], last: str = "") -> list[str]:
        return asyncio.run(until_async(job.begin().track(shape(items), resume=True, unit="pages"), last))

    assert attempt(items, "page 3") == items[:4]
    assert attempt(items, "page 4") == items[3:5]
    assert attempt(items) == items[4:]
    assert attempt(items) == []
    assert attempt(["another", *items]) == ["another", *items]
    assert attempt(items[:2]) == items[:2]
    assert "starts over" in job.logged()[-1]


@pytest.mark.parametrize("shape", [list, shown])
def test_a_coroutine_counts_as_well(job: Attempts, shape: Any) -> None:
    self = job.begin()
    asyncio.run(until_async(self.track(shape(["a", "b", "c"]), total=3, unit="pages"), "c"))
    assert latest() == Progress(2, 3, "pages")


def test_a_loop_in_a_loop_of_a_coroutine_goes_on(job: Attempts) -> None:
    async def attempt(self: Any, ends_at: tuple[int, int]) -> list[tuple[int, int]]:
        seen = []
        async for outer in self.track(range(3), resume=True):
            async for inner in self.track(range(3), resume=True):
                seen.append((outer, inner))
                if seen[-1] == ends_at:
                    return seen
        return seen

    everything = [(outer, inner) for outer in range(3) for inner in range(3)]
    assert asyncio.run(attempt(job.begin(), (1, 1))) == everything[:5]
    assert asyncio.run(attempt(job.begin(), (9, 9))) == everything[4:]


def test_what_is_asynchronous_is_not_for_a_plain_loop(job: Attempts) -> None:
    with pytest.raises(TypeError, match="go through it with `async for`"):
        list(job.begin().track(shown([1])))


def test_a_loop_that_does_not_resume_begins_anew(job: Attempts) -> None:
    assert until(job.begin().track("abc"), "b") == ["a", "b"]
    assert list(job.begin().track("abc")) == ["a", "b", "c"]


@pytest.mark.parametrize("shape", [list, iter])
@pytest.mark.parametrize("now", [["a", "x", "y"], ["a"], []])
def test_other_items_are_all_given_out_and_the_log_says_so(job: Attempts, shape: Any, now: list[str]) -> None:
    until(job.begin().track(shape(["a", "b", "c"]), resume=True), "c")
    assert list(job.begin().track(shape(now), resume=True)) == now
    (message,) = job.logged()
    assert "starts over" in message
    assert "number 2" in message


def test_items_may_be_added_behind_and_changed_while_they_are_done(job: Attempts) -> None:
    items: list[dict[str, Any]] = [{"page": 1}, {"page": 2}]
    for item in job.begin().track(items, resume=True):
        item["text"] = "read"
    longer = [{"page": 1}, {"page": 2}, {"page": 3}]
    assert list(job.begin().track(longer, resume=True)) == [{"page": 3}]
    assert job.logged() == []


def test_items_that_are_nothing_plain_are_counted(job: Attempts) -> None:
    items = [Opaque(), Opaque(), Opaque()]
    assert until(job.begin().track(items, resume=True), items[1]) == items[:2]
    assert list(job.begin().track(list(items), resume=True)) == items[1:]


def test_loops_are_told_apart_by_step_and_order(job: Attempts) -> None:
    def attempt(self: Any, ends_at: str) -> list[str]:
        seen: list[str] = []
        try:
            for name in ("read", "embed"):
                with self.step(name):
                    for part in ("first", "second"):
                        for number in self.track(range(3), resume=True):
                            seen.append(f"{name} {part} {number}")
                            if seen[-1] == ends_at:
                                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        return seen

    assert len(attempt(job.begin(), "embed second 1")) == 11
    assert attempt(job.begin(), "") == ["embed second 1", "embed second 2"]


def test_a_loop_in_a_loop_goes_on_in_the_item_that_was_not_done(job: Attempts) -> None:
    def attempt(self: Any, ends_at: tuple[int, int]) -> list[tuple[int, int]]:
        seen = []
        for outer in self.track(range(4), resume=True):
            for inner in self.track(range(3), resume=True):
                seen.append((outer, inner))
                if seen[-1] == ends_at:
                    return seen
        return seen

    everything = [(outer, inner) for outer in range(4) for inner in range(3)]
    assert attempt(job.begin(), (1, 2)) == everything[:6]
    assert attempt(job.begin(), (2, 0)) == everything[5:7]
    assert attempt(job.begin(), (9, 9)) == everything[6:]
    assert len(job.store.run(job.store.kept(job.new.id))) == 2, "each loop has one place"


def test_a_place_in_an_item_is_not_taken_for_one_in_another(job: Attempts) -> None:
    def attempt(self: Any, documents: list[str], ends_at: tuple[str, int]) -> list[tuple[str, int]]:
        seen = []
        for document in self.track(documents, resume=True):
            for page in self.track(range(3), resume=True):
                seen.append((document, page))
                if seen[-1] == ends_at:
                    return seen
        return seen

    attempt(job.begin(), ["a", "b"], ("b", 2))
    inserted = attempt(job.begin(), ["a", "x", "b"], ("x", 2))
    assert inserted == [("x", 0), ("x", 1), ("x", 2)]
    assert attempt(job.begin(), ["a", "x", "b"], ("", 0)) == [("x", 2), ("b", 0), ("b", 1), ("b", 2)]


def test_a_step_that_is_not_run_again_does_not_shift_the_loops_after_it(job: Attempts) -> None:
    def read(self: Any) -> list[int]:
        return list(self.track(range(2), resume=True))

    def attempt(self: Any, last: int) -> list[int]:
        self.run_step("read", read, self)
        return until(self.track(range(5), resume=True), last)

    assert attempt(job.begin(), 3) == [0, 1, 2, 3]
    assert attempt(job.begin(), 9) == [3, 4]


def test_loops_in_steps_that_run_at_once_are_told_apart(job: Attempts) -> None:
    async def read(self: Any, number: int, last: int, seen: list[tuple[int, int]]) -> int:
        for page in self.track(range(4), resume=True):
            seen.append((number, page))
            await asyncio.sleep(0)
            if page == last:
                raise ZeroDivisionError
        return number

    async def both(self: Any, last: int) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        steps = (self.run_step(f"read {n}", read, self, n, last, seen) for n in range(2))
        await asyncio.gather(*steps, return_exceptions=True)
        return sorted(seen)

    assert len(asyncio.run(both(job.begin(), 2))) == 6
    assert asyncio.run(both(job.begin(), 9)) == [(0, 2), (0, 3), (1, 2), (1, 3)]


def test_a_loop_that_was_left_does_not_reach_into_the_next_attempt(job: Attempts) -> None:
    left = iter(job.begin().track(range(3), resume=True))
    next(left)
    following = job.begin()
    assert until(following.track(range(3), resume=True), 1) == [0, 1]
    del left
    assert list(job.begin().track(range(3), resume=True)) == [1, 2]


def test_plain_items_are_known_again() -> None:
    plain = [
        "a",
        1,
        1.5,
        None,
        True,
        (1, "a"),
        {"b": 1, "a": Path("x")},
        Page(number=1),
        Line(2),
        Colour.RED,
        UUID(int=1),
    ]
    digests = [digest(item) for item in plain]
    assert None not in digests
    assert len(set(digests)) == len(digests)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert [digest(item) for item in (object(), {1, 2}, b"x", {"a": {"b"}}, {1: 1, "a": 2})] == [None] * 5


def test_outside_a_worker_a_loop_goes_through_everything(task: Any) -> None:
    assert list(task.track("ab", resume=True)) == list(task.track("ab", resume=True)) == ["a", "b"]
    assert asyncio.run(until_async(task.track("ab", resume=True), None)) == ["a", "b"]


# Any order of ends


class Lost(BaseException):
    """The process ends here."""


class World:
    """What a task does to it, and when that takes the task's process down."""

    def __init__(self, ends: list[int]) -> None:
        self.done: list[str] = []
        self.in_flight: list[str] = []
        self._ends = ends
        self._left = 0

    def begin(self) -> None:
        """Another attempt, which ends at the n-th thing it does; when no more ends are left, it does not."""
        self._left = self._ends.pop(0) if self._ends else 0

    def act(self, what: str) -> str:
        self.done.append(what)
        self._left -= 1
        if self._left == 0:
            self.in_flight.append(what)
            raise Lost
        return what

    async def act_async(self, what: str) -> str:
        await asyncio.sleep(0)
        return self.act(what)


def book(self: Any, chapters: list[int], world: World) -> None:
    """Steps, loops in loops, and a loop of which the next attempt begins anew."""
    for chapter, pages in self.track(list(enumerate(chapters)), resume=True):
        self.run_step(f"open {chapter}", world.act, f"open {chapter}")
        with self.step("read"):
            for page in self.track(range(pages), resume=True):
                for line in self.track("ab", resume=True):
                    world.act(f"line {chapter} {page} {line}")
    for part in self.track(["index", "cover"]):
        self.run_step(part, self_contained, self, world, part)


def self_contained(self: Any, world: World, part: str) -> int:
    return len([world.act(f"{part} {number}") for number in self.track(range(2), resume=True)])


async def book_async(self: Any, chapters: list[int], world: World) -> None:
    """The same, as a coroutine."""
    async for chapter, pages in self.track(list(enumerate(chapters)), resume=True):
        await self.run_step(f"open {chapter}", world.act_async, f"open {chapter}")
        with self.step("read"):
            async for page in self.track(range(pages), resume=True):
                async for line in self.track("ab", resume=True):
                    await world.act_async(f"line {chapter} {page} {line}")
    for part in ("index", "cover"):
        for number in range(2):
            await self.run_step(f"{part} {number}", world.act_async, f"{part} {number}")


def everything(chapters: list[int]) -> Iterator[str]:
    """What is to be done, in order."""
    for chapter, pages in enumerate(chapters):
        yield f"open {chapter}"
        yield from (f"line {chapter} {page} {line}" for page in range(pages) for line in "ab")
    yield from (f"{part} {number}" for part in ("index", "cover") for number in range(2))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    chapters=st.lists(st.integers(0, 3), max_size=4),
    ends=st.lists(st.integers(1, 10), max_size=6),
    is_async=st.booleans(),
)
def test_nothing_is_left_out_and_only_what_was_in_flight_is_repeated(
    task: Any, chapters: list[int], ends: list[int], is_async: bool
) -> None:
    store, world = runtime_of(task.app).store, World([*ends])
    attempts = Attempts(task, store)
    store.run(store.create(attempts.new))

    def attempt() -> bool:
        world.begin()
        self = attempts.begin()
        try:
            asyncio.run(book_async(self, chapters, world)) if is_async else book(self, chapters, world)
        except Lost:
            return False
        return True

    try:
        assert any(attempt() for _ in range(len(ends) + 1))
    finally:
        attempts.end()
    assert list(dict.fromkeys(world.done)) == list(everything(chapters))
    assert len(world.done) == len(set(world.done)) + len(world.in_flight)
    assert all(world.done.count(what) == 1 + world.in_flight.count(what) for what in world.done)
