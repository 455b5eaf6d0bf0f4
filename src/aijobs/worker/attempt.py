"""What the code of a running task can do for its attempt, whoever carries it out: a worker, or a test."""

from __future__ import annotations

from abc import ABC, abstractmethod

from aijobs.job import Progress


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


class InAttempt:
    """A part of a task's base class that acts on the attempt which runs; outside of one it has none."""

    def _attempt(self) -> Attempt | None:
        raise NotImplementedError
