"""What the code of a running task can do for its attempt, whoever carries it out: a worker, or a test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from aijobs.job import LogEntry, Piece, Progress
from aijobs.worker.scopes import Names


class Attempt(ABC):
    """One execution of a job, as its task's own code sees it."""

    @property
    @abstractmethod
    def latest(self) -> Progress:
        """The progress that was reported last."""

    @abstractmethod
    def report(self, progress: Progress) -> None:
        """Notes how far the job has come.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
            LeaseLost: the job was given to another attempt, or ended.
        """

    @property
    @abstractmethod
    def number(self) -> int:
        """Which attempt of its job it is, counted from 1; 1 also where that is unknown."""

    @abstractmethod
    def emit(self, piece: Piece) -> None:
        """Gives out a piece of what the job is making.

        Raises:
            ValueError: its data is more than an event may hold.
            TypeError: its data is nothing that JSON can hold.
            StoreUnavailable: the store is away, and too much waits for it already.
            JobCancelled: somebody asked for the job to be cancelled.
            LeaseLost: the job was given to another attempt, or ended.
        """

    @abstractmethod
    def log(self, entry: LogEntry) -> None:
        """Notes a line for people; raises what `emit` raises."""

    @property
    def names(self) -> Names:
        """What its steps and loops go by."""
        # Subclasses may be frozen, and threads may ask at once.
        found: Names = self.__dict__.setdefault("names", Names())
        return found

    @abstractmethod
    def kept(self) -> Mapping[str, str]:
        """What this job's attempts have kept: JSON text by name. It is read once, when it is first asked for.

        Raises:
            StoreUnavailable: the store stayed away.
        """

    @abstractmethod
    def keep(self, name: str, value_json: str) -> None:
        """Keeps a value for this attempt and those after it, durably: it is there when this returns.

        Args:
            name: what it goes by; what went by it before is replaced.
            value_json: the value as JSON text.

        Raises:
            ValueError: all that the job keeps would be larger than `AIJOBS_CHECKPOINT_BYTES`.
            JobCancelled: somebody asked for the job to be cancelled.
            LeaseLost: the job was given to another attempt, or ended.
            StoreUnavailable: the store stayed away.
        """


class InAttempt:
    """A part of a task's base class that acts on the attempt which runs; outside of one it has none."""

    def _attempt(self) -> Attempt | None:
        raise NotImplementedError
