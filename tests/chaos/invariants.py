"""What must hold for every single job, whatever happened: told from its record, its events, and where it ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aijobs import ErrorCode, EventType, Job, JobEvent, JobStatus
from aijobs.job import TRANSITIONS
from tests.chaos.evidence import Run
from tests.chaos.ledger import Cancel, Entry

MAX_DELIVERIES = 3


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that is known of a job after the end."""

    entry: Entry
    #: Whether the job must exist.
    expected: bool
    job: Job | None
    events: Sequence[JobEvent]
    #: The claims whose start the store accepted; the last one first.
    claims: Sequence[str]
    runs: Sequence[Run]
    #: The record when its end was first seen.
    first_end: Job | None
    cancel: Cancel | None
    #: Troubles that came while the job was there, as far as they can cut a run short uncounted.
    troubles: int


Invariant = Callable[[Dossier], Iterator[str]]


def violations(dossier: Dossier) -> Iterator[str]:
    """What is wrong with a job; each a line."""
    if dossier.job is None:
        if dossier.expected:
            yield "was accepted, but there is no record of it"
        if dossier.runs:
            yield f"ran {len(dossier.runs)} times, but there is no record of it"
        return
    for invariant in _INVARIANTS:
        # What follows from it would only hide the others.
        yield from islice(invariant(dossier), 1)


def _has_ended(dossier: Dossier) -> Iterator[str]:
    job = _job(dossier)
    if not job.finished:
        yield f"has not ended: it is {job.status}, attempt {job.attempt}, rev {job.rev}, {job.error}"


def _has_one_end(dossier: Dossier) -> Iterator[str]:
    ends = [event for event in dossier.events if event.type is EventType.COMPLETED]
    if _job(dossier).finished and (len(ends) != 1 or dossier.events[-1] is not ends[0]):
        yield f"has {len(ends)} ends among its events, or events after its end: {_story(dossier.events)}"


def _end_stays(dossier: Dossier) -> Iterator[str]:
    first, job = dossier.first_end, _job(dossier)
    if first is not None and first != job:
        changed = [name for name in Job.__slots__ if getattr(first, name) != getattr(job, name)]
        yield f"changed after its end, in {', '.join(changed)}: {_story(dossier.events)}"


def _events_are_whole(dossier: Dossier) -> Iterator[str]:
    numbers = [event.seq for event in dossier.events]
    if numbers != list(range(1, _job(dossier).seq + 1)):
        yield f"has gaps in its events: {numbers}"


def _statuses_follow(dossier: Dossier) -> Iterator[str]:
    status, attempt = None, 0
    for event in dossier.events:
        if "status" not in event.data:
            continue
        then, number = JobStatus(event.data["status"]), event.data["attempt"]
        # A job that runs may be taken over by a new attempt, or be asked to stop.
        stays = status is then is JobStatus.RUNNING
        allowed = status is None or stays or then in TRANSITIONS[status]
        # An attempt that was returned to the queue does not count.
        numbers = (attempt + _begins(event), attempt - (then is JobStatus.QUEUED))
        if not allowed or number not in numbers:
            yield f"went from {status}, attempt {attempt}, to {then}, attempt {number}: {_story(dossier.events)}"
        status, attempt = then, number


def _one_writes_at_a_time(dossier: Dossier) -> Iterator[str]:
    """Progress carries in its message who wrote it: within an attempt always the same, and never one of before."""
    writer, past = "", set()
    for event in dossier.events:
        if event.type is EventType.PROGRESS:
            author = event.data["progress_detail"]["message"]
            if author in past or writer not in ("", author):
                yield f"has progress of {author} while {writer} has the job: {_story(dossier.events)}"
            writer = author
        elif _begins(event):
            past.add(writer)
            writer = ""


def _only_accepted_attempts_ran(dossier: Dossier) -> Iterator[str]:
    for run in dossier.runs:
        if run.token not in dossier.claims:
            yield f"ran under the claim {run.token} on {run.worker}, which the store had not accepted"
    if len({run.token for run in dossier.runs}) != len(dossier.runs):
        yield "ran twice under one claim"


