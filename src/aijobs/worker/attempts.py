"""The attempts that this process carries out, and which of them the running code works for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from typing_extensions import override

from aijobs.job import LogEntry, Piece, Progress
from aijobs.settings import Settings
from aijobs.store.base import JobStore
from aijobs.store.values import Claim
from aijobs.worker.attempt import Attempt
from aijobs.worker.checkpoints import Checkpoints
from aijobs.worker.progress import Reporter
from aijobs.worker.writes import LastWords


@dataclass(frozen=True, slots=True)
class WorkerAttempt(Attempt):
    """An attempt in a worker: what it says goes to the job store."""

    reporter: Reporter
    checkpoints: Checkpoints

    @property
    @override
    def latest(self) -> Progress:
        return self.reporter.latest

    @override
    def report(self, progress: Progress) -> None:
        self.reporter.report(progress)

    @property
    @override
    def number(self) -> int:
        return self.reporter.number

    @override
    def emit(self, piece: Piece) -> None:
        self.reporter.emit(piece)

    @override
    def log(self, entry: LogEntry) -> None:
        self.reporter.log(entry)

    @override
    def kept(self) -> Mapping[str, str]:
        return self.checkpoints.kept()

    @override
    def keep(self, name: str, value_json: str) -> None:
        self.checkpoints.keep(name, value_json)


def open_attempt(store: JobStore, claim: Claim, settings: Settings) -> WorkerAttempt:
    """The attempt of a claim, made on first use.

    Args:
        store: where to write what it says.
        claim: of the attempt.
        settings: how often it is written, and how much may be kept.
    """
    attempt = _attempts.get(claim.token)
    if attempt is None:
        intervals = settings.progress_interval_seconds, settings.output_interval_seconds
        attempt = _attempts[claim.token] = WorkerAttempt(
            Reporter(store, claim, *intervals),
            Checkpoints(store, claim, settings.checkpoint_bytes),
        )
    return attempt


def number_attempt(token: str, number: int) -> None:
    """Notes which attempt of its job it is that has begun under a claim."""
    attempt = _attempts.get(token)
    if attempt is not None:
        attempt.reporter.number = number


def enter_job(token: str) -> None:
    """Says which attempt the code of this context, and what it starts with a copy of it, works for."""
    _current.set(token)


def attempt_of_helper() -> Attempt | None:
    """The attempt for code that runs in a helper thread: by its context, else the only one that is open."""
    token = _current.get()
    found = _attempts.get(token) or _lent.get(token)
    if found is None and len(_attempts) + len(_lent) == 1:
        with contextlib.suppress(ValueError):
            (found,) = list[Attempt](_attempts.values()) + list(_lent.values())
    return found


@contextlib.contextmanager
def lend_attempt(attempt: Attempt) -> Iterator[None]:
    """Has the code of a `with` block, and its helper threads, work for an attempt that no worker carries out."""
    token = f"lent {id(attempt)}"
    _lent[token] = attempt
    before = _current.set(token)
    try:
        yield
    finally:
        _current.reset(before)
        del _lent[token]


def flush_attempt(token: str) -> None:
    """Has written what an attempt has said so far, unless that would keep an event loop waiting."""
    attempt = _attempts.get(token)
    if attempt is not None:
        attempt.reporter.flush_if_it_may_wait()


def close_attempt(token: str) -> LastWords:
    """Ends what an attempt says; gives the last of it, which belongs to the attempt's end."""
    attempt = _attempts.pop(token, None)
    return attempt.reporter.close() if attempt is not None else LastWords()


_attempts: dict[str, WorkerAttempt] = {}
_lent: dict[str, Attempt] = {}
_current: ContextVar[str] = ContextVar("aijobs_attempt", default="")

os.register_at_fork(after_in_child=_attempts.clear)
