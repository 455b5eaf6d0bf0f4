"""What a job that a test runs has said and kept, in the memory of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from aijobs.job import EventType, JobEvent, JobStatus, LogEntry, Output, Piece, Progress
from aijobs.worker.attempt import Attempt
from aijobs.worker.checkpoints import check_size
from aijobs.worker.exceptions import JobCancelled
from aijobs.worker.interrupt import interruption_underway
from aijobs.worker.pieces import data_entry, log_entry
from aijobs.worker.shapes import fraction_of


class WorkerKilled(BaseException):
    """The worker of the attempt is dead. Whatever its task still does counts for nothing."""


class Journal:
    """What stays of a job whatever becomes of its attempts.

    Args:
        job_id: of the job.
        most_kept: bytes that it may keep.
    """

    def __init__(self, job_id: str, most_kept: int) -> None:
        self.job_id = job_id
        self._most_kept = most_kept
        self.events: list[JobEvent] = []
        self.progress: list[Progress] = []
        self.logs: list[LogEntry] = []
        #: JSON text by name.
        self.kept: dict[str, str] = {}
        self.cancelled = False
        # Tasks may report from helper threads.
        self._lock = threading.Lock()

    def add(self, kind: EventType, **data: Any) -> None:
        """Adds an event, as its stream would have it."""
        with self._lock:
            seq = len(self.events) + 1
            self.events.append(JobEvent(seq, kind, {"seq": seq, "job_id": self.job_id, **data}))

    def keep(self, name: str, value_json: str) -> None:
        """Keeps a value.

        Raises:
            ValueError: all of it would be too large.
        """
        with self._lock:
            kept = {**self.kept, name: value_json}
            check_size(sum(len(text.encode()) for pair in kept.items() for text in pair), self._most_kept)
            self.kept[name] = value_json

    def cancel(self, attempt: int) -> None:
        """Notes that somebody asked for the job to be cancelled while an attempt ran."""
        self.cancelled = True
        self.add(EventType.STATUS, attempt=attempt, status=JobStatus.RUNNING.value, cancel_requested=True)


class MemoryAttempt(Attempt):
    """An attempt whose words are kept in this process.

    Args:
        journal: of its job.
        number: counted from 1.
    """

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self._latest = Progress()
        self._pieces: list[Piece] = []
        self._dead = False

    @property
    def dead(self) -> bool:
        """Whether its worker was killed."""
        return self._dead

    @property
    def output(self) -> Output:
        """What it gave out, with texts that follow each other as one."""
        merged: list[Piece] = []
        for piece in self._pieces:
            if merged and piece.text is not None and merged[-1].text is not None:
                merged[-1] = Piece(merged[-1].text + piece.text)
            else:
                merged.append(piece)
        return Output(self._number, merged)

    def die(self) -> None:
        """Its worker is killed, now.

        Raises:
            WorkerKilled: always.
        """
        self._dead = True
        raise WorkerKilled

    @property
    @override
    def latest(self) -> Progress:
        return self._latest

    @property
    @override
    def number(self) -> int:
        return self._number

    @override
    def report(self, progress: Progress) -> None:
        self._live()
        self._latest = progress
        self._journal.progress.append(progress)
        fraction = fraction_of(progress.current, progress.total)
        self._journal.add(EventType.PROGRESS, progress=fraction, progress_detail=progress.to_dict())
        self._heed()

    @override
    def emit(self, piece: Piece) -> None:
        self._live()
        if piece.text is None:
            # As it travels.
            piece = Piece(**json.loads(data_entry(piece.data).json))
        self._pieces.append(piece)
        self._journal.add(EventType.OUTPUT, attempt=self._number, **piece.to_dict())
        self._heed()

    @override
    def log(self, entry: LogEntry) -> None:
        self._live()
        entry = LogEntry(**json.loads(log_entry(entry).json))
        self._journal.logs.append(entry)
        self._journal.add(EventType.LOG, attempt=self._number, **entry.to_dict())
        self._heed()

    @override
    def kept(self) -> Mapping[str, str]:
        self._live()
        return self._journal.kept

    @override
    def keep(self, name: str, value_json: str) -> None:
        self._live()
        self._journal.keep(name, value_json)
        self._heed()

    def _live(self) -> None:
        # What swallows the end of its worker meets it again: nothing of a dead attempt may count.
        if self._dead:
            raise WorkerKilled

    def _heed(self) -> None:
        if self._journal.cancelled and interruption_underway() is None:
            raise JobCancelled
