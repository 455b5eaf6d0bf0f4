"""Going through items, counting each as it is done."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from aijobs.worker.attempt import Attempt
from aijobs.worker.positions import Loop, digest
from aijobs.worker.shapes import count_of

T = TypeVar("T")


class Counts(Protocol):
    """A task, as far as it counts."""

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Reports how far the job has come."""

    def _attempt(self) -> Attempt | None: ...


@dataclass(frozen=True, slots=True)
class Course(Generic[T]):
    """What is gone through, and how that is counted."""

    task: Counts
    items: Iterable[T] | AsyncIterable[T]
    total: float | None
    unit: str | None
    description: str | None
    resume: bool

    def loop(self) -> Loop | None:
        """What keeps how many items are done; None when nothing is to be kept."""
        attempt = self.task._attempt() if self.resume else None
        return None if attempt is None else Loop(attempt)

    def begin(self, done: int) -> float | None:
        """Reports where it begins; gives how many items there are, if that is known."""
        total = self._total()
        attempt = self.task._attempt()
        if attempt is not None:
            attempt.report(replace(attempt.latest, current=done, total=total, unit=self.unit, message=self.description))
        return total

    def _total(self) -> float | None:
        if self.total is None:
            return len(self.items) if isinstance(self.items, Sized) else operator.length_hint(self.items, 0) or None
        try:
            return count_of(self.total)
        except ValueError:
            raise ValueError(f"track() takes a total from 0 up, not {self.total!r}.") from None


class Tracked(Generic[T]):
    """Items that are counted as they are done, for `for` as for `async for`, with which no event loop is held up.

    Args:
        course: what is gone through.
    """

    def __init__(self, course: Course[T]) -> None:
        self._course = course
        self._items: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        # A generator is faster than anything else, and is closed as soon as its loop is left.
        if self._items is None:
            self._items = _each(self._course)
        return self._items

    def __next__(self) -> T:
        return next(iter(self))

    def __aiter__(self) -> AsyncIterator[T]:
        return _each_async(self._course)


def _each(course: Course[T]) -> Iterator[T]:
    if not isinstance(course.items, Iterable):
        raise TypeError("track() was given something asynchronous: go through it with `async for`.")
    loop = course.loop()
    before, items = (0, iter(course.items)) if loop is None else loop.rest(course.items)
    total = course.begin(before)
    for done, item in enumerate(items, before + 1):
        if loop is None:
            yield item
        else:
            # The task may change the item.
            mark = digest(item)
            with loop.scope(done - 1, mark).entered():
                yield item
            loop.keep(done, mark)
        course.task.progress(done, total)


async def _each_async(course: Course[T]) -> AsyncIterator[T]:
    loop = course.loop()
    items = _asynchronous(course.items)
    before, again = (0, []) if loop is None else await loop.skip(items)
    total = course.begin(before)
    done = before
    async for item in _chained(again, items):
        done += 1
        if loop is None:
            yield item
        else:
            mark = digest(item)
            with loop.scope(done - 1, mark).entered():
                yield item
            await loop.keep_aside(done, mark)
        course.task.progress(done, total)


async def _asynchronous(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _chained(first: Iterable[T], rest: AsyncIterator[T]) -> AsyncIterator[T]:
    for item in first:
        yield item
    async for item in rest:
        yield item