def _result_is_right(dossier: Dossier) -> Iterator[str]:
    job, value = _job(dossier), dossier.entry.kind.value
    if job.status is not JobStatus.SUCCESS or value is None:
        return
    given = json.loads(job.result_json or "null")
    wanted = {"value": value(dossier.entry.arguments), "token": dossier.claims[0]}
    if given != wanted:
        yield f"has the result {given}, not {wanted}"


def _end_is_right(dossier: Dossier) -> Iterator[str]:
    job, cancel = _job(dossier), dossier.cancel
    if not job.finished:
        return
    code = job.error.code if job.error else None
    if _is_due_end(dossier, job.status, code):
        return
    if cancel is not None and cancel.accepted is not False and code is ErrorCode.CANCELLED:
        return
    if not dossier.entry.accepted and code is ErrorCode.PUBLISH_FAILED:
        return
    # A run is lost with its process, or with a worker that was frozen for too long while the process went on.
    if code is ErrorCode.POISON and len(dossier.runs) >= MAX_DELIVERIES:
        return
    yield f"ended as {job.status} ({job.error}), after {len(dossier.runs)} runs: {_story(dossier.events)}"


def _poison_is_contained(dossier: Dossier) -> Iterator[str]:
    most = MAX_DELIVERIES + dossier.troubles
    if dossier.entry.order.kind == "poison" and len(dossier.runs) > most:
        yield f"is poison, and ran {len(dossier.runs)} times, not at most {most}"


def _revoked_stays_revoked(dossier: Dossier) -> Iterator[str]:
    if _revoked_at(dossier) is not None and _job(dossier).status is not JobStatus.REVOKED:
        yield f"was reported revoked, and ended as {_job(dossier).status}: {_story(dossier.events)}"


def _revoked_does_not_run(dossier: Dossier) -> Iterator[str]:
    revoked = _revoked_at(dossier)
    for run in dossier.runs:
        if revoked is not None and run.begin > revoked:
            yield f"was reported revoked, and began {run.begin - revoked:.3f} seconds later on {run.worker}"


_INVARIANTS: Sequence[Invariant] = (
    _has_ended,
    _has_one_end,
    _end_stays,
    _events_are_whole,
    _statuses_follow,
    _one_writes_at_a_time,
    _only_accepted_attempts_ran,
    _result_is_right,
    _end_is_right,
    _poison_is_contained,
    _revoked_stays_revoked,
    _revoked_does_not_run,
)


def _job(dossier: Dossier) -> Job:
    assert dossier.job is not None
    return dossier.job


def _revoked_at(dossier: Dossier) -> float | None:
    """When somebody was told that the job is revoked; None when nobody was."""
    cancel = dossier.cancel
    return cancel.answered if cancel and cancel.accepted and cancel.status is JobStatus.REVOKED else None


def _begins(event: JobEvent) -> bool:
    """Whether a new attempt has the job from here on."""
    return event.data.get("status") == JobStatus.RUNNING and not event.data.get("cancel_requested")


def _is_due_end(dossier: Dossier, status: JobStatus, code: ErrorCode | None) -> bool:
    """Whether this is how such a job ends when it is left to itself."""
    codes = {"poison": ErrorCode.POISON, "broken": ErrorCode.EXCEPTION}
    return status is dossier.entry.kind.status and code is codes.get(dossier.entry.order.kind)


def _story(events: Sequence[JobEvent]) -> str:
    return " → ".join(f"{event.seq} {event.type} {_brief(event.data)}" for event in events[-12:])


def _brief(data: Mapping[str, Any]) -> str:
    told = {name: value for name, value in data.items() if name != "progress_detail"}
    if "progress_detail" in data:
        told["by"] = data["progress_detail"]["message"]
    return json.dumps(told)
