"""What has become of the documents so far, in a form that a job can keep and take up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import TypedDict


class Failure(TypedDict):
    """A document that could not be ingested."""

    path: str
    #: For programs, see `Problem`.
    problem: str
    #: For people: what is wrong and what to do.
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document."""

    path: str
    #: Of its content; None when there was a failure.
    digest: str | None = None
    #: Those that were stored; None when the store had this content already.
    chunks: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of documents. The one that was counted last can be counted again and still counts once."""

    ingested: int = 0
    unchanged: int = 0
    chunks: int = 0
    failures: Sequence[Failure] = ()
    #: The document that was counted last; it is not in the numbers above yet.
    last: Outcome | None = None

    def plus(self, outcome: Outcome) -> Tally:
        """The counts with one more document, or with another outcome of the last one."""
        again = self.last is not None and self.last.path == outcome.path
        return replace(self if again else self.total(), last=outcome)

    def total(self) -> Tally:
        """The counts with the last document."""
        last = self.last
        if last is None:
            return self
        if last.failure is not None:
            return replace(self, last=None, failures=[*self.failures, last.failure])
        if last.chunks is None:
            return replace(self, last=None, unchanged=self.unchanged + 1)
        return replace(self, last=None, ingested=self.ingested + 1, chunks=self.chunks + last.chunks)
