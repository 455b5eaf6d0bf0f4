"""What clients may say of their jobs beside the tasks' own fields: only what the app has opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI
from openapi_spec_validator import validate
from pydantic import BaseModel, Field, RootModel

from aijobs import ConfigurationError, ProgressTask, setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.http.envelope import FIELDS
from aijobs.runtime import Runtime
from tests.helpers import wait_until

from .conftest import Api, TaskDecorator, assert_problem, serving, whole
from .processes import WORKER, process, until_logged

OPENED: dict[str, Any] = {"client_fields": list(FIELDS), "client_queues": ["fast", "slow"]}
MOST = {f"key-{number}": "x" for number in range(16)}


@pytest.fixture(scope="module")
def api(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    with serving(runtime, job_router(celery_app, **OPENED)) as api:
        yield api


def submitted(api: Api, task: str = "embed", **body: Any) -> dict[str, Any]:
    response = api.submit(task, {"texts": ["a"], **body} if task == "embed" else body)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def message(api: Api, job: Mapping[str, Any], key: str = "celery\x06\x163") -> dict[str, Any]:
    """The message of a job, from the broker's list."""
    found = [one for one in map(json.loads, api.command("LRANGE", key, 0, -1)) if one["headers"]["id"] == job["job_id"]]
    (sent,) = found
    assert isinstance(sent, dict)
    return sent


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


@pytest.mark.parametrize("metadata", [{}, {"a": ""}, {"ü\x00": "\u2028\x00"}, {"k" * 64: "v" * 512}, MOST])
def test_metadata_stays_with_the_job(api: Api, metadata: dict[str, str]) -> None:
    job = submitted(api, metadata=metadata)
    assert job["metadata"] == metadata
    assert api.get(f"/{job['job_id']}").json()["metadata"] == metadata
    arguments = json.loads(api.job(job["job_id"]).arguments_json or "")
    assert arguments == [[], {"texts": ["a"]}]


@pytest.mark.parametrize(("priority", "suffix"), [(0, ""), (4, "\x06\x163"), (9, "\x06\x169")])
def test_priority_chooses_who_goes_first(api: Api, priority: int, suffix: str) -> None:
    job = submitted(api, priority=priority)
    assert message(api, job, f"celery{suffix}")["properties"]["priority"] == priority


def test_countdown_is_when_it_is_due(api: Api) -> None:
    response = api.submit(body={"texts": [], "countdown": 600.5})
    job = response.json()
    assert 590 < seconds_between(job["created_at"], job["scheduled_at"]) < 610
    assert response.headers["retry-after"] == "30"
    assert message(api, job)["headers"]["eta"] is not None
    assert submitted(api, countdown=0)["scheduled_at"] is None


def test_a_short_countdown_is_asked_for_sooner(api: Api) -> None:
    response = api.submit(body={"texts": [], "countdown": 10})
    assert 1 <= int(response.headers["retry-after"]) <= 6


def test_expires_is_until_when_it_may_start(api: Api) -> None:
    job = submitted(api, expires=60)
    assert 50 < seconds_between(job["created_at"], message(api, job)["headers"]["expires"]) < 70


def test_a_queue_out_of_those_that_are_offered(api: Api) -> None:
    job = submitted(api, queue="slow")
    assert api.job(job["job_id"]).queue == "slow"
    assert message(api, job, "slow\x06\x163")


def test_all_at_once_with_a_model_as_the_body(api: Api) -> None:
    wishes = {"metadata": {"order": "7"}, "priority": 9, "countdown": 1, "expires": 90, "queue": "fast"}
    job = submitted(api, "summarise", text="a", weight=2, **wishes)
    assert (job["metadata"], api.job(job["job_id"]).queue) == ({"order": "7"}, "fast")
    arguments = json.loads(api.job(job["job_id"]).arguments_json or "")
    assert arguments == [[], {"document": {"text": "a", "written": None, "weight": 2.0}}]


def test_without_any_field_of_the_tasks(api: Api) -> None:
    assert submitted(api, "nightly", metadata={"a": "b"})["metadata"] == {"a": "b"}
    assert api.client.post("/jobs/nightly").json()["metadata"] == {}


