"""Submitting: from the body to the task's arguments."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis
from celery import Celery

from .conftest import Api, assert_problem


def arguments(api: Api, response: httpx.Response) -> Any:
    assert response.status_code == 202, response.text
    stored = api.job(response.json()["job_id"]).arguments_json
    assert stored is not None
    return json.loads(stored)


def test_accepted(api: Api) -> None:
    response = api.submit("embed", {"texts": ["a", "b"]})
    job = response.json()
    path = f"/jobs/{job['job_id']}"
    assert response.status_code == 202
    assert job["status"] == "queued"
    assert job["message"]
    assert job["status_url"] == response.headers["location"] == path
    assert response.headers["etag"]
    assert 1 <= int(response.headers["retry-after"]) <= 30
    assert api.client.get(response.headers["location"]).json()["job_id"] == job["job_id"]


def test_defaults_are_left_to_the_task(api: Api) -> None:
    assert arguments(api, api.submit("embed", {"texts": ["a"]})) == [[], {"texts": ["a"]}]
    sent = {"texts": ["a"], "size": "large", "limit": 3}
    assert arguments(api, api.submit("embed", sent)) == [[], sent]


def test_one_model_is_the_body(api: Api) -> None:
    response = api.submit("summarise", {"text": "t", "written": "2025-05-01T10:00:00+02:00"})
    document = {"text": "t", "written": "2025-05-01T10:00:00+02:00", "weight": 1.0}
    assert arguments(api, response) == [[], {"document": document}]


@pytest.mark.parametrize("options", [{}, {"json": {}}])
def test_no_parameters(api: Api, options: dict[str, Any]) -> None:
    assert arguments(api, api.client.post("/jobs/nightly", **options)) == [[], {}]


def test_positional_and_other_parameters(api: Api) -> None:
    body = {"first": {"deep": [1, None]}, "json": 1, "self_made": True}
    assert arguments(api, api.submit("anything", body)) == [[{"deep": [1, None]}], {"json": 1, "self_made": True}]


@pytest.mark.parametrize(
    "value",
    ["", "\x00", "ü\u2028😀", 10**400, -0.0, 1e-300, json.loads("[" * 190 + "]" * 190), {"": ""}, None, True],
    ids=["empty", "nul", "unicode", "huge", "zero", "tiny", "deep", "empty key", "null", "true"],
)
def test_odd_values_arrive_as_they_are(api: Api, value: Any) -> None:
    assert arguments(api, api.submit("anything", {"first": value})) == [[value], {}]


@pytest.mark.parametrize(
    ("task", "body", "pointer"),
    [
        ("embed", {}, "#/texts"),
        ("embed", {"texts": "a"}, "#/texts"),
        ("embed", {"texts": ["a", 1]}, "#/texts/1"),
        ("embed", {"texts": [], "limit": None}, "#/limit"),
        ("embed", {"texts": [], "size": "huge"}, "#/size"),
        ("embed", {"texts": [], "queue": "fast"}, "#/queue"),
        ("embed", {"texts": [], "a/b~c": 1}, "#/a~1b~0c"),
        ("embed", [], "#"),
        ("embed", "text", "#"),
        ("summarise", {"text": "t", "written": "yesterday"}, "#/written"),
        ("summarise", {}, "#/text"),
        ("nightly", {"extra": 1}, "#/extra"),
        ("nightly", [1], "#"),
    ],
)
def test_an_invalid_body_says_where(api: Api, task: str, body: Any, pointer: str) -> None:
    members = assert_problem(api.submit(task, body), 422, "invalid-request")
    fault = members["errors"][0]
    assert fault["pointer"] == pointer
    assert fault["detail"]
    assert fault["type"]
    assert members["detail"].startswith(pointer)


def test_input_is_never_echoed(api: Api) -> None:
    secret = "sk-123456"
    for body in ({"texts": [{"key": secret}]}, {"texts": secret}, {"texts": [], "size": secret}, [secret]):
        response = api.submit("embed", body)
        assert_problem(response, 422)
        assert secret not in response.text


def test_a_null_body_is_no_body_for_nobody(api: Api) -> None:
    response = api.client.post("/jobs/nightly", content=b"null", headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "invalid-request")


def test_infinite_numbers_are_refused(api: Api) -> None:
    for content in (b'{"first": 1e999}', b'{"first": [-1e999]}'):
        response = api.client.post("/jobs/anything", content=content, headers={"Content-Type": "application/json"})
        assert_problem(response, 400, "invalid-json")
    for number in ("nan", "inf", "-Infinity"):
        assert_problem(api.submit("summarise", {"text": "t", "weight": number}), 422, "invalid-request")


@pytest.mark.parametrize("task", ["contract.embed", "hidden", "plain", "celery.ping", "backend_cleanup", "nobody"])
def test_other_tasks_are_unknown(api: Api, task: str) -> None:
    unknown = api.submit("no-such-task", {})
    response = api.submit(task, {})
    assert_problem(response, 404, "task-not-found")
    assert response.content == unknown.content


class TestIdempotency:
    def test_the_same_content_is_the_same_job(self, api: Api) -> None:
        headers = {"Idempotency-Key": "order-1"}
        first = api.submit("embed", {"texts": ["a"], "limit": 1}, headers=headers)
        again = api.client.post(
            "/jobs/embed",
            content=b'{"limit":1 , "texts":["\\u0061"]}',
            headers={**headers, "Content-Type": "application/json"},
        )
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["job_id"] == again.json()["job_id"]
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"

    def test_quotes_do_not_count(self, api: Api) -> None:
        bare = api.submit(headers={"Idempotency-Key": "order-2"})
        quoted = api.submit(headers={"Idempotency-Key": '"order-2"'})
        assert bare.json()["job_id"] == quoted.json()["job_id"]

    def test_other_content_is_a_conflict(self, api: Api) -> None:
        headers = {"Idempotency-Key": "order-3"}
        api.submit(body={"texts": ["a"]}, headers=headers)
        assert_problem(api.submit(body={"texts": ["b"]}, headers=headers), 422, "idempotency-conflict")

    def test_the_first_job_is_gone(self, api: Api, celery_app: Celery) -> None:
        headers = {"Idempotency-Key": "order-6"}
        first = api.submit(headers=headers).json()["job_id"]
        with redis.Redis.from_url(celery_app.conf.broker_url) as client:
            assert client.delete(f"aijobs:job:{first}") == 1
        assert_problem(api.submit(headers=headers), 409, "idempotent-job-gone")
        assert_problem(api.submit(body={"texts": ["b"]}, headers=headers), 422, "idempotency-conflict")

    def test_a_key_counts_per_task(self, api: Api) -> None:
        headers = {"Idempotency-Key": "order-4"}
        first = api.submit("nightly", {}, headers=headers).json()["job_id"]
        assert api.submit("anything", {"first": 1}, headers=headers).json()["job_id"] != first

    def test_at_once(self, api: Api) -> None:
        headers = {"Idempotency-Key": "order-5"}
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: api.submit(headers=headers), range(16)))
        assert {reply.status_code for reply in replies} == {202}
        assert len({reply.json()["job_id"] for reply in replies}) == 1
        assert sum("idempotency-replayed" not in reply.headers for reply in replies) == 1

    @pytest.mark.parametrize("key", ["", '""', "a b", "ü".encode().decode("latin-1"), "x" * 256, '"open', 'a"b'])
    def test_bad_keys(self, api: Api, key: str) -> None:
        response = api.submit(headers={"Idempotency-Key": key.encode("latin-1")})
        assert_problem(response, 400, "invalid-idempotency-key")

    def test_two_keys(self, api: Api) -> None:
        response = api.submit(headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
        assert_problem(response, 400, "invalid-idempotency-key")
