"""Callers see jobs of their own, and another's job is like none at all."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from pydantic import SecretStr

from aijobs import ProgressTask, Settings, UploadedFile, setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.http.access import Action
from aijobs.http.envelope import FIELDS
from aijobs.job import Job
from aijobs.runtime import Runtime

from .conftest import Api, TaskDecorator, assert_problem, make_celery, serving

ANN = {"X-User": "ann"}
BOB = {"X-User": "bob"}


async def authenticate(x_user: str | None = Header(None)) -> str:
    if x_user is None:
        raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Bearer"})
    return x_user


def identity(user: str = Depends(authenticate)) -> str | None:
    return None if user == "nobody" else user


@pytest.fixture(scope="module")
def api(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    router = job_router(celery_app, dependencies=[Depends(authenticate)], owner=identity)
    with serving(runtime, router) as api:
        yield api


def test_a_submission_belongs_to_the_caller(api: Api) -> None:
    job_id = api.queue(headers=ANN)
    assert api.job(job_id).owner == "ann"
    assert "ann" not in api.get(f"/{job_id}", headers=ANN).text


def test_another_owners_job_is_unknown(api: Api) -> None:
    claim = api.run(headers=ANN)
    paths = [*(("GET", path) for path in ("", "/result", "/output", "/events")), ("DELETE", ""), ("POST", "/cancel")]
    for method, path in paths:
        foreign = api.client.request(method, f"/jobs/{claim.job_id}{path}", headers=BOB)
        unknown = api.client.request(method, f"/jobs/{uuid.uuid4()}{path}", headers=BOB)
        assert_problem(foreign, 404, "job-not-found")
        assert foreign.content == unknown.content
        assert sorted(foreign.headers) == sorted(unknown.headers)
    assert api.job(claim.job_id).cancel_requested_at is None
    assert api.get(f"/{claim.job_id}", headers=ANN).status_code == 200


def test_a_job_without_owner_is_nobodys(api: Api) -> None:
    sent = api.runtime.app.tasks["contract.plain"].apply_async((1,))
    assert_problem(api.get(f"/{sent.id}", headers=ANN), 404, "job-not-found")


def test_lists_and_counts_are_the_callers(api: Api) -> None:
    mine, others = api.queue(headers={"X-User": "cleo"}), api.queue(headers=BOB)
    listed = api.get("", headers={"X-User": "cleo"})
    assert [job["job_id"] for job in listed.json()["jobs"]] == [mine]
    assert others not in listed.text
    stats = api.get("/stats", headers={"X-User": "cleo"}).json()
    assert stats["statuses"] == {"queued": 1, "running": 0, "success": 0, "failed": 0, "revoked": 0}
    assert stats["tasks"]["contract.embed"]["queued"] == 1
    assert stats["queues"] is None


def test_a_cursor_is_good_for_its_owner_only(api: Api) -> None:
    for _ in range(3):
        api.queue(headers={"X-User": "dora"})
        api.queue(headers={"X-User": "emil"})
    cursor = api.get("?limit=1", headers={"X-User": "dora"}).json()["next_cursor"]
    assert api.get(f"?limit=1&cursor={cursor}", headers={"X-User": "dora"}).status_code == 200
    assert_problem(api.get(f"?limit=1&cursor={cursor}", headers={"X-User": "emil"}), 400, "invalid-cursor")


def test_idempotency_keys_are_the_callers(api: Api) -> None:
    key = {"Idempotency-Key": "k"}
    first = api.queue(headers={**ANN, **key})
    assert api.queue(headers={**ANN, **key}) == first
    assert api.queue(headers={**BOB, **key}) != first


@pytest.mark.parametrize("user", ["", "nobody"])
def test_nobody_in_particular_is_not_everybody(api: Api, user: str) -> None:
    job_id = api.queue(headers=ANN)
    for path in ("", "/stats", f"/{job_id}"):
        assert_problem(api.get(path, headers={"X-User": user}), 403, "forbidden")
    assert_problem(api.submit(headers={"X-User": user}), 403, "forbidden")


def test_the_apps_own_errors_are_problems_too(api: Api) -> None:
    for path in ("", "/stats", "/health", "/some-id", "/some-id/events", "/a/b/c"):
        response = api.get(path)
        members = assert_problem(response, 401)
        assert (members["type"], members["detail"]) == ("about:blank", "Who are you?")
        assert response.headers["www-authenticate"] == "Bearer"
    known, unknown = api.submit("embed", {}), api.submit("no-such-task", {})
    assert_problem(known, 401)
    assert known.content == unknown.content


@pytest.mark.parametrize("detail", ["text", {"code": 7}, ["a"], None])
def test_whatever_the_app_raises_has_a_textual_detail(celery_app: Celery, runtime: Runtime, detail: object) -> None:
    def refuse() -> None:
        raise HTTPException(418, detail)

    with serving(runtime, job_router(celery_app, dependencies=[Depends(refuse)])) as api:
        members = assert_problem(api.get("/some-id"), 418)
        assert members.get("context") == (detail if isinstance(detail, dict | list) else None)


@pytest.mark.parametrize(("status", "title"), [(599, "Error"), (304, ""), (404, "Not Found")])
def test_whatever_status_the_app_raises_is_kept(celery_app: Celery, runtime: Runtime, status: int, title: str) -> None:
    def refuse() -> None:
        raise HTTPException(status, "No.", headers={"X-Team": "yes", "Content-Type": "text/plain"})

    with serving(runtime, job_router(celery_app, dependencies=[Depends(refuse)])) as api:
        response = api.get("/some-id")
        assert (response.status_code, response.headers["x-team"]) == (status, "yes")
        if title:
            assert assert_problem(response, status)["title"] == title


def test_a_dependency_may_read_the_body(celery_app: Celery, runtime: Runtime) -> None:
    seen: list[Any] = []

    async def verify_signature(request: Request) -> None:
        seen.extend([await request.body(), await request.json()])

    with serving(runtime, job_router(celery_app, dependencies=[Depends(verify_signature)])) as api:
        assert api.submit("nightly", {}).status_code == 202
    assert seen == [b"{}", {}]


def test_the_apps_unexpected_errors_are_left_to_it(celery_app: Celery, runtime: Runtime) -> None:
    class TeamError(Exception):
        pass

    def fail() -> None:
        raise TeamError

    app = FastAPI()

    @app.exception_handler(TeamError)
    def handle(request: Request, error: TeamError) -> Response:
        return Response("handled by the team", 503)

    with serving(runtime, job_router(celery_app, dependencies=[Depends(fail)]), app=app) as api:
        response = api.get("/some-id")
        assert (response.status_code, response.text) == (503, "handled by the team")


@pytest.fixture(scope="module")
def guarded(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    async def authorize(action: Action, owner: str | None, job: Job | None) -> bool:
        if action == "submit":
            return owner != "guest"
        assert job is not None
        if action == "read":
            return job.task != "contract.nightly" or owner == "admin"
        return job.owner == owner and owner != "reader"

    with serving(runtime, job_router(celery_app, owner=identity, authorize=authorize)) as api:
        yield api


def test_a_submission_may_be_denied(guarded: Api) -> None:
    assert_problem(guarded.submit(headers={"X-User": "guest"}), 403, "forbidden")
    assert guarded.submit(headers=ANN).status_code == 202


def test_what_may_not_be_read_is_unknown(guarded: Api) -> None:
    job_id = guarded.queue(task="nightly", body={}, headers={"X-User": "frida"})
    assert_problem(guarded.get(f"/{job_id}", headers={"X-User": "frida"}), 404, "job-not-found")
    assert guarded.get("", headers={"X-User": "frida"}).json()["jobs"] == []


def test_what_may_be_read_may_not_be_cancelled(guarded: Api) -> None:
    claim = guarded.run(headers={"X-User": "reader"})
    reader = {"X-User": "reader"}
    assert guarded.get(f"/{claim.job_id}", headers=reader).status_code == 200
    assert_problem(guarded.client.delete(f"/jobs/{claim.job_id}", headers=reader), 403, "forbidden")
    assert_problem(guarded.get(f"/{claim.job_id}/result", headers=reader), 403, "forbidden")
    assert guarded.job(claim.job_id).cancel_requested_at is None


#: Whatever may make a route look at a job before it asks whose it is.
WAYS: dict[str, dict[str, Any]] = {
    "plainly": {},
    "with what it knows": {"headers": {"If-None-Match": "*"}},
    "with a condition": {"headers": {"If-Match": "*"}},
    "waiting": {"headers": {"Prefer": "wait=1"}},
    "from an event on": {"headers": {"Last-Event-ID": "1"}},
    "from beyond the end": {"params": {"starting_after": "999999"}},
    "from no event at all": {"headers": {"Last-Event-ID": "x"}},
    "with a key": {"headers": {"Idempotency-Key": "key"}},
    "with its children": {"params": {"children": "true"}},
    "with a body": {"json": {}},
    "with no body that is one": {"content": b"{", "headers": {"Content-Type": "application/json"}},
}

Things = dict[str, list[str]]


@pytest.fixture(scope="module")
def document() -> FastAPI:
    """An app that everything is on for, once `everything` serves it."""
    return FastAPI()


@pytest.fixture(scope="module")
def everything(
    server: EmbeddedServer, databases: Iterator[int], document: FastAPI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """An API with everything on."""
    app = make_celery(server.url.removesuffix("0") + str(next(databases)))
    task: TaskDecorator = app.task

    @task(base=ProgressTask, shared=False, name="contract.read")
    def read(file: UploadedFile) -> None: ...

    runtime = setup(app)
    secret = SecretStr("whsec_" + base64.b64encode(bytes(32)).decode())
    files = str(tmp_path_factory.mktemp("files"))
    runtime.settings = Settings(store_timeout_seconds=10, files_url=files, webhook_secrets=(secret,))
    options: dict[str, Any] = {"client_fields": list(FIELDS), "client_queues": ["fast"], "webhooks": True}
    document.include_router(job_router(app, owner=identity, admin=is_root, **options))
    with serving(runtime, app=document) as api:
        yield api


def is_root(x_user: str | None = Header(None)) -> bool:
    return x_user == "root"


@pytest.fixture(scope="module")
def things(everything: Api) -> Things:
    """What ann has, by the name of the parameter in the path that its id takes the place of."""
    api = everything
    running, succeeded, failed = (api.run(headers=ANN) for _ in range(3))
    api.succeed(succeeded, {"texts": 1})
    api.fail(failed)
    revoked, delayed = api.queue(headers=ANN), api.queue(body={"texts": [], "countdown": 600}, headers=ANN)
    api.client.delete(f"/jobs/{revoked}", headers=ANN)
    wish = {"texts": [], "webhook": {"url": "https://example.com/"}}
    jobs = [running.job_id, succeeded.job_id, failed.job_id, revoked, delayed, api.queue(body=wish, headers=ANN)]
    items = [{"custom_id": "a", "task": "embed", "input": {"texts": []}}]
    batch = api.client.post("/jobs/batches", json={"items": items}, headers=ANN)
    assert batch.status_code == 202, batch.text
    return {"job_id": jobs, "batch_id": [batch.json()["batch_id"]]}


def operations(document: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of all that is served."""
    for path, methods in document.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path
            if method == "get":
                yield "HEAD", path


