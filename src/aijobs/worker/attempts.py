"""The attempts that this process carries out, and which of them the running code works for."""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar
from dataclasses import dataclass

from typing_extensions import override

from aijobs.job import Progress
from aijobs.store.base import JobStore
from aijobs.store.values import Claim, ProgressWrite
from aijobs.worker.attempt import Attempt
from aijobs.worker.progress import Reporter


@dataclass(frozen=True, slots=True)
class WorkerAttempt(Attempt):
    """An attempt in a worker: what it says goes to the job store."""

    reporter: Reporter

    @property
    @override
    def latest(self) -> Progress:
        return self.reporter.latest

    @override
    def report(self, progress: Progress) -> None:
        self.reporter.report(progress)


def open_attempt(store: JobStore, claim: Claim, interval: float) -> WorkerAttempt:
    """The attempt of a claim, made on first use.

    Args:
        store: where to write what it says.
        claim: of the attempt.
        interval: least time between two writes, seconds.
    """
    attempt = _attempts.get(claim.token)
    if attempt is None:
        attempt = _attempts[claim.token] = WorkerAttempt(Reporter(store, claim, interval))
    return attempt


def enter_job(token: str) -> None:
    """Says which attempt the code of this context, and what it starts with a copy of it, works for."""
    _current.set(token)


def attempt_of_helper() -> WorkerAttempt | None:
    """The attempt for code that runs in a helper thread: by its context, else the only one that is open."""
    found = _attempts.get(_current.get())
    if found is None and len(_attempts) == 1:
        with contextlib.suppress(ValueError):
            (found,) = _attempts.values()
    return found


def close_attempt(token: str) -> ProgressWrite | None:
    """Ends what an attempt says; gives its last report of progress, which belongs to the attempt's end."""
    attempt = _attempts.pop(token, None)
    return attempt.reporter.close() if attempt is not None else None


_attempts: dict[str, WorkerAttempt] = {}
_current: ContextVar[str] = ContextVar("aijobs_attempt", default="")

os.register_at_fork(after_in_child=_attempts.clear)
