"""Odd corners: headers that are there twice, and what an app around the router may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, Response

from aijobs import ProgressTask
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.runtime import Runtime

from .conftest import Api, TaskDecorator, assert_problem, serving


def revoked(api: Api) -> str:
    """The id of a job that is over."""
    job_id = api.queue()
    api.client.delete(f"/jobs/{job_id}")
    return job_id


class TestHeadersThatAreThereTwice:
    def test_entity_tags_are_one_list(self, api: Api) -> None:
        path = f"/{api.queue()}"
        tag = api.get(path).headers["etag"]
        assert api.get(path, headers=[("If-None-Match", '"other"'), ("If-None-Match", tag)]).status_code == 304

    def test_preferences_are_one_list(self, api: Api) -> None:
        two = [("Prefer", "respond-async"), ("Prefer", "wait=1")]
        assert api.get(f"/{revoked(api)}", headers=two).status_code == 200

    def test_the_others_are_refused(self, api: Api) -> None:
        twice = {"Idempotency-Key": "same", "Content-Type": "application/json"}
        for name, value in twice.items():
            headers = [*(one for one in twice.items() if one[0] != name), (name, value), (name, value)]
            response = api.client.post("/jobs/nightly", content=b"{}", headers=headers)
            assert response.status_code == (400 if name == "Idempotency-Key" else 415)
        ids = [("Last-Event-ID", "1"), ("Last-Event-ID", "1")]
        assert_problem(api.get(f"/{revoked(api)}/events", headers=ids), 400, "invalid-event-id")


def undeclared(api: Api) -> httpx.Response:
    return api.client.post("/jobs/nightly", content=b"{}")


def test_the_apps_own_handlers_are_left_to_the_app(celery_app: Celery, runtime: Runtime) -> None:
    app = FastAPI()

    @app.exception_handler(404)
    @app.exception_handler(405)
    @app.exception_handler(413)
    async def handled(request: Request, error: Exception) -> Response:
        return PlainTextResponse("of the app", getattr(error, "status_code", 500))

    with serving(runtime, job_router(celery_app, max_body_bytes=10), app=app) as api:
        assert api.client.get("/elsewhere").text == "of the app"
        assert_problem(api.get("/no-such-job"), 404, "job-not-found")
        assert_problem(api.get("/a/b/c"), 404, "route-not-found")
        assert_problem(api.client.put("/jobs/stats"), 405, "method-not-allowed")
        assert_problem(api.submit("anything", {"first": "x" * 20}), 413, "body-too-large")


@pytest.mark.parametrize("strict", [True, False])
def test_an_undeclared_body_is_refused_however_the_app_is_set(
    celery_app: Celery, runtime: Runtime, strict: bool
) -> None:
    with serving(runtime, job_router(celery_app), app=FastAPI(strict_content_type=strict)) as api:
        assert_problem(undeclared(api), 415, "unsupported-media-type")
        assert api.submit("nightly", {}).status_code == 202


def test_below_a_middleware_that_reads_on_its_own(celery_app: Celery, runtime: Runtime) -> None:
    app = FastAPI()

    @app.middleware("http")
    async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        await request.body()
        return await call_next(request)

    assert [str(one.cls) for one in app.user_middleware] == [str(BaseHTTPMiddleware)]
    with serving(runtime, job_router(celery_app, max_body_bytes=1_000), app=app) as api:
        job_id = api.queue()
        assert api.get(f"/{job_id}").json()["status"] == "queued"
        assert_problem(api.submit("anything", {"first": "x" * 2_000}), 413, "body-too-large")
        assert_problem(undeclared(api), 415, "unsupported-media-type")
        assert api.client.delete(f"/jobs/{job_id}").status_code == 200


def test_a_router_that_is_served_again(celery_app: Celery, runtime: Runtime) -> None:
    # Included twice, its lifespan runs twice at each start, and the store is let go of twice at each end.
    app, router = FastAPI(), job_router(celery_app)
    app.include_router(router, prefix="/also")
    app.include_router(router)
    found = [one["operationId"] for methods in app.openapi()["paths"].values() for one in methods.values()]
    assert len(found) == len(set(found))
    assert {"jobs_get", "also_jobs_get"} <= set(found)
    for _ in range(2):
        with serving(runtime, app=app) as api:
            job_id = api.queue()
            assert api.client.get(f"/also/jobs/{job_id}").json()["job_id"] == job_id


def test_two_tasks_of_one_name(server: EmbeddedServer, databases: Iterator[int]) -> None:
    def texts(texts: list[str]) -> int:
        return len(texts)

    def pages(pages: int, dpi: float = 72.0) -> str:
        return str(pages)

    app = FastAPI()
    functions: list[Callable[..., Any]] = [texts, pages]
    for number, function in enumerate(functions):
        celery_app = Celery(f"app{number}", broker="memory://", backend=server.url, set_as_current=False)
        task: TaskDecorator = celery_app.task
        task(base=ProgressTask, shared=False, name="read")(function)
        app.include_router(job_router(celery_app, prefix=f"/app{number}"))
    document = app.openapi()
    bodies = [body_properties(document, f"/app{number}/read") for number in (0, 1)]
    assert bodies == [{"texts"}, {"pages", "dpi"}]


def body_properties(document: dict[str, Any], path: str) -> set[str]:
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return set(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"])
