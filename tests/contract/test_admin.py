"""Admins see the jobs of everybody, and more of each; nobody else sees that, in whatever way it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from fastapi import FastAPI, Header
from openapi_schema_validator import validate as assert_valid
from openapi_spec_validator import validate

from aijobs.http import job_router
from aijobs.http.access import Action
from aijobs.job import Job
from aijobs.runtime import Runtime

from .conftest import Api, assert_problem, serving, whole
from .test_job import KEYS

ANN = {"X-User": "ann"}
BOB = {"X-User": "bob"}
ROOT = {"X-User": "root"}
#: Without an id of their own.
NOBODY = {"X-User": "", "X-Admin": "yes"}

LISTED = {"owner", "queue", "worker", "history"}
SINGLE = LISTED | {"arguments", "traceback"}


def caller(x_user: str = Header()) -> str:
    return x_user


def admin(x_user: str = Header(), x_admin: str = Header("")) -> object:
    """Something that is true for admins, as a role would be."""
    return x_admin or x_user.removeprefix("root") != x_user


@pytest.fixture(scope="module")
def router_app(celery_app: Celery) -> FastAPI:
    app = FastAPI()
    app.include_router(job_router(celery_app, owner=caller, admin=admin))
    return app


@pytest.fixture(scope="module")
def api(router_app: FastAPI, runtime: Runtime) -> Iterator[Api]:
    with serving(runtime, app=router_app) as api:
        yield api


@pytest.fixture
def failed(api: Api) -> str:
    """A job of ann that has failed twice."""
    claim = api.run(body={"texts": ["secret"], "limit": 2}, headers=ANN)
    api.fail(claim, "ValueError: first")
    assert api.client.post(f"/jobs/{claim.job_id}/retry", headers=ANN).status_code == 202
    api.fail(api.start(claim.job_id), "ValueError: second")
    return claim.job_id


def test_an_admin_sees_all_of_a_job(api: Api, failed: str) -> None:
    job = api.get(f"/{failed}", headers=ROOT).json()
    assert job.keys() == KEYS | SINGLE
    assert (job["owner"], job["queue"], job["worker"]) == ("ann", "celery", "test@host")
    assert job["arguments"] == {"args": [], "kwargs": {"texts": ["secret"], "limit": 2}}
    assert job["traceback"].startswith("Traceback")
    (run,) = job["history"]
    assert (run["status"], run["attempts"], run["error"]["message"]) == ("failed", 1, "ValueError: first")
    assert run["completed_at"].endswith("Z")


def test_others_see_what_they_always_see(api: Api, failed: str) -> None:
    response = api.get(f"/{failed}", headers=ANN)
    assert response.json().keys() == KEYS
    for hidden in ("secret", "Traceback", "test@host", '"ann"'):
        assert hidden not in response.text
    assert_problem(api.get(f"/{failed}", headers=BOB), 404, "job-not-found")


def test_a_copy_of_one_is_not_taken_for_a_copy_of_the_other(api: Api, failed: str) -> None:
    tags = {user["X-User"]: api.get(f"/{failed}", headers=user).headers["etag"] for user in (ANN, ROOT)}
    assert tags["ann"] != tags["root"]
    for user, other in ((ANN, "root"), (ROOT, "ann")):
        assert api.get(f"/{failed}", headers={**user, "If-None-Match": tags[other]}).status_code == 200
        own = tags[user["X-User"]]
        known = api.get(f"/{failed}", headers={**user, "If-None-Match": own})
        assert (known.status_code, known.headers["etag"]) == (304, own)
        assert known.headers["cache-control"] == "private, no-cache"


def test_arguments_that_no_json_can_hold(api: Api) -> None:
    plain = api.runtime.app.tasks["contract.plain"]
    sent = plain.apply_async(([float("nan"), "\ud800", {"deep": float("-inf")}],))
    job = api.get(f"/{sent.id}", headers=ROOT)
    assert job.json()["arguments"] == {"args": [[None, "?", {"deep": None}]], "kwargs": {}}
    assert job.json()["owner"] is None


def test_arguments_that_were_not_kept(api: Api) -> None:
    job_id = api.child("nobody")
    assert api.get(f"/{job_id}", headers=ROOT).json()["arguments"] is None


def test_what_an_admin_does_shows_the_same(api: Api) -> None:
    accepted = api.submit(headers=ROOT)
    assert accepted.status_code == 202
    job_id = accepted.json()["job_id"]
    assert accepted.json().keys() == KEYS | SINGLE | {"message", "status_url"}
    assert accepted.json()["owner"] == "root"
    cancelled = api.client.delete(f"/jobs/{job_id}", headers=ROOT)
    assert cancelled.json().keys() == KEYS | SINGLE
    assert api.client.post(f"/jobs/{job_id}/retry", headers=ROOT).json().keys() == KEYS | SINGLE


def test_an_admin_may_do_everything_with_the_jobs_of_others(api: Api) -> None:
    claim = api.run(headers=ANN)
    assert api.client.post(f"/jobs/{claim.job_id}/cancel", headers=ROOT).status_code == 202
    api.succeed(claim, [1])
    assert api.get(f"/{claim.job_id}/result", headers=ROOT).json() == [1]


def test_a_list_of_everybodys_jobs(api: Api, failed: str) -> None:
    others = api.queue(headers=BOB)
    page = api.get("?limit=100", headers=ROOT).json()["jobs"]
    assert {failed, others} <= {job["job_id"] for job in page}
    assert all(job.keys() == KEYS | LISTED for job in page)
    assert all(job.keys() == KEYS for job in api.get("", headers=ANN).json()["jobs"])


def test_a_list_of_one_owner(api: Api, failed: str) -> None:
    page = api.get("?owner=ann&limit=1", headers=ROOT).json()
    assert [job["job_id"] for job in page["jobs"]] == [failed]
    listed = api.get("?owner=ann&limit=100", headers=ROOT).json()["jobs"]
    assert {job["owner"] for job in listed} == {"ann"}
    assert api.get("?owner=who%00", headers=ROOT).json()["jobs"] == []
    assert_problem(api.get("?owner=", headers=ROOT), 422, "invalid-request")


@pytest.mark.parametrize("owner", ["ann", "bob", "nobody"])
def test_only_admins_choose_whose_jobs_they_list(api: Api, owner: str) -> None:
    refused = api.get(f"?owner={owner}", headers=ANN)
    assert_problem(refused, 403, "forbidden")
    assert owner not in refused.json()["detail"]


def test_a_cursor_is_not_good_for_another_owner(api: Api) -> None:
    for _ in range(2):
        api.queue(headers=ANN)
        api.queue(headers=BOB)
    cursor = api.get("?limit=1&owner=ann", headers=ROOT).json()["next_cursor"]
    assert_problem(api.get(f"?limit=1&owner=bob&cursor={cursor}", headers=ROOT), 400, "invalid-cursor")
    assert_problem(api.get(f"?limit=1&cursor={cursor}", headers=ROOT), 400, "invalid-cursor")
    assert_problem(api.get(f"?limit=1&cursor={cursor}", headers=BOB), 400, "invalid-cursor")


def test_streams_show_to_each_what_is_theirs(api: Api, failed: str) -> None:
    seen: dict[str, Any] = {}
    for user in (ANN, ROOT):
        with api.client.stream("GET", f"/jobs/{failed}/events", headers=user) as response:
            seen[user["X-User"]] = response.read().decode()
    assert "secret" not in seen["ann"]
    assert "Traceback" not in seen["ann"]
    assert seen["root"].count("secret") == seen["root"].count("Traceback") == 2
    assert [event.kind for event in whole_as(api, failed, ROOT)] == ["job.snapshot", "job.completed"]
    assert all(event.data["owner"] == "ann" for event in whole_as(api, failed, ROOT))


def whole_as(api: Api, job_id: str, user: dict[str, str]) -> Any:
    api.client.headers.update(user)
    try:
        return whole(api, job_id)
    finally:
        del api.client.headers["X-User"]


def test_counts_of_all(api: Api, failed: str) -> None:
    everybody, ann = (api.get("/stats", headers=user).json() for user in (ROOT, ANN))
    assert everybody["statuses"]["failed"] >= ann["statuses"]["failed"] >= 1
    assert everybody["statuses"]["queued"] > ann["statuses"]["queued"]
    assert isinstance(everybody["queues"], dict)
    assert ann["queues"] is None


def test_an_admin_needs_no_identity(api: Api, failed: str) -> None:
    assert api.get(f"/{failed}", headers=NOBODY).json()["owner"] == "ann"
    assert api.submit(headers=NOBODY).json()["owner"] is None
    assert_problem(api.get(f"/{failed}", headers={"X-User": ""}), 403, "forbidden")


def test_finer_rules_are_not_for_admins(celery_app: Celery, runtime: Runtime) -> None:
    def authorize(action: Action, owner: str | None, job: Job | None) -> bool:
        return False

    with serving(runtime, job_router(celery_app, owner=caller, authorize=authorize, admin=admin)) as api:
        assert_problem(api.submit(headers=ANN), 403, "forbidden")
        job_id = api.queue(headers=ROOT)
        assert api.client.delete(f"/jobs/{job_id}", headers=ROOT).status_code == 200


def test_without_owners_all_see_all_but_only_admins_more(celery_app: Celery, runtime: Runtime) -> None:
    with serving(runtime, job_router(celery_app, admin=admin)) as api:
        job_id = api.queue(headers=ANN)
        assert api.get(f"/{job_id}", headers=BOB).json().keys() == KEYS
        assert api.get(f"/{job_id}", headers=ROOT).json().keys() == KEYS | SINGLE
        assert_problem(api.get("?owner=ann", headers=BOB), 403, "forbidden")
        assert api.get("?owner=ann", headers=ROOT).status_code == 200


def test_what_admins_see_is_documented(api: Api, router_app: FastAPI, failed: str) -> None:
    document = router_app.openapi()
    validate(document)
    shapes = document["components"]["schemas"]
    assert shapes["AdminJobDocument"]["properties"].keys() == KEYS | SINGLE
    assert set(shapes["AdminJobDocument"]["required"]) == KEYS
    assert set(shapes["AdminEmbedJob"]["required"]) == KEYS | {"message", "status_url"}
    assert "JobDocument" not in shapes

    def check(name: str, value: Any) -> None:
        assert_valid(value, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})

    for user in (ANN, ROOT):
        check("AdminJobDocument", api.get(f"/{failed}", headers=user).json())
        check("AdminJobPage", api.get("", headers=user).json())
        check("AdminEmbedJob", api.submit(headers=user).json())
    check("AdminJobPage", api.get("/dead", headers=ROOT).json())
    check("RetryReport", api.client.post("/jobs/dead/retry", json={"dry_run": True}, headers=ROOT).json())
    check("PurgeReport", api.client.delete("/jobs/dead?dry_run=true", headers=ROOT).json())


def test_without_admins_nothing_of_it_is_documented(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app, owner=caller))
    shapes = app.openapi()["components"]["schemas"]
    assert shapes["JobDocument"]["properties"].keys() == KEYS
    assert not [name for name in shapes if "Admin" in name]