def answer(api: Api, method: str, path: str, **options: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that can be told of an answer but when it came."""
    headers = {**BOB, **options.pop("headers", {})}
    with api.client.stream(method, path, headers=headers, **options) as response:
        assert response.headers["content-type"] == "application/problem+json", (method, path)
        told = [pair for pair in response.headers.multi_items() if pair[0] != "date"]
        return response.status_code, told, response.read()


@pytest.mark.parametrize("way", WAYS)
def test_what_is_anothers_is_like_what_is_not_there(
    everything: Api, document: FastAPI, things: Things, way: str
) -> None:
    before = [everything.job(job_id) for job_id in things["job_id"]]
    asked = 0
    for method, path in operations(document):
        for parameter in re.findall(r"{(\w+)}", path):
            # A route that names something else needs that among the things.
            for foreign in things[parameter]:
                there, not_there = (
                    answer(everything, method, path.replace(f"{{{parameter}}}", one), **WAYS[way])
                    for one in (foreign, str(uuid.uuid4()))
                )
                assert there == not_there, (method, path)
                assert 400 <= there[0] < 500, (method, path)
                asked += 1
    assert asked > 50
    assert [everything.job(job_id) for job_id in things["job_id"]] == before


def test_what_is_anothers_changes_nothing_that_has_no_id(everything: Api, document: FastAPI, things: Things) -> None:
    paths = [path for method, path in operations(document) if method == "GET" and "{" not in path]
    assert {"/jobs", "/jobs/stats"} <= set(paths)
    seen = []
    for _ in range(2):
        seen.append([everything.client.get(path, headers=BOB).content for path in paths])
        everything.fail(everything.run(headers=ANN))
        everything.queue(headers=ANN)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("query", ["batch_id", "owner"])
def test_a_list_does_not_tell_what_is_anothers(everything: Api, things: Things, query: str) -> None:
    known, unknown = {"batch_id": (things["batch_id"][0], "unknown"), "owner": ("ann", "unknown")}[query]
    there, not_there = (everything.get("", params={query: one}, headers=BOB) for one in (known, unknown))
    assert (there.status_code, there.content) == (not_there.status_code, not_there.content)
    assert things["job_id"][0] not in there.text


def test_admins_reach_everything(everything: Api, things: Things) -> None:
    root = {"X-User": "root"}
    for job_id in things["job_id"]:
        for path in ("", "/webhooks"):
            assert everything.get(f"/{job_id}{path}", headers=root).status_code == 200
    assert everything.get(f"/batches/{things['batch_id'][0]}", headers=root).status_code == 200
    assert len(everything.get("", headers=root).json()["jobs"]) >= len(things["job_id"])
