"""What has to become of a job, said once more and without a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aijobs import ErrorCode, EventType, JobEvent, JobStatus
from aijobs.job import FINISHED


@dataclass(frozen=True)
class Model:
    """What has to be true of the job."""

    status: JobStatus | None = None
    attempt: int = 0
    claim: str = ""
    #: Claims of attempts that lost the job.
    lost: frozenset[str] = frozenset()
    rev: int = 0
    cancel_requested: bool = False
    progress: float | None = None
    error: tuple[ErrorCode, int] | None = None
    scheduled: bool = False
    #: Whether an attempt ever began.
    started: bool = False
    #: Attempts whose process was lost.
    losses: int = 0
    #: Of the message that the job goes on with.
    generation: int = 0
    result: bytes | None = None
    #: What the newest attempt gave out, and in how many entries.
    output: str = ""
    said: int = 0
    #: What its attempts have kept, and how often the task had been replaced by then.
    kept: frozenset[str] = frozenset()
    kept_by: int = 0
    #: Every status the job had, in order.
    path: tuple[JobStatus, ...] = field(default=())

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    def lets(self, token: str) -> bool:
        """Whether this writer has the job, or may take it."""
        if self.status is None or self.finished:
            return False
        if token == "" or self.status is JobStatus.QUEUED:
            return token not in self.lost
        return token == self.claim

    def enter(self, status: JobStatus, **changes: Any) -> Model:
        return replace(self, status=status, path=(*self.path, status), **changes)

    def adopt(self) -> Model:
        return self if self.status else self.enter(JobStatus.QUEUED)

    def fence_off(self) -> Model:
        return replace(self, lost=self.lost | {self.claim} - {""}, claim="")

    def open_attempt(self, token: str) -> Model:
        free = self.fence_off()
        if free.status is JobStatus.RUNNING:
            # A redelivery: the older attempt has lost the job, though nobody said so.
            free = free.enter(JobStatus.QUEUED).lose()
        known = {"claim": token, "progress": None, "scheduled": False, "started": True, "output": "", "said": 0}
        return free.enter(JobStatus.RUNNING, attempt=self.attempt + 1, **known)

    def say(self, before: int, entries: Sequence[str]) -> Model:
        """What is here already is skipped."""
        new = entries[max(0, self.said - before) :]
        return replace(self, output=self.output + "".join(new), said=max(self.said, before + len(entries)))

    def lose(self) -> Model:
        return replace(self, losses=self.losses + 1, error=(ErrorCode.WORKER_LOST, self.attempt))

    def revoke(self) -> Model:
        return self.enter(JobStatus.REVOKED, scheduled=False, error=(ErrorCode.CANCELLED, self.attempt))

    def drop_others(self, generation: int) -> Model:
        """Without what another task kept that was replaced."""
        replaced = generation // 1_000_000
        return self if replaced == self.kept_by else replace(self, kept=frozenset(), kept_by=replaced)

    def run_anew(self) -> Model:
        old = self.fence_off()
        return Model(rev=old.rev, lost=old.lost, path=old.path).adopt()

    def commit(self) -> Model:
        return replace(self, rev=self.rev + 1)


def replay(events: Sequence[JobEvent]) -> tuple[tuple[JobStatus, ...], int, float | None, str]:
    """The statuses, the attempt, the progress and the output of a job, from its events alone."""
    path: list[JobStatus] = []
    attempt, progress, output = 0, None, ""
    for event in events:
        if event.type is EventType.PROGRESS:
            progress = event.data["progress"]
            continue
        if event.type is EventType.ATTEMPT and path[-1] is JobStatus.RUNNING:
            path.append(JobStatus.QUEUED)
        if event.type is EventType.ATTEMPT or event.data["attempt"] != attempt:
            attempt, progress, output = event.data["attempt"], None, ""
        output += event.data.get("text", "")
        if "status" in event.data and event.data["status"] not in path[-1:]:
            path.append(JobStatus(event.data["status"]))
    return tuple(path), attempt, progress, output
