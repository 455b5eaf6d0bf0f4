"""How far a task says it has come."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from aijobs.job import Progress
from aijobs.worker.attempt import Attempt, InAttempt
from aijobs.worker.scopes import Scope
from aijobs.worker.shapes import count_of
from aijobs.worker.tracking import Course, Tracked

T = TypeVar("T")


class Reporting(InAttempt):
    """The part of `ProgressTask` that reports progress."""

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Reports how far the job has come.

        Args:
            current: units done so far.
            total: units in all; by default as reported before.
            message: a line for people; by default as reported before.

        Raises:
            ValueError: a number is negative, infinite or not a number.
            JobCancelled: somebody asked for the job to be cancelled.
        """
        try:
            current, total = count_of(current), None if total is None else count_of(total)
        except ValueError:
            told = f"current={current!r}, total={total!r}"
            raise ValueError(f"progress() takes numbers from 0 up, not {told}.") from None
        attempt = self._attempt()
        if attempt is None:
            return
        before = attempt.latest
        attempt.report(
            Progress(
                current,
                before.total if total is None else total,
                before.unit,
                before.step,
                before.message if message is None else message,
            )
        )

    def track(
        self,
        iterable: Iterable[T] | AsyncIterable[T],
        total: float | None = None,
        unit: str | None = None,
        description: str | None = None,
        *,
        resume: bool = False,
    ) -> Tracked[T]:
        """Gives the items of an iterable and reports each as done when the next one is asked for.

        What this returns is for `for` or, in a coroutine, for `async for`.

        Args:
            iterable: what to go through.
            total: how many items there are; by default `len(iterable)` when it has one.
            unit: what an item is called, such as "documents".
            description: a line for people.
            resume: go on after the items that earlier attempts of the job have done; how many are done is in the store
                before the next item is given out.

        Raises:
            ValueError: `total` is negative, infinite or not a number.
            JobCancelled: somebody asked for the job to be cancelled.
            StoreUnavailable: with `resume`, when the store stays away.
        """
        return Tracked(Course(self, iterable, total, unit, description, resume))

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Names what the job does inside the `with` block; counting begins anew in it.

        Args:
            name: of the step, such as "embed".

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
        """
        attempt = self._attempt()
        with contextlib.nullcontext() if attempt is None else in_step(attempt, name):
            yield


@contextlib.contextmanager
def in_step(attempt: Attempt, name: str, scope: Scope | None = None) -> Iterator[None]:
    """Has an attempt report a step inside the `with` block, and the one around it afterwards.

    Args:
        attempt: the one that runs.
        name: of the step.
        scope: of the block; by default the one around it.
    """
    outer = attempt.names.scope
    attempt.report(Progress(step=name))
    with (outer.in_step(name) if scope is None else scope).entered():
        yield
    attempt.report(replace(attempt.latest, step=outer.step))
