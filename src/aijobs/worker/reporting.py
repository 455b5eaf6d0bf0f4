"""How far a task says it has come."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from typing import TypeVar

from aijobs.job import Progress
from aijobs.worker.attempt import InAttempt

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
        if not all(0 <= number <= sys.float_info.max for number in (current, total or 0)):
            raise ValueError(f"progress() takes numbers from 0 up, not current={current!r}, total={total!r}.")
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
        iterable: Iterable[T],
        total: float | None = None,
        unit: str | None = None,
        description: str | None = None,
    ) -> Iterator[T]:
        """Yields the items of an iterable and reports each as done when the next one is asked for.

        Args:
            iterable: what to go through.
            total: how many items there are; by default `len(iterable)` when it has one.
            unit: what an item is called, such as "documents".
            description: a line for people.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
        """
        if total is None:
            total = len(iterable) if isinstance(iterable, Sized) else operator.length_hint(iterable, 0) or None
        self._begin(total, unit, description)
        for done, item in enumerate(iterable, 1):
            yield item
            self.progress(done, total)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Names what the job does inside the `with` block; counting begins anew in it.

        Args:
            name: of the step, such as "embed".

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
        """
        attempt = self._attempt()
        if attempt is None:
            yield
            return
        outer = attempt.latest
        attempt.report(Progress(step=name))
        yield
        attempt.report(replace(attempt.latest, step=outer.step))

    def _begin(self, total: float | None, unit: str | None, description: str | None) -> None:
        attempt = self._attempt()
        if attempt is not None:
            attempt.report(replace(attempt.latest, current=0, total=total, unit=unit, message=description))
