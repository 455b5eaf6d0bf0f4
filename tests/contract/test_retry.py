"""A failed or revoked job is run again: the same id, a new run, once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI, Header

from aijobs import setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.http.access import Action
from aijobs.job import Job
from aijobs.runtime import Runtime
from aijobs.store.values import Claim, NewJob
from tests.helpers import wait_until

from .conftest import Api, assert_problem, make_celery, serving, whole

ANN = {"X-User": "ann"}
BOB = {"X-User": "bob"}


def retry(api: Api, job_id: str, **options: Any) -> httpx.Response:
    return api.client.post(f"/jobs/{job_id}/retry", **options)


def failed(api: Api, **options: Any) -> str:
    claim = api.run(**options)
    api.fail(claim)
    return claim.job_id


def test_a_failed_job_runs_again(api: Api) -> None:
    job_id = failed(api)
    response = retry(api, job_id)
    assert response.status_code == 202
    job = response.json()
    assert (job["job_id"], job["status"], job["attempt"], job["error"]) == (job_id, "queued", 0, None)
    assert response.headers["location"] == job["urls"]["self"] == f"/jobs/{job_id}"
    assert int(response.headers["retry-after"]) >= 1
    assert api.get(f"/{job_id}").headers["etag"].startswith('"')
    claim = api.start(job_id)
    api.succeed(claim, {"texts": 1})
    assert api.get(f"/{job_id}").json()["result"] == {"texts": 1}
    assert [run.status for run in api.job(job_id).history] == ["failed"]


def test_it_has_the_arguments_of_the_first_run(api: Api) -> None:
    claim = api.run(body={"texts": ["ü", "b"], "limit": 3})
    before = api.job(claim.job_id).arguments_json
    api.fail(claim)
    assert retry(api, claim.job_id).status_code == 202
    assert api.job(claim.job_id).arguments_json == before


def test_a_revoked_job_runs_again(api: Api) -> None:
    job_id = api.queue()
    api.client.delete(f"/jobs/{job_id}")
    job = retry(api, job_id).json()
    assert (job["status"], job["cancel_requested_at"]) == ("queued", None)


def test_a_stream_goes_on_with_the_new_run(api: Api) -> None:
    job_id = failed(api)
    end = api.job(job_id).seq
    assert retry(api, job_id).status_code == 202
    api.succeed(api.start(job_id))
    events = whole(api, job_id, end)
    assert [event.id for event in events] == [end + 1 + place for place in range(len(events))]
    assert [event.data["status"] for event in events if "status" in event.data] == ["queued", "running", "success"]


@pytest.mark.parametrize("running", [False, True])
def test_a_job_that_has_not_finished(api: Api, running: bool) -> None:
    job_id = api.run().job_id if running else api.queue()
    response = retry(api, job_id)
    members = assert_problem(response, 409, "job-not-finished")
    assert members["job_status"] == ("running" if running else "queued")
    assert int(response.headers["retry-after"]) >= 1


def test_a_job_that_succeeded(api: Api) -> None:
    claim = api.run()
    api.succeed(claim, 1)
    members = assert_problem(retry(api, claim.job_id), 409, "job-not-retryable")
    assert members["job_status"] == "success"
    assert api.get(f"/{claim.job_id}").json()["result"] == 1


def test_a_job_whose_parent_was_cancelled_with_its_children(api: Api) -> None:
    parent = api.run()
    child = api.child(parent.job_id)
    api.client.delete(f"/jobs/{parent.job_id}?children=true")
    assert_problem(retry(api, child), 410, "arguments-gone")
    plain = api.runtime.app.tasks["contract.plain"]
    other = plain.apply_async((1,), parent_id=parent.job_id).id
    members = assert_problem(retry(api, other), 409, "job-not-retryable")
    assert "cancelled" in members["detail"]
    assert other not in members["detail"]


def test_a_job_whose_arguments_were_not_kept(api: Api) -> None:
    new = NewJob(uuid.uuid4().hex, "contract.plain")
    store = api.runtime.store
    store.run(store.create(new))
    api.fail(Claim(new.id))
    assert_problem(retry(api, new.id), 410, "arguments-gone")
    assert api.job(new.id).status == "failed"


@pytest.mark.parametrize("job_id", ["unknown", "%00", "x" * 300, "%F0%9F%98%80", "dead"])
def test_ids_that_are_unknown(api: Api, job_id: str) -> None:
    assert_problem(retry(api, job_id), 404, "job-not-found")


def test_a_body_is_not_looked_at(api: Api) -> None:
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        response = api.client.post(f"/jobs/{failed(api)}/retry", content=content, headers={"Content-Type": "text/x"})
        assert response.status_code == 202


@pytest.mark.anyio
async def test_who_clicks_twice_begins_one_run(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        for _ in range(10):
            job_id = failed(api)
            replies = await asyncio.gather(*(client.post(f"/jobs/{job_id}/retry") for _ in range(5)))
            assert {reply.status_code for reply in replies} <= {202, 409}
            assert 202 in {reply.status_code for reply in replies}
            assert len(api.job(job_id).history) == 1
            queued = api.command("LRANGE", "celery\x06\x163", 0, -1)
            assert sum(job_id.encode() in message for message in queued) == 2


def test_the_broker_is_away(server: EmbeddedServer, databases: Iterator[int]) -> None:
    app = make_celery(server.url.removesuffix("0") + str(next(databases)), "redis://127.0.0.1:1/0")
    with serving(setup(app), job_router(app)) as api:
        new = NewJob(uuid.uuid4().hex, "contract.plain", arguments_json="[[1], {}]")
        store = api.runtime.store
        store.run(store.create(new))
        api.fail(Claim(new.id))
        assert_problem(retry(api, new.id), 503, "publish-failed")

        def given_up() -> bool:
            job = api.job(new.id)
            return job.status == "failed" and job.error is not None and job.error.code == "publish_failed"

        wait_until(given_up, "the end of the run that could not be sent")


@pytest.fixture(scope="module")
def guarded(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    async def caller(x_user: str = Header()) -> str:
        return x_user

    async def authorize(action: Action, owner: str | None, job: Job | None) -> bool:
        return action != "retry" or owner != "reader"

    with serving(runtime, job_router(celery_app, owner=caller, authorize=authorize)) as api:
        yield api


def test_another_owners_job_is_unknown(guarded: Api) -> None:
    job_id = failed(guarded, headers=ANN)
    assert_problem(retry(guarded, job_id, headers=BOB), 404, "job-not-found")
    assert guarded.job(job_id).status == "failed"
    assert retry(guarded, job_id, headers=ANN).status_code == 202
    assert guarded.job(job_id).owner == "ann"


def test_a_retry_may_be_denied(guarded: Api) -> None:
    reader = {"X-User": "reader"}
    job_id = failed(guarded, headers=reader)
    assert_problem(retry(guarded, job_id, headers=reader), 403, "forbidden")
    assert guarded.job(job_id).status == "failed"


def test_it_is_documented(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app))
    operation = app.openapi()["paths"]["/jobs/{job_id}/retry"]["post"]
    assert operation["operationId"] == "jobs_retry"
    assert operation["responses"].keys() == {"202", "403", "404", "409", "410", "503", "default"}
    assert operation["responses"]["202"]["headers"].keys() == {"ETag", "Retry-After", "Location"}
