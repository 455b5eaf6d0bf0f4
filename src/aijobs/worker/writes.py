"""What reporters write: in between, and at the end of an attempt."""

from __future__ import annotations

from dataclasses import dataclass

from aijobs.job import Progress
from aijobs.store.base import Operation
from aijobs.store.values import Change, OutputWrite, ProgressWrite


@dataclass(frozen=True, slots=True)
class Write:
    """One write."""

    #: The report in it, as it was given.
    report: Progress | None
    output: OutputWrite | None
    operation: Operation[Change]


@dataclass(frozen=True, slots=True)
class LastWords:
    """What belongs to the end of an attempt."""

    #: What was reported last; None without a report.
    progress: ProgressWrite | None = None
    #: What was given out and may not be written yet.
    output: OutputWrite | None = None
    #: Whether any of it is news to the store.
    unwritten: bool = False
