"""What can befall a task at a named point of its work: its worker is killed, its job cancelled, its time is up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from typing_extensions import override

from aijobs.job import LogEntry, Piece, Progress
from aijobs.worker.attempt import Attempt
from aijobs.worker.scopes import Names, key_of


class Kind(StrEnum):
    """What happens."""

    CRASH = "crash"
    CANCEL = "cancel"
    TIME_OUT = "time_out"


@dataclass(frozen=True, slots=True)
class Point:
    """Where it happens."""

    #: The step that runs; None in whichever.
    step: str | None = None
    #: The item of a `track`, counted from 1; None as the step begins or ends.
    item: int | None = None
    #: Whether the step or item has just been done, and nobody knows it yet; else it is about to begin.
    done: bool = False

    def __str__(self) -> str:
        names = [f"step {self.step!r}"] if self.step else []
        names += [f"item {self.item}"] if self.item else []
        return f"{'after' if self.done else 'at'} {', '.join(names)}"


@dataclass(slots=True)
class Trouble:
    """Something that happens to the jobs that `run_job` runs in a `with` block, or that one worker runs.

    Raises:
        AssertionError: at the end of the block, when it never came to it; the message has the steps that there were.
    """

    kind: Kind
    point: Point
    #: How often it happens; then the task goes on undisturbed.
    times: int = 1
    #: How often it has happened.
    happened: int = 0
    #: The steps that were passed.
    seen: list[str] = field(default_factory=list)

    def happens(self) -> bool:
        """Whether it happens once more; if so, that is counted."""
        if self.happened >= self.times:
            return False
        self.happened += 1
        return True

    def __enter__(self) -> Self:
        self.happened, self.seen = 0, []
        _active.set((*_active.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _active.set(tuple(one for one in _active.get() if one is not self))
        if error is None and not self.happened:
            passed = f"It passed {', '.join(self.seen)}" if self.seen else "It reported nothing"
            raise AssertionError(
                f"The {self.kind} {self.point} never happened, as the task did not get there. {passed}."
            )


def crash_at(step: str | None = None, *, item: int | None = None, times: int = 1) -> Trouble:
    """The worker is killed as a step begins, or an item in it: what came before is done, this is not begun.

    Args:
        step: the name that the task gives to `self.step` or `self.run_step`; by default any.
        item: of a `self.track` in it, counted from 1.
        times: how often; a job that loses too many workers is given up as poison.

    Raises:
        ValueError: neither is given, or the item is below 1.
    """
    return _trouble(Kind.CRASH, step, item, times)


def crash_after(step: str | None = None, *, item: int | None = None, times: int = 1) -> Trouble:
    """The worker is killed when a step, or an item, is done and before that is noted: it will be done once more.

    No system can spare a task this moment. What must not happen twice needs a key that its receiver knows it by.

    Raises:
        ValueError: neither is given, or the item is below 1.
    """
    return _trouble(Kind.CRASH, step, item, times, done=True)


def cancel_at(step: str | None = None, *, item: int | None = None) -> Trouble:
    """The job is cancelled as a step begins, or an item in it: `JobCancelled` is raised there.

    Raises:
        ValueError: neither is given, or the item is below 1.
    """
    return _trouble(Kind.CANCEL, step, item)


def time_out_at(step: str | None = None, *, item: int | None = None, times: int = 1) -> Trouble:
    """The soft time limit passes as a step begins, or an item in it: `SoftTimeLimitExceeded` is raised there.

    Raises:
        ValueError: neither is given, or the item is below 1.
    """
    return _trouble(Kind.TIME_OUT, step, item, times)


def active_troubles() -> tuple[Trouble, ...]:
    """Those of the `with` blocks around this call."""
    return _active.get()


class Watched(Attempt):
    """An attempt that a trouble befalls when it comes to the point.

    Args:
        attempt: what it does otherwise.
        trouble: which may have happened already.
        strike: makes it happen; it need not return.
    """

    def __init__(self, attempt: Attempt, trouble: Trouble, strike: Callable[[], None]) -> None:
        self._attempt = attempt
        self._trouble = trouble
        self._strike = strike

    @property
    @override
    def latest(self) -> Progress:
        return self._attempt.latest

    @property
    @override
    def number(self) -> int:
        return self._attempt.number

    @property
    @override
    def names(self) -> Names:
        return self._attempt.names

    @override
    def report(self, progress: Progress) -> None:
        before = self._attempt.latest
        self._note(progress)
        if self._is_done(before, progress):
            self._befall()
        self._attempt.report(progress)
        if self._begins(before, progress):
            self._befall()

    @override
    def emit(self, piece: Piece) -> None:
        self._attempt.emit(piece)

    @override
    def log(self, entry: LogEntry) -> None:
        self._attempt.log(entry)

    @override
    def kept(self) -> Mapping[str, str]:
        return self._attempt.kept()

    @override
    def keep(self, name: str, value_json: str) -> None:
        if self._is_kept(name, value_json):
            self._befall()
        self._attempt.keep(name, value_json)

    def _befall(self) -> None:
        if self._trouble.happens():
            self._strike()

    def _note(self, progress: Progress) -> None:
        seen = self._trouble.seen
        if progress.step and progress.step not in seen:
            seen.append(progress.step)

    def _begins(self, before: Progress, now: Progress) -> bool:
        point = self._trouble.point
        if point.done or (point.step and now.step != point.step):
            return False
        return before.step != now.step if point.item is None else now.current == point.item - 1

    def _is_done(self, before: Progress, now: Progress) -> bool:
        point = self._trouble.point
        if not point.done or (point.step and before.step != point.step):
            return False
        return before.step != now.step if point.item is None else now.current == point.item

    def _is_kept(self, name: str, value_json: str) -> bool:
        """Whether a step, or an item of a loop, is about to be kept as done."""
        point = self._trouble.point
        if not point.done:
            return False
        if point.item is None:
            return point.step is not None and name == key_of("step", point.step)
        is_here = point.step in (None, self.latest.step)
        return is_here and name.startswith("track:") and bool(json.loads(value_json)[0] == point.item)


def _trouble(kind: Kind, step: str | None, item: int | None, times: int = 1, *, done: bool = False) -> Trouble:
    if step is None and item is None:
        raise ValueError("Say where: the name of a step, the number of an item, or both.")
    if item is not None and item < 1:
        raise ValueError(f"Items are counted from 1, so none is number {item}.")
    return Trouble(kind, Point(step, item, done), times)


_active: ContextVar[tuple[Trouble, ...]] = ContextVar("aijobs_troubles", default=())
