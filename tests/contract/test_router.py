"""Making a router: what is exposed where, in which apps, and what is refused at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from celery import Celery
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from aijobs import ConfigurationError, ProgressTask
from aijobs.http import job_router
from aijobs.runtime import Runtime
from tests.helpers import wait_until

from .conftest import TaskDecorator, assert_problem, served, serving

if TYPE_CHECKING:
    from decimal import Decimal as Absent


class Unknown:
    pass


class Part(BaseModel):
    n: int = 1


def celery_with(**functions: Callable[..., Any]) -> Celery:
    app = Celery("team", broker="memory://", set_as_current=False)
    task: TaskDecorator = app.task
    for last, function in functions.items():
        task(base=ProgressTask, shared=False, name=f"team.work.{last}")(function)
    return app


def nothing() -> None: ...


def test_segments_come_from_names(celery_app: Celery) -> None:
    router = job_router(celery_app)
    assert [task.segment for task in router.exposed] == ["anything", "embed", "nightly", "summarise"]


def test_more_tasks_by_name_or_object_or_mapping(celery_app: Celery) -> None:
    plain, hidden = celery_app.tasks["contract.plain"], "contract.hidden"
    assert {task.segment for task in job_router(celery_app, tasks=[plain, hidden]).exposed} >= {"plain", "hidden"}
    renamed = job_router(celery_app, tasks={"add-up": plain, "vectors": "contract.embed"})
    assert [task.segment for task in renamed.exposed] == ["add-up", "anything", "nightly", "summarise", "vectors"]


def test_modules_of_tasks_are_imported() -> None:
    app = Celery("team", broker="memory://", include=["no_such_module"], set_as_current=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        job_router(app)


def test_no_task_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    job_router(Celery("empty", broker="memory://", set_as_current=False))
    assert "found no task" in caplog.text
    assert "ProgressTask" in caplog.text
    assert "include" in caplog.text


def undescribed(x, y=1):  # type: ignore[no-untyped-def]
    return x


def test_no_annotations_at_all() -> None:
    (task,) = job_router(celery_with(undescribed=undescribed)).exposed
    assert task.body.arguments(task.body.model.model_validate({"x": [None, "a"]})) == ([], {"x": [None, "a"]})
    assert task.result is Any


def missing(x: Absent) -> None: ...
def opaque(data: dict[str, int], x: Unknown) -> None: ...
def function(x: Callable[[], int]) -> None: ...
def many(*x: int) -> None: ...
def unsendable(first: object = object(), second: int = 1, /) -> None: ...


@pytest.mark.parametrize("refused", [missing, opaque, function, many, unsendable])
def test_signatures_that_are_no_body(refused: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError) as error:
        job_router(celery_with(refused=refused))
    parameter = "first" if refused is unsendable else "x"
    assert "'team.work.refused'" in str(error.value)
    assert f"'{parameter}'" in str(error.value)
    assert "expose=False" in str(error.value)


def odd(
    _id: int, json: str = "x", model_config: Mapping[str, Part] | None = None, self_: float = float("nan")
) -> Unknown:
    return Unknown()


def test_odd_names_and_defaults_are_fine() -> None:
    (task,) = job_router(celery_with(odd=odd)).exposed
    body = task.body.model.model_validate({"_id": 1, "model_config": {"a": {}}})
    assert task.body.arguments(body) == ([], {"_id": 1, "model_config": {"a": {"n": 1}}})


@pytest.mark.parametrize("segment", ["stats", "health", "batches", "dead"])
def test_reserved_segments(segment: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{segment}' is a path of the API itself.*tasks="):
        job_router(celery_with(**{segment: nothing}))


@pytest.mark.parametrize("segment", ["", "a/b", "..", "a b", "ü", "-", "a\n", "{x}", "x" * 101])
def test_segments_that_are_none(segment: str) -> None:
    with pytest.raises(ConfigurationError, match="no path segment"):
        job_router(celery_with(fine=nothing), tasks={segment: "team.work.fine"})


def test_two_tasks_at_one_segment() -> None:
    app = celery_with(embed=nothing)
    task: TaskDecorator = app.task
    task(base=ProgressTask, shared=False, name="other.embed")(nothing)
    with pytest.raises(ConfigurationError, match=r"'other.embed'.*'team.work.embed'|'team.work.embed'.*'other.embed'"):
        job_router(app)
    router = job_router(app, tasks={"other-embed": "other.embed"})
    assert [task.segment for task in router.exposed] == ["embed", "other-embed"]


def test_an_unknown_task() -> None:
    with pytest.raises(ConfigurationError, match=r"'team.work.embd'.*Did you mean 'team.work.embed'"):
        job_router(celery_with(embed=nothing), tasks=["team.work.embd"])


@pytest.mark.parametrize(
    "options", [{"prefix": "jobs"}, {"prefix": "/jobs/"}, {"finished_cancel_status": 200}, {"max_body_bytes": 0}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        job_router(celery_with(embed=nothing), **options)


def test_two_routers_in_one_app_and_one_router_in_two(celery_app: Celery, runtime: Runtime) -> None:
    first, second = job_router(celery_app), job_router(celery_app, prefix="/v2/work", finished_cancel_status=400)
    with serving(runtime, first, second) as api, serving(runtime, first) as other:
        claim = api.run()
        job = api.client.get(f"/v2/work/{claim.job_id}").json()
        assert job["urls"]["self"] == f"/v2/work/{claim.job_id}"
        assert other.get(f"/{claim.job_id}").json()["urls"]["self"] == f"/jobs/{claim.job_id}"
        api.succeed(claim)
        assert_problem(api.client.delete(f"/jobs/{claim.job_id}"), 409)
        assert_problem(api.client.delete(f"/v2/work/{claim.job_id}"), 400)


def test_the_same_router_twice_in_one_app(celery_app: Celery, runtime: Runtime) -> None:
    router = job_router(celery_app)
    app = FastAPI()
    app.include_router(router, prefix="/a")
    with serving(runtime, router, app=app) as api:
        job_id = api.queue()
        assert api.client.get(f"/a/jobs/{job_id}").json()["urls"]["self"] == f"/a/jobs/{job_id}"
        assert_problem(api.client.put("/a/jobs"), 405)


def test_below_other_paths(celery_app: Celery, runtime: Runtime) -> None:
    inner = FastAPI()
    inner.include_router(job_router(celery_app))
    outer = FastAPI()
    outer.mount("/mounted", inner)
    nested = APIRouter(prefix="/tenants/{tenant}")
    nested.include_router(job_router(celery_app, prefix=""), prefix="/work")
    outer.include_router(nested)
    with serving(runtime, app=outer) as api:
        for base in ("/mounted/jobs", "/tenants/a%20b/work"):
            reply = api.client.post(f"{base}/nightly")
            path = f"{base}/{reply.json()['job_id']}"
            assert reply.headers["location"] == reply.json()["urls"]["self"] == path
            assert api.client.get(path).json()["urls"]["events"] == f"{path}/events"
            assert api.client.delete(path).json()["urls"]["cancel"] == f"{path}/cancel"
            assert api.client.post(f"{path}/cancel").json()["urls"]["self"] == path
            listed = api.client.get(base, follow_redirects=True).json()["jobs"]
            assert path in [job["urls"]["self"] for job in listed]
            assert_problem(api.client.put(path), 405)
            assert_problem(api.client.get(f"{path}/no/such"), 404)


def test_behind_a_proxy(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app))

    async def declared(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/public"}, receive, send)

    # A server that knows its root path puts it in front of the path; an app that only declares one does not.
    for served_app, root_path in ((app, "/public"), (declared, "")):
        with served(served_app, root_path=root_path) as url:
            reply = httpx.post(f"{url}/jobs/nightly")
            assert reply.headers["location"] == f"/public/jobs/{reply.json()['job_id']}"


def test_without_any_prefix_the_rest_is_the_apps(celery_app: Celery, runtime: Runtime) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app, prefix=""))

    @app.get("/other/place")
    def other() -> str:
        return "other"

    with serving(runtime, app=app) as api:
        accepted = api.client.post("/nightly").json()
        assert accepted["status_url"] == f"/{accepted['job_id']}"
        assert api.client.get(accepted["status_url"]).json()["urls"]["result"] == f"{accepted['status_url']}/result"
        assert api.client.get("/").json()["jobs"]
        assert api.client.get("/other/place").json() == "other"
        for response in (api.client.put("/other/place"), api.client.get("/no/such/place"), api.client.post("/nobody")):
            assert response.headers["content-type"] == "application/json"


def test_a_route_of_the_teams_own(celery_app: Celery, runtime: Runtime) -> None:
    router = job_router(celery_app)

    @router.get("/{job_id}/cost")
    def cost(job_id: str) -> dict[str, str]:
        return {"job_id": job_id}

    with serving(runtime, router) as api:
        assert api.get("/a/cost").json() == {"job_id": "a"}
        assert_problem(api.client.put("/jobs/a/cost"), 405)


def test_other_routes_of_the_app_are_left_alone(celery_app: Celery, runtime: Runtime) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app))

    @app.get("/jobs/reports/today")
    def today() -> str:
        return "report"

    @app.get("/other")
    def other() -> str:
        return "other"

    with serving(runtime, app=app) as api:
        assert api.get("/reports/today").json() == "report"
        assert api.client.get("/other").json() == "other"
        for response in (api.client.get("/elsewhere"), api.client.put("/other")):
            assert response.headers["content-type"] == "application/json"


def test_dependencies_are_torn_down(celery_app: Celery, runtime: Runtime) -> None:
    seen: list[str] = []

    async def session() -> AsyncIterator[None]:
        seen.append("open")
        yield
        seen.append("close")

    with serving(runtime, job_router(celery_app, dependencies=[Depends(session)])) as api:
        assert_problem(api.get("/some-id"), 404)
        wait_until(lambda: seen == ["open", "close"], "the end of the dependency")
