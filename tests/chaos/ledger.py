"""What was asked for, and what was answered: the jobs that must exist, those that may, and their ends."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from aijobs import Job, JobStatus
from tests.chaos.plan import KINDS, Arguments, Kind, Order


@dataclass(frozen=True, slots=True)
class Entry:
    """One job that was submitted, or may have been."""

    job_id: str
    order: Order
    #: What it was given.
    arguments: Arguments
    #: The submission returned, so the job must exist.
    accepted: bool
    #: The job of the chain whose success sends this one.
    after: str | None = None

    @property
    def kind(self) -> Kind:
        """What is to be expected of it."""
        return KINDS[self.order.kind]


@dataclass(frozen=True, slots=True)
class Cancel:
    """One cancel and its answer."""

    job_id: str
    #: None when the store did not answer, so that anything may have happened.
    accepted: bool | None
    status: JobStatus | None
    #: When the answer was there, on the monotonic clock.
    answered: float


@dataclass
class Ledger:
    """Shared by the threads that submit, cancel and watch."""

    entries: dict[str, Entry] = field(default_factory=dict)
    cancels: dict[str, Cancel] = field(default_factory=dict)
    #: The record of each job when its end was first seen.
    ends: dict[str, Job] = field(default_factory=dict)
    #: The ids that were tried for one idempotency key, by key.
    keyed: dict[str, list[str]] = field(default_factory=dict)
    #: Submissions that raised, by what they raised.
    refusals: Counter[str] = field(default_factory=Counter)
    #: Answers that must never be given.
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, *entries: Entry) -> None:
        """Notes jobs."""
        with self._lock:
            self.entries |= {entry.job_id: entry for entry in entries}

    def refuse(self, error: Exception) -> None:
        """Notes a submission that raised."""
        with self._lock:
            self.refusals[f"{type(error).__name__}: {str(error).rpartition(': ')[2][:60]}"] += 1

    def open_entries(self) -> list[Entry]:
        """The jobs of which no end was seen."""
        with self._lock:
            return [entry for job_id, entry in self.entries.items() if job_id not in self.ends]

    def must_exist(self, entry: Entry) -> bool:
        """Whether there has to be a job; what follows in a chain is there only if what is before it succeeded."""
        before = None if entry.after is None else self.ends.get(entry.after)
        return entry.accepted and (entry.after is None or (before is not None and before.status is JobStatus.SUCCESS))
