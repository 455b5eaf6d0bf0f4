"""Jobs that give something out, and what clients make of the events that they are given."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json
from typing_extensions import override

from aijobs.job import ErrorCode, EventType, LogEntry, Piece
from aijobs.store.values import Claim, Failure, OutputEntry, OutputWrite

from .conftest import Api, Event
from .followers import Follower


@dataclass
class Attempt:
    """A running attempt that gives something out, as its worker would."""

    api: Api
    claim: Claim
    said: int = 0

    def emit(self, *values: Any) -> None:
        """One write with a piece for each value."""
        pieces = [Piece(text=one) if isinstance(one, str) else Piece(data=one) for one in values]
        self.write(*(OutputEntry(EventType.OUTPUT, to_json(piece.to_dict())) for piece in pieces))

    def log(self, message: str, **fields: Any) -> None:
        self.write(OutputEntry(EventType.LOG, to_json(LogEntry(message, fields=fields).to_dict())))

    def write(self, *entries: OutputEntry) -> None:
        store = self.api.runtime.store
        assert store.run(store.report(self.claim, None, None, OutputWrite(self.said, entries))).accepted
        self.said += len(entries)

    def retry(self) -> Attempt:
        """Fails, and begins anew."""
        store = self.api.runtime.store
        failure = Failure(ErrorCode.EXCEPTION, "ValueError: no", "")
        assert store.run(store.requeue(self.claim, failure)).accepted
        return retried(self.api, self.claim.job_id, self.claim.retries + 1)


def retried(api: Api, job_id: str, retries: int = 1) -> Attempt:
    """The start that a retry's message brings about."""
    claim = Claim(job_id, uuid.uuid4().hex, worker="test@host", max_attempts=3, retries=retries)
    assert api.runtime.store.run(api.runtime.store.start(claim)).accepted
    return Attempt(api, claim)


@dataclass
class Reader:
    """Collects output, whatever connections its events come from."""

    pieces: list[dict[str, Any]] = field(default_factory=list)
    #: The number of the last event.
    last: int = 0
    over: bool = False

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(one.get("text", "") for one in self.pieces)

    def take(self, kind: str, data: dict[str, Any]) -> None:
        """One event; it must be the next one, or show all that there is."""
        shows_all = kind in ("job.snapshot", "stream.gap")
        fits = data["seq"] >= self.last if shows_all else data["seq"] == self.last + 1 or not self.last
        assert fits, (self.last, kind, data)
        self.last = data["seq"]
        self.over = kind == "job.completed"
        if shows_all:
            self.pieces = list((data["output"] or {"pieces": []})["pieces"])
        elif kind == "job.attempt":
            self.pieces = []
        elif kind == "job.output":
            self._add({name: data[name] for name in ("text", "data") if name in data})

    def _add(self, piece: dict[str, Any]) -> None:
        if "text" in piece and self.pieces and "text" in self.pieces[-1]:
            self.pieces[-1] = {"text": self.pieces[-1]["text"] + piece["text"]}
        else:
            self.pieces.append(piece)


def read(events: list[Event]) -> Reader:
    """What a reader has who was given these events."""
    reader = Reader()
    for one in events:
        reader.take(one.kind, one.data)
    return reader


@dataclass
class TokenFollower(Follower):
    """Follows a job of `apps/tokens.py`, and checks each time that no token is missing, twice, or out of order."""

    reader: Reader = field(default_factory=Reader)
    #: How often it came back knowing nothing, as a page does that is loaded anew.
    reloads: int = 0
    #: The attempt whose tokens it has, and how many.
    attempt: str = ""
    count: int = 0
    #: Attempts whose tokens it had.
    attempts: set[str] = field(default_factory=set)

    @override
    def where(self) -> str:
        if random.random() < 0.25:
            self.reloads += 1
            return ""
        return super().where()

    @override
    def take(self, kind: str, data: dict[str, Any]) -> bool:
        self.reader.take(kind, data)
        if kind == "job.output":
            self._check([data])
        elif kind in ("job.snapshot", "stream.gap", "job.attempt"):
            self.attempt, self.count = "", 0
            self._check(self.reader.pieces)
        return super().take(kind, data)

    def _check(self, pieces: list[dict[str, Any]]) -> None:
        for attempt, number in tokens_in(pieces):
            assert (self.attempt or attempt, self.count) == (attempt, number)
            self.attempt, self.count = attempt, number + 1
            self.attempts.add(attempt)


def tokens_in(pieces: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Attempt and number of each token."""
    found = []
    for piece in pieces:
        if "text" in piece:
            found += [(attempt, int(number)) for attempt, number in map(str.split, piece["text"].splitlines())]
        else:
            found.append((piece["data"]["attempt"], piece["data"]["number"]))
    return found