def test_a_task_that_takes_anything(api: Api) -> None:
    job = submitted(api, "anything", first=1, other=2, metadata={"a": "b"})
    assert json.loads(api.job(job["job_id"]).arguments_json or "") == [[1], {"other": 2}]


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"metadata": None}, "#/metadata"),
        ({"metadata": ["a"]}, "#/metadata"),
        ({"metadata": {"a": 1}}, "#/metadata/a"),
        ({"metadata": {"a": None}}, "#/metadata/a"),
        ({"metadata": {"a": {"b": "c"}}}, "#/metadata/a"),
        ({"metadata": {"a": "v" * 513}}, "#/metadata/a"),
        ({"metadata": {"": "v"}}, "#/metadata/"),
        ({"metadata": {"k" * 65: "v"}}, "#/metadata/" + "k" * 65),
        ({"metadata": {"k" * 500: "v"}}, "#/metadata"),
        ({"metadata": {**MOST, "one": "more"}}, "#/metadata"),
        ({"metadata": {str(number): "x" for number in range(50_000)}}, "#/metadata"),
        ({"priority": -1}, "#/priority"),
        ({"priority": 10}, "#/priority"),
        ({"priority": 1.5}, "#/priority"),
        ({"priority": None}, "#/priority"),
        ({"priority": "high"}, "#/priority"),
        ({"countdown": -0.1}, "#/countdown"),
        ({"countdown": 2_592_001}, "#/countdown"),
        ({"countdown": 10**400}, "#/countdown"),
        ({"countdown": "tomorrow"}, "#/countdown"),
        ({"expires": 0}, "#/expires"),
        ({"expires": 10**400}, "#/expires"),
        ({"expires": "2030-01-01T00:00:00"}, "#/expires"),
        ({"countdown": 60, "expires": 60}, "#/expires"),
        ({"queue": "celery"}, "#/queue"),
        ({"queue": ["fast"]}, "#/queue"),
        ({"queue": None}, "#/queue"),
        ({"task_id": "x"}, "#/task_id"),
        ({"time_limit": 1}, "#/time_limit"),
        ({"webhook": {"url": "https://example.com/"}}, "#/webhook"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit(api: Api, wish: dict[str, Any], pointer: str) -> None:
    response = api.submit(body={"texts": ["a"], **wish})
    members = assert_problem(response, 422, "invalid-request")
    assert members["errors"][0]["pointer"] == pointer
    assert len(response.content) < 5_000


@pytest.mark.parametrize(
    "content", [b'{"countdown": NaN}', b'{"countdown": Infinity}', b'{"metadata": {"\\ud800": ""}}']
)
def test_what_is_no_json(api: Api, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert_problem(api.client.post("/jobs/nightly", content=content, headers=headers), 400, "invalid-json")


def test_a_number_beyond_all_floats(api: Api) -> None:
    headers = {"Content-Type": "application/json"}
    response = api.client.post("/jobs/nightly", content=b'{"countdown": 1e999}', headers=headers)
    assert response.status_code in (400, 422)


@pytest.mark.parametrize("body", [[], "priority", 7, [{"priority": 1}]])
def test_what_is_no_object(api: Api, body: object) -> None:
    for task in ("embed", "nightly", "summarise"):
        response = api.client.post(f"/jobs/{task}", json=body)
        assert assert_problem(response, 422, "invalid-request")["errors"][0]["pointer"] == "#"


def test_all_of_it_counts_for_an_idempotency_key(api: Api) -> None:
    def submit(**wishes: Any) -> httpx.Response:
        return api.submit(body={"texts": [], **wishes}, headers={"Idempotency-Key": "wishes"})

    first = submit(metadata={"a": "1", "b": "2"}, priority=1)
    again = submit(priority=1, metadata={"b": "2", "a": "1"})
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.headers["idempotency-replayed"] == "true"
    for other in ({}, {"priority": 1}, {"metadata": {"a": "1", "b": "2"}, "priority": 2}):
        assert_problem(submit(**other), 422, "idempotency-conflict")


def test_a_retry_keeps_what_belongs_to_the_job(api: Api) -> None:
    job = submitted(api, metadata={"a": "b"}, priority=9, queue="slow", countdown=60, expires=90)
    api.client.delete(f"/jobs/{job['job_id']}")
    again = api.client.post(f"/jobs/{job['job_id']}/retry").json()
    assert (again["metadata"], again["scheduled_at"]) == ({"a": "b"}, None)
    first, second = (
        one
        for one in map(json.loads, api.command("LRANGE", "slow\x06\x169", 0, -1))
        if one["headers"]["id"] == job["job_id"]
    )
    assert (first["headers"]["expires"], second["headers"]["expires"] is None) == (None, False)


def test_a_worker_does_what_was_said(server: EmbeddedServer, databases: Iterator[int], tmp_path: Path) -> None:
    url = server.url.removesuffix("0") + str(next(databases))
    app = Celery("service", broker=url, backend=url, set_as_current=False)
    task: TaskDecorator = app.task

    @task(base=ProgressTask, shared=False, name="service.count")
    def count(items: int) -> int:
        return items

    with serving(setup(app), job_router(app, **OPENED)) as api:
        late = submitted(api, "count", items=0, expires=0.1)
        patient, urgent = (submitted(api, "count", items=1, priority=priority) for priority in (9, 0))
        delayed = submitted(api, "count", items=2, countdown=1.5, queue="slow")
        due = datetime.fromisoformat(late["created_at"]) + timedelta(seconds=1)
        wait_until(lambda: datetime.now(UTC) > due, "the expiry")
        log = tmp_path / "worker.log"
        with process(log, {"TEST_URL": url}, *WORKER, "-c", "1", "-Q", "celery,slow") as worker:
            until_logged(log, " ready.", worker)
            ends = [whole(api, job["job_id"])[-1].data for job in (late, patient, urgent, delayed)]
    assert [end["status"] for end in ends] == ["revoked", "success", "success", "success"]
    assert ends[0]["error"]["code"] == "expired"
    assert ends[2]["started_at"] < ends[1]["started_at"]
    assert ends[3]["started_at"] >= delayed["scheduled_at"]


def test_nothing_is_open_by_default(celery_app: Celery, runtime: Runtime) -> None:
    with serving(runtime, job_router(celery_app)) as api:
        for name in (*FIELDS, "queue", "webhook"):
            members = assert_problem(api.submit(body={"texts": [], name: 1}), 422, "invalid-request")
            assert members["errors"][0]["pointer"] == f"#/{name}"
        job = api.submit("anything", {"first": 1, "queue": "fast", "priority": 0}).json()
        assert api.job(job["job_id"]).queue == "celery"


def test_only_what_is_opened(celery_app: Celery, runtime: Runtime) -> None:
    with serving(runtime, job_router(celery_app, client_fields=["metadata"])) as api:
        assert api.submit(body={"texts": [], "metadata": {}}).status_code == 202
        assert_problem(api.submit(body={"texts": [], "priority": 1}), 422, "invalid-request")


def test_it_is_documented(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app, **OPENED))
    app.include_router(job_router(celery_app, prefix="/closed"))
    document = app.openapi()
    validate(document)
    shapes = document["components"]["schemas"]
    for name in ("EmbedSubmission", "SummariseSubmission", "NightlySubmission", "AnythingSubmission"):
        opened = shapes[name]["properties"]
        assert opened.keys() >= {*FIELDS, "queue"}
        assert all(opened[field]["description"] for field in (*FIELDS, "queue"))
        assert not {*FIELDS, "queue"} & set(shapes[name].get("required", ()))
    assert shapes["EmbedSubmission"]["required"] == ["texts"]
    assert shapes["EmbedSubmission"]["additionalProperties"] is False
    assert shapes["SummariseSubmission"]["description"] == "A text with its date."
    assert shapes["EmbedSubmission"]["properties"]["queue"]["enum"] == ["fast", "slow"]
    assert shapes["EmbedRequest"]["properties"].keys() == {"texts", "size", "limit"}
    assert not [name for name in shapes if "__" in name]


class Ranked(BaseModel):
    rank: Annotated[int, Field(alias="priority")] = 0


class Recursive(BaseModel):
    priority: int = 0
    parts: list[Recursive] = []


class Texts(RootModel[list[str]]):
    pass


def by_parameter(text: str, priority: int = 3) -> None: ...
def by_alias(document: Ranked) -> None: ...
def by_field(document: Recursive) -> None: ...
def without_names(texts: Texts) -> None: ...


def app_with(function: Any) -> Celery:
    app = Celery("team", broker="memory://", set_as_current=False)
    task: TaskDecorator = app.task
    task(base=ProgressTask, shared=False, name="team.work")(function)
    return app


@pytest.mark.parametrize("function", [by_parameter, by_alias, by_field])
def test_a_task_with_a_field_of_that_name(function: Any) -> None:
    app = app_with(function)
    with pytest.raises(
        ConfigurationError, match=r"'team.work' has a field 'priority'.*client field 'priority'.*Rename"
    ):
        job_router(app, client_fields=["metadata", "priority"])
    job_router(app, client_fields=["metadata"])


def test_a_body_without_named_fields() -> None:
    with pytest.raises(ConfigurationError, match=r"'team.work'.*no place for client fields.*model with named fields"):
        job_router(app_with(without_names), client_fields=["metadata"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client_fields": ["priorty"]}, "Did you mean 'priority'"),
        ({"client_fields": ["task_id"]}, "There are metadata, priority, countdown, expires"),
        ({"client_fields": ["queue"]}, "client_queues="),
        ({"client_fields": ["webhook"]}, "webhooks=True"),
        ({"client_fields": "metadata"}, "give a list of names"),
        ({"client_queues": "fast"}, "give a list of names"),
    ],
)
def test_wrong_options(celery_app: Celery, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        job_router(celery_app, **options)
