"""The contract's tables as tests: what each route answers, the closed sets, the headers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from aijobs import Settings, setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import StreamLimits, health, job_router, router, waiting
from aijobs.http.render import retry_after
from aijobs.job import ErrorCode, Job, JobStatus

from .conftest import Api, make_celery, serving

#: What each operation answers, beside 403 where something is denied, and 503.
ROWS: dict[str, set[int]] = {
    "POST /embed": {200, 202, 400, 409, 413, 415, 422},
    "GET /": {200, 400, 422},
    "GET /stats": {200},
    "GET /health": {200},
    "GET /{job_id}": {200, 304, 404},
    "GET /{job_id}/output": {200, 304, 404},
    "GET /{job_id}/result": {200, 304, 404, 409, 410},
    "GET /{job_id}/events": {200, 204, 400, 404},
    "DELETE /{job_id}": {200, 202, 404, 409, 422},
    "POST /{job_id}/cancel": {200, 202, 404, 409, 422},
    "POST /{job_id}/retry": {202, 404, 409, 410},
    "POST /batches": {202, 400, 413, 415, 422},
    "GET /batches/{batch_id}": {200, 304, 404},
    "GET /batches/{batch_id}/events": {200, 204, 400, 404},
    "DELETE /batches/{batch_id}": {200, 202, 404},
    "POST /batches/{batch_id}/cancel": {200, 202, 404},
    "GET /dead": {200, 400, 422},
    "POST /dead/retry": {200, 400, 413, 415, 422},
    "DELETE /dead": {200, 400, 422},
}

JOB_KEYS = {
    *("job_id", "task", "batch_id", "metadata", "rev", "status", "progress", "progress_detail", "queue_position"),
    *("attempt", "max_attempts", "result", "error", "created_at", "scheduled_at", "started_at", "completed_at"),
    *("cancel_requested_at", "expires_at", "metrics", "urls"),
}

STATUS_SYNONYMS = {
    "pending": JobStatus.QUEUED,
    "processing": JobStatus.RUNNING,
    "started": JobStatus.RUNNING,
    "completed": JobStatus.SUCCESS,
    "succeeded": JobStatus.SUCCESS,
    "failure": JobStatus.FAILED,
    "cancelled": JobStatus.REVOKED,
    "canceled": JobStatus.REVOKED,
}


@pytest.fixture(scope="module")
def document(celery_app: Celery) -> dict[str, Any]:
    """Of an API that has admins."""
    app = FastAPI()
    app.include_router(job_router(celery_app, admin=lambda: True))
    return app.openapi()


@pytest.fixture(scope="module")
def jobs(api: Api) -> dict[JobStatus, str]:
    """The id of a job in each status."""
    succeeded, failed, revoked = api.run(), api.run(), api.queue()
    api.succeed(succeeded, {"texts": 1})
    api.fail(failed)
    api.client.delete(f"/jobs/{revoked}")
    return {
        JobStatus.QUEUED: api.queue(),
        JobStatus.RUNNING: api.run().job_id,
        JobStatus.SUCCESS: succeeded.job_id,
        JobStatus.FAILED: failed.job_id,
        JobStatus.REVOKED: revoked,
    }


@pytest.mark.parametrize("row", ROWS)
def test_a_route_answers_what_its_row_says(document: dict[str, Any], row: str) -> None:
    method, _, path = row.partition(" ")
    operation = document["paths"][f"/jobs{path}".rstrip("/")][method.lower()]
    documented = {int(status) for status in operation["responses"] if status != "default"}
    assert documented - {403, 503} == ROWS[row]
    assert 503 in documented


def test_each_route_has_a_row(document: dict[str, Any]) -> None:
    submissions = {"POST /anything", "POST /nightly", "POST /summarise"}
    found = {f"{method.upper()} {path[5:] or '/'}" for path, one in document["paths"].items() for method in one}
    assert found - submissions == ROWS.keys()


@pytest.mark.parametrize("status", JobStatus)
def test_a_job_has_the_same_keys_in_each_status(api: Api, jobs: dict[JobStatus, str], status: JobStatus) -> None:
    response = api.get(f"/{jobs[status]}")
    job = response.json()
    assert (job.keys(), job["status"]) == (JOB_KEYS, status)
    assert ("retry-after" in response.headers) is (status in (JobStatus.QUEUED, JobStatus.RUNNING))
    assert response.headers["etag"]
    assert response.headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("request_line", "answers"),
    [
        ("DELETE /{}", {"queued": 200, "running": 202, "success": 409, "failed": 409, "revoked": 200}),
        ("POST /{}/cancel", {"queued": 200, "running": 202, "success": 409, "failed": 409, "revoked": 200}),
        ("POST /{}/retry", {"queued": 409, "running": 409, "success": 409, "failed": 202, "revoked": 202}),
        ("GET /{}/result", {"queued": 409, "running": 409, "success": 200, "failed": 409, "revoked": 409}),
        ("GET /{}/output", dict.fromkeys(JobStatus, 200)),
        ("GET /{}", dict.fromkeys(JobStatus, 200)),
        ("HEAD /{}", dict.fromkeys(JobStatus, 200)),
    ],
)
def test_what_may_be_done_in_which_status(api: Api, request_line: str, answers: dict[str, int]) -> None:
    method, _, path = request_line.partition(" ")
    for status, expected in answers.items():
        job_id = jobs_anew(api, JobStatus(status))
        response = api.client.request(method, f"/jobs{path.format(job_id)}")
        assert response.status_code == expected, (status, response.text)
        unknown = api.client.request(method, f"/jobs{path.format('no-such-job')}")
        assert unknown.status_code == 404


def jobs_anew(api: Api, status: JobStatus) -> str:
    """The id of a new job that has got so far."""
    job_id = api.queue()
    if status is JobStatus.REVOKED:
        api.client.delete(f"/jobs/{job_id}")
    elif status is not JobStatus.QUEUED:
        claim = api.start(job_id)
        if status is JobStatus.SUCCESS:
            api.succeed(claim)
        elif status is JobStatus.FAILED:
            api.fail(claim)
    return job_id


def test_sets_are_closed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["JobStatus"]["enum"] == ["queued", "running", "success", "failed", "revoked"]
    reasons = "exception rate_limited time_limit worker_lost poison rejected expired cancelled"
    codes = f"{reasons} publish_failed invalid_result"
    assert set(schemas["ErrorCode"]["enum"]) == {code.value for code in ErrorCode} == set(codes.split())


def test_numbers_are_those_of_the_contract() -> None:
    defaults = Settings()
    assert (defaults.inline_result_bytes, defaults.file_bytes, defaults.upload_files) == (65_536, 52_428_800, 10)
    limits = StreamLimits()
    assert (limits.ping_seconds, limits.send_seconds, limits.lifetime_seconds, limits.retry_seconds) == (15, 10, 600, 2)
    assert (waiting.LONGEST_SECONDS, router.MAX_BATCH_ITEMS, health.ANSWER_SECONDS) == (30, 1_000, 0.5)


@pytest.mark.parametrize("word", STATUS_SYNONYMS)
def test_other_words_for_a_status(api: Api, jobs: dict[JobStatus, str], word: str) -> None:
    listed = api.get("", params={"status": word, "limit": 100}).json()["jobs"]
    assert {job["status"] for job in listed} == {STATUS_SYNONYMS[word].value}
    assert jobs[STATUS_SYNONYMS[word]] in [job["job_id"] for job in listed]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_page_is_no_longer_than_asked_for(api: Api, jobs: dict[JobStatus, str], limit: int) -> None:
    assert 1 <= len(api.get("", params={"limit": limit}).json()["jobs"]) <= limit


def test_head_is_get_without_a_body(api: Api, jobs: dict[JobStatus, str], document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        if "get" not in methods or "/dead" in path or "{batch_id}" in path:
            continue
        url = path.format(job_id=jobs[JobStatus.SUCCESS])
        if path.endswith("/events"):
            assert_problem_without_body(api.client.head(url), 405)
            continue
        got, head = api.client.get(url), api.client.head(url)
        assert (head.status_code, head.content) == (got.status_code, b""), url
        assert without_date(head.headers) == without_date(got.headers), url


def without_date(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "date"}


def assert_problem_without_body(response: httpx.Response, status: int) -> None:
    assert (response.status_code, response.content) == (status, b"")
    assert response.headers["content-type"] == "application/problem+json"


def test_a_key_is_kept_for_a_day_at_least(server: EmbeddedServer, databases: Iterator[int]) -> None:
    app = make_celery(server.url.removesuffix("0") + str(next(databases)))
    runtime = setup(app)
    runtime.settings = runtime.settings.model_copy(update={"active_retention_seconds": 60.0})
    with serving(runtime, job_router(app)) as api:
        api.queue(headers={"Idempotency-Key": "kept"})
        (key,) = api.command("KEYS", "*:idem:*")
        assert api.command("TTL", key) > 86_000


@settings(deadline=None)
@given(
    seconds=st.floats(0, 100_000),
    progress=st.none() | st.floats(0, 1),
    job_id=st.uuids().map(str),
    position=st.integers(1, 1_000),
)
def test_when_to_ask_again(seconds: float, progress: float | None, job_id: str, position: int) -> None:
    began = datetime.now(UTC)
    since = began - timedelta(seconds=seconds)
    queued = new_job(id=job_id, created_at=since, queue_position=position)
    running = replace(queued, status=JobStatus.RUNNING, started_at=since, progress=progress)
    told = retry_after(queued), retry_after(running)
    later = seconds + (datetime.now(UTC) - began).total_seconds()
    assert hint(max(seconds, position) / 2, 0.8, 30) <= told[0] <= hint(max(later, position) / 2, 1.2, 30)
    share = (1 - progress) / progress / 4 if progress is not None and progress > 0.05 else 0.1
    assert hint(seconds * share, 0.8, 15) <= told[1] <= hint(later * share, 1.2, 15)


def hint(seconds: float, spread: float, most: int) -> int:
    return max(1, min(most, math.ceil(seconds * spread)))


def new_job(**known: Any) -> Job:
    now = datetime.now(UTC)
    return Job(**{"task": "t", "status": JobStatus.QUEUED, "rev": 1, "seq": 1, "expires_at": now, **known})


def test_what_is_answered_is_json_that_any_reader_takes(api: Api, jobs: dict[JobStatus, str]) -> None:
    for path in ("", "/stats", "/health", f"/{jobs[JobStatus.FAILED]}", "/no-such-job"):
        response = api.get(path)
        assert json.loads(response.content.decode("ascii" if response.content.isascii() else "utf-8")) is not None
        assert int(response.headers["content-length"]) == len(response.content)
