"""The values of the record and the table of changes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import pytest

from aijobs import ErrorCode, Job, JobError, JobStatus, Progress
from aijobs.job import FINISHED, TRANSITIONS

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def job(status: JobStatus = JobStatus.QUEUED, result_json: str | None = None) -> Job:
    return Job("1", "embed", status, rev=1, seq=1, created_at=NOW, expires_at=NOW, result_json=result_json)


def test_the_statuses_are_a_closed_set() -> None:
    assert [str(status) for status in JobStatus] == ["queued", "running", "success", "failed", "revoked"]


def test_what_is_finished_has_nowhere_to_go() -> None:
    assert TRANSITIONS.keys() == set(JobStatus)
    for status in JobStatus:
        assert status.finished == (status in FINISHED) == (not TRANSITIONS[status])
        assert job(status).finished == status.finished


def test_every_status_can_be_reached_and_every_end_from_running() -> None:
    assert set().union(*TRANSITIONS.values()) == set(JobStatus)
    assert TRANSITIONS[JobStatus.RUNNING] == {JobStatus.QUEUED, *FINISHED}


def test_success_needs_a_run() -> None:
    assert JobStatus.SUCCESS not in TRANSITIONS[JobStatus.QUEUED]


def test_running_again_does_not_mend_what_was_refused() -> None:
    fatal = {code for code in ErrorCode if not code.retryable}
    assert fatal == {"poison", "rejected", "invalid_result", "cancelled"}


def test_values_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        job().status = JobStatus.RUNNING  # type: ignore[misc]


@pytest.mark.parametrize(("text", "value"), [(None, None), ("null", None), ('{"n": [1]}', {"n": [1]})])
def test_the_result_is_decoded(text: str | None, value: object) -> None:
    assert job(result_json=text).result == value


def test_values_show_all_their_fields() -> None:
    assert Progress(current=1, unit="pages").to_dict() == {
        "current": 1,
        "total": None,
        "unit": "pages",
        "step": None,
        "message": None,
        "rate": None,
        "eta_seconds": None,
    }
    assert JobError(ErrorCode.EXPIRED, "late", retryable=True, attempt=0).to_dict() == {
        "code": "expired",
        "message": "late",
        "retryable": True,
        "attempt": 0,
    }
