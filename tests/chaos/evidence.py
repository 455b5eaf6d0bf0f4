"""What jobs leave behind when they run, where no trouble reaches: one file per process, one line per note.

The kernel keeps a written line when its writer is killed, and all processes of a machine have one monotonic clock.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aijobs.worker.claims import TOKEN


@dataclass(frozen=True, slots=True)
class Witness:
    """Takes the notes of one run."""

    folder: Path
    job_id: str
    token: str
    worker: str

    @classmethod
    def of(cls, request: Any) -> Witness:
        """The witness of the run that a task's request stands for."""
        folder = Path(os.environ["CHAOS_FOLDER"])
        return cls(folder, request.id, getattr(request, TOKEN, ""), os.environ["CHAOS_WORKER"])

    def note(self, what: str) -> None:
        """Writes down that something happens now: `begin`, `beat` or `end`."""
        line = {"job": self.job_id, "token": self.token, "worker": self.worker, "what": what, "at": time.monotonic()}
        with (self.folder / f"runs-{os.getpid()}").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def count(self) -> int:
        """How often the job has asked this, now included."""
        with (self.folder / f"count-{self.job_id}").open("a") as file:
            file.write(".")
            file.flush()
            return file.tell()


@contextmanager
def witnessed(request: Any) -> Iterator[Witness]:
    """Notes when a run begins and when it ends in whatever way but the death of its process."""
    witness = Witness.of(request)
    witness.note("begin")
    try:
        yield witness
    finally:
        witness.note("end")


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a job's code; times are of the monotonic clock."""

    job_id: str
    token: str
    worker: str
    begin: float
    #: None when the process died in the middle.
    end: float | None
    #: The last sign of life.
    last: float

    def overlaps(self, other: Run) -> bool:
        """Whether both were seen alive at one time."""
        return self.begin < other.last and other.begin < self.last


def read_runs(folder: Path) -> Mapping[str, Sequence[Run]]:
    """All runs by job, in the order of their beginnings."""
    lines: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for path in folder.glob("runs-*"):
        for text in path.read_text().splitlines():
            line = json.loads(text)
            lines[line["job"], line["token"]].append(line)
    runs: dict[str, list[Run]] = defaultdict(list)
    for (job_id, _), notes in lines.items():
        runs[job_id].extend(_runs(notes))
    return {job_id: sorted(found, key=lambda run: run.begin) for job_id, found in runs.items()}


def _runs(notes: Sequence[Mapping[str, Any]]) -> Iterator[Run]:
    """The runs of one claim, which should be one."""
    ordered = sorted(notes, key=lambda note: note["at"])
    begins = [place for place, note in enumerate(ordered) if note["what"] == "begin"]
    for begin, stop in zip(begins, [*begins[1:], len(ordered)], strict=True):
        part = ordered[begin:stop]
        end = next((note["at"] for note in part if note["what"] == "end"), None)
        first = part[0]
        yield Run(first["job"], first["token"], first["worker"], first["at"], end, part[-1]["at"])
