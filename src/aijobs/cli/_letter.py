"""How a dead letter is shown: as a row, as JSON, and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from typing import Any

from aijobs.cli._text import duration, moment, printable, printable_lines
from aijobs.job import Job, JobError

#: The head of the columns.
HEAD = ("ID", "TASK", "FAILED", "CODE", "ATTEMPTS", "MESSAGE")

#: What only who asks for the whole job is to see, and what the error or the arguments say already.
_ONLY_WHOLE = frozenset({"arguments_json", "options_json", "traceback", "metadata", "worker"})
_NEVER = frozenset({"id", "arguments_json", "options_json", "result_json", "result_bytes", "queue_position", "seq"})
_LABEL_WIDTH = 14


def columns(job: Job) -> tuple[str, ...]:
    """A row of a table."""
    error = job.error
    code, message = (error.code.value, error.message) if error else ("-", "-")
    return job.id, job.task, moment(job.completed_at), code, attempts(job), message


def attempts(job: Job) -> str:
    """How many there were, and how many there might have been."""
    return str(job.attempt) if job.max_attempts is None else f"{job.attempt}/{job.max_attempts}"


def letter_json(job: Job, *, whole: bool = False) -> dict[str, Any]:
    """A job for programs.

    Args:
        job: shown without what may be private, or long.
        whole: with arguments, options, traceback, metadata and worker.
    """
    hidden = _NEVER if whole else _NEVER | _ONLY_WHOLE
    told = {one.name: getattr(job, one.name) for one in fields(Job) if one.name not in hidden}
    if whole:
        told |= {"arguments": _arguments(job), "options": _decoded(job.options_json)}
    return {"job_id": job.id, **told}


def letter_lines(job: Job) -> Iterator[str]:
    """All that is known of a job, for people."""
    for label, value in _facts(job):
        if value is not None:
            yield f"{label:<{_LABEL_WIDTH}}{printable(str(value))}"
    yield from _block("Arguments", _pretty(_arguments(job)) or "They were not kept.")
    yield from _block("Options", _pretty(_decoded(job.options_json)))
    yield from _block("Traceback", job.traceback)
    yield from _block("Earlier runs", "\n".join(_runs(job)))


def _facts(job: Job) -> Iterator[tuple[str, object]]:
    yield "Job", job.id
    yield "Task", job.task
    yield "Status", job.status
    yield "Error", _explained(job.error)
    yield "Run it again", _outlook(job.error)
    yield "Attempts", attempts(job)
    yield "Workers lost", job.lost_deliveries or None
    yield "Submitted", moment(job.created_at)
    yield "Started", _optional(job.started_at)
    yield "Ended", _optional(job.completed_at)
    yield "Last attempt", None if job.run_seconds is None else duration(job.run_seconds)
    yield "Kept until", moment(job.expires_at)
    yield "Owner", job.owner
    yield "Queue", job.queue
    yield "Worker", job.worker
    yield "Batch", job.batch_id
    yield "Parent", job.parent_id
    yield "Group", job.group_id
    yield "Metadata", json.dumps(dict(job.metadata), ensure_ascii=False) if job.metadata else None


def _explained(error: JobError | None) -> str | None:
    return None if error is None else f"{error.code}: {error.message}"


def _optional(when: datetime | None) -> str | None:
    return None if when is None else moment(when)


def _outlook(error: JobError | None) -> str | None:
    if error is None:
        return None
    return "may end better" if error.retryable else "ends the same way"


def _runs(job: Job) -> Iterator[str]:
    for run in job.history:
        why = _explained(run.error)
        yield f"{moment(run.completed_at)}  {run.status} at attempt {run.attempts}" + (f"  {why}" if why else "")


def _block(title: str, text: str | None) -> Iterator[str]:
    if text:
        yield ""
        yield title
        yield from (f"  {line}".rstrip() for line in printable_lines(text.rstrip("\n")))


def _arguments(job: Job) -> dict[str, Any] | None:
    kept = _decoded(job.arguments_json)
    return kept and dict(zip(("args", "kwargs"), kept, strict=True))


def _decoded(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _pretty(value: Any) -> str | None:
    return None if value is None else json.dumps(value, indent=2, ensure_ascii=False)
