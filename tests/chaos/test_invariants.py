"""A check that sees nothing is worse than none: each invariant is given a story that violates it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aijobs import ErrorCode, EventType, Job, JobError, JobEvent, JobStatus
from tests.chaos.evidence import Run
from tests.chaos.invariants import Dossier, violations
from tests.chaos.ledger import Cancel, Entry
from tests.chaos.plan import Order, Way

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def story(*told: tuple[str, dict[str, Any]]) -> Sequence[JobEvent]:
    return [JobEvent(seq, EventType(f"job.{kind}"), data) for seq, (kind, data) in enumerate(told, 1)]


def status(name: str, attempt: int) -> tuple[str, dict[str, Any]]:
    return "status", {"status": name, "attempt": attempt}


def progress(author: str) -> tuple[str, dict[str, Any]]:
    return "progress", {"progress_detail": {"message": author}}


def completed(name: str, attempt: int) -> tuple[str, dict[str, Any]]:
    return "completed", {"status": name, "attempt": attempt}


TAKEN_OVER = (
    status("queued", 0),
    status("running", 1),
    progress("one"),
    ("attempt", {"attempt": 2}),
    status("running", 2),
    progress("two"),
    completed("success", 2),
)


def dossier(*events: tuple[str, dict[str, Any]], **changes: Any) -> Dossier:
    """A job that was taken over by a second attempt and ended well; or what the events say."""
    told = story(*(events or TAKEN_OVER))
    result = json.dumps({"value": 4, "token": "two"})
    job = Job("j", "work", JobStatus.SUCCESS, 7, len(told), NOW, NOW, attempt=2, result_json=result)
    job = changes.pop("job", job)
    order = Order(1, 0, changes.pop("kind", "work"), (4, 0.1), Way.SUBMIT, None, None)
    runs = [Run("j", "one", "w1", 1, None, 2), Run("j", "two", "w2", 8, 9, 9)]
    known: dict[str, Any] = {
        "entry": Entry("j", order, order.arguments, accepted=True),
        "expected": True,
        "job": job,
        "events": told,
        "claims": ["two", "one"],
        "runs": runs,
        "first_end": job,
        "cancel": None,
        "troubles": 0,
    }
    return Dossier(**known | changes)


def failed(code: ErrorCode) -> Job:
    error = JobError(code, "", code.retryable, 2)
    return Job("j", "work", JobStatus.FAILED, 7, len(TAKEN_OVER), NOW, NOW, attempt=2, error=error)


def lost(count: int) -> list[Run]:
    return [Run("j", claim, "w1", 1, None, 2) for claim in ("one", "two", "three", "four")[:count]]


def test_good_stories_are_believed() -> None:
    assert list(violations(dossier())) == []
    assert list(violations(dossier(job=None, expected=False, runs=[]))) == []
    unsure = replace(dossier().entry, accepted=False)
    poisoned = dossier(job=failed(ErrorCode.POISON), runs=lost(3), claims=["three", "two", "one"])
    for allowed in (
        dossier(job=failed(ErrorCode.PUBLISH_FAILED), entry=unsure),
        poisoned,
        dossier(job=failed(ErrorCode.CANCELLED), cancel=Cancel("j", None, None, 5)),
    ):
        assert list(violations(allowed)) == []


END = completed("success", 2)
BAD = {
    "no record": (dossier(job=None), "no record"),
    "ran without a record": (dossier(job=None, expected=False), "no record"),
    "two ends": (dossier(*TAKEN_OVER, END), "2 ends"),
    "events after the end": (dossier(*TAKEN_OVER, progress("two")), "events after"),
    "changed after the end": (dossier(first_end=replace(failed(ErrorCode.EXCEPTION), rev=6)), "changed after its end"),
    "a gap": (dossier(events=story(*TAKEN_OVER)[:3] + story(*TAKEN_OVER)[4:]), "gaps"),  # type: ignore[operator]
    "an attempt left out": (dossier(status("queued", 0), status("running", 2), END), "went from"),
    "a finished job that runs": (dossier(status("queued", 0), END, status("running", 1)), "went from"),
    "an old attempt writes": (dossier(*TAKEN_OVER[:-1], progress("one"), END), "while two has the job"),
    "two write at once": (dossier(*TAKEN_OVER[:3], progress("two"), END), "while one has the job"),
    "ran unaccepted": (dossier(claims=["two"]), "had not accepted"),
    "ran twice": (dossier(runs=[*dossier().runs, dossier().runs[1]]), "ran twice"),
    "another's result": (dossier(claims=["one", "two"]), "has the result"),
    "a wrong result": (dossier(job=replace(dossier().job or failed(ErrorCode.POISON), result_json="3")), "the result"),
    "a failure of its own": (dossier(job=failed(ErrorCode.WORKER_LOST)), "ended as failed"),
    "poison without reason": (dossier(job=failed(ErrorCode.POISON)), "ended as failed"),
    "poison that goes on": (dossier(kind="poison", runs=lost(4), claims=[run.token for run in lost(4)]), "is poison"),
    "revoked, but not": (dossier(cancel=Cancel("j", True, JobStatus.REVOKED, 8.5)), "ended as success"),
    "revoked, but ran": (dossier(cancel=Cancel("j", True, JobStatus.REVOKED, 7.0)), "and began 1.000 seconds later"),
    "no end": (dossier(job=replace(failed(ErrorCode.POISON), status=JobStatus.RUNNING)), "has not ended"),
}


@pytest.mark.parametrize(("bad", "told"), BAD.values(), ids=BAD)
def test_bad_stories_are_not(bad: Dossier, told: str) -> None:
    assert any(told in violation for violation in violations(bad)), list(violations(bad))
