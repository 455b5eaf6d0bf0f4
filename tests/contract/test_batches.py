"""Batches: many jobs submitted, asked for and cancelled as one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from fastapi import FastAPI, Header

from aijobs import ConfigurationError, cancel, setup
from aijobs.embedded import EmbeddedServer, start_server
from aijobs.http import job_router
from aijobs.http.access import Action
from aijobs.job import ErrorCode, Job
from aijobs.runtime import Runtime
from tests.helpers import frozen, wait_until

from .conftest import Api, assert_problem, make_celery, serving

JSON = {"Content-Type": "application/json"}
ANN = {"X-User": "ann"}
BOB = {"X-User": "bob"}


def item(custom_id: str = "a", task: str = "embed", **members: Any) -> dict[str, Any]:
    given = {"input": {"texts": [custom_id]}} if task == "embed" and "input" not in members else {}
    return {"custom_id": custom_id, "task": task, **given, **members}


def items(count: int) -> list[dict[str, Any]]:
    return [item(f"item-{number}") for number in range(count)]


def send(api: Api, given: Any, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    return api.client.post("/jobs/batches", json={"items": given, **members}, headers=headers)


def accepted(api: Api, given: Any, **options: Any) -> dict[str, Any]:
    response = send(api, given, **options)
    assert response.status_code == 202, response.text
    body: dict[str, Any] = response.json()
    return body


def problem_of(api: Api, given: Any) -> dict[str, Any]:
    """What is wrong with an item, beside one that is right."""
    answer = accepted(api, [item("right"), given])["items"][1]
    assert answer.keys() == {"custom_id", "problem"}
    problem: dict[str, Any] = answer["problem"]
    assert problem["errors"][0]["pointer"].startswith("#/items/1")
    return problem


def get(api: Api, batch_id: str, **options: Any) -> dict[str, Any]:
    response = api.get(f"/batches/{batch_id}", **options)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def sent(api: Api) -> list[str]:
    """Ids of the jobs whose messages wait in the broker, oldest first."""
    (queue,) = api.command("KEYS", "celery*")
    return [json.loads(message)["headers"]["id"] for message in reversed(api.command("LRANGE", queue, 0, -1))]


class TestSubmission:
    def test_each_item_becomes_a_job(self, api: Api) -> None:
        response = send(
            api,
            [
                item("one", metadata={"page": "1"}),
                item("two", "contract.summarise", input={"text": "t", "weight": 2}),
                item("three", "nightly"),
            ],
            metadata={"ticket": "7"},
        )
        batch = response.json()
        path = f"/jobs/batches/{batch['batch_id']}"
        assert response.status_code == 202
        assert response.headers["location"] == path == batch["urls"]["self"]
        assert response.headers["etag"]
        assert 1 <= int(response.headers["retry-after"]) <= 15
        assert "idempotency-replayed" not in response.headers
        assert (batch["status"], batch["progress"], batch["metadata"]) == ("queued", 0, {"ticket": "7"})
        assert batch["counts"] == {"total": 3, "queued": 3, "running": 0, "success": 0, "failed": 0, "revoked": 0}
        assert [one["custom_id"] for one in batch["items"]] == ["one", "two", "three"]
        jobs = [api.client.get(one["status_url"]).json() for one in batch["items"]]
        assert [job["job_id"] for job in jobs] == [one["job_id"] for one in batch["items"]]
        assert {job["batch_id"] for job in jobs} == {batch["batch_id"]}
        assert [job["task"] for job in jobs] == ["contract.embed", "contract.summarise", "contract.nightly"]
        assert [job["metadata"] for job in jobs] == [
            {"page": "1", "custom_id": "one"},
            {"custom_id": "two"},
            {"custom_id": "three"},
        ]
        arguments = [json.loads(api.job(job["job_id"]).arguments_json or "") for job in jobs]
        assert arguments[:2] == [
            [[], {"texts": ["one"]}],
            [[], {"document": {"text": "t", "written": None, "weight": 2.0}}],
        ]
        listed = api.client.get(batch["urls"]["jobs"]).json()["jobs"]
        assert {job["job_id"] for job in listed} == {job["job_id"] for job in jobs}

    def test_items_are_refused_one_by_one(self, api: Api) -> None:
        batch = accepted(api, [item("a", input={"texts": [1]}), item("b"), item("c", "hidden")])
        assert batch["counts"]["total"] == 1
        assert [sorted(one) for one in batch["items"]] == [
            ["custom_id", "problem"],
            ["custom_id", "job_id", "status_url"],
            ["custom_id", "problem"],
        ]
        first = batch["items"][0]["problem"]
        assert (first["type"], first["status"]) == ("urn:aijobs:problem:invalid-request", 422)
        assert first["errors"][0]["pointer"] == "#/items/0/input/texts/0"
        assert batch["message"] == "1 of 3 items were accepted."

    @pytest.mark.parametrize(
        ("given", "pointer"),
        [
            ({"input": {}}, "/input/texts"),
            ({"input": {"texts": [], "queue": "fast"}}, "/input/queue"),
            ({"input": []}, "/input"),
            ({"input": None}, "/input"),
            ({"task": "summarise", "input": {}}, "/input/text"),
            ({"task": "summarise", "input": {"text": "t", "weight": "nan"}}, "/input"),
            ({"task": "nightly", "input": {"x": 1}}, "/input/x"),
            ({"task": 7}, "/task"),
            ({"custom_id": None}, "/custom_id"),
            ({"custom_id": ""}, "/custom_id"),
            ({"custom_id": "a b"}, "/custom_id"),
            ({"custom_id": "ü"}, "/custom_id"),
            ({"custom_id": "x" * 65}, "/custom_id"),
            ({"custom_id": "a\n"}, "/custom_id"),
            ({"custom_id": "right"}, "/custom_id"),
            ({"metadata": {"a": 1}}, "/metadata/a"),
            ({"metadata": {"custom_id": "mine"}}, "/metadata"),
            ({"metadata": {str(number): "" for number in range(16)}}, "/metadata"),
            ({"metadata": {"a": "x" * 513}}, "/metadata/a"),
            ({"priority": 9}, "/priority"),
        ],
        ids=repr,
    )
    def test_a_fault_has_its_place(self, api: Api, given: dict[str, Any], pointer: str) -> None:
        problem = problem_of(api, {**item("wrong"), **given})
        assert problem["type"] == "urn:aijobs:problem:invalid-request"
        assert problem["errors"][0]["pointer"] == f"#/items/1{pointer}"

    @pytest.mark.parametrize("given", [None, 7, "text", [], {}, {"": {}}], ids=repr)
    def test_what_is_no_item(self, api: Api, given: Any) -> None:
        assert problem_of(api, given)["status"] == 422

    @pytest.mark.parametrize(
        "task", ["hidden", "plain", "contract.plain", "celery.ping", "batches", "", "\x00", "nobody"]
    )
    def test_other_tasks_are_unknown(self, api: Api, task: str) -> None:
        problem = problem_of(api, item("a", task))
        assert problem == problem_of(api, item("a", "no-such-task"))
        assert (problem["type"], problem["status"]) == ("urn:aijobs:problem:task-not-found", 404)

    def test_an_input_is_bounded_as_a_body(self, api: Api) -> None:
        problem = problem_of(api, item("a", input={"texts": ["x" * 1_048_576]}))
        assert (problem["type"], problem["status"]) == ("urn:aijobs:problem:body-too-large", 413)

    def test_nothing_is_echoed_but_valid_custom_ids(self, api: Api) -> None:
        secret = "sk-123456"
        for wrong in (item(f"{secret} x"), item("a", secret), item("a", input={"texts": secret}), secret):
            assert secret not in send(api, [item("right"), wrong]).text
            assert secret not in send(api, [wrong]).text

    def test_when_all_are_refused(self, api: Api) -> None:
        response = send(api, [item("a", "nobody"), 7, item("b", input={"texts": [1, 2]})])
        members = assert_problem(response, 422, "invalid-request")
        assert [fault["pointer"] for fault in members["errors"]] == [
            "#/items/0/task",
            "#/items/1",
            "#/items/2/input/texts/0",
            "#/items/2/input/texts/1",
        ]
        many = assert_problem(send(api, [item(str(number), "nobody") for number in range(200)]), 422)
        assert len(many["errors"]) == 50

    def test_many_faults_make_a_short_answer(self, api: Api) -> None:
        problem = problem_of(api, item("a", input={"texts": [1] * 100_000}))
        assert [fault["type"] for fault in problem["errors"]] == ["too_many_faults"]

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"items": []}, "#/items"),
            ({"items": {}}, "#/items"),
            ({}, "#/items"),
            ({"items": items(1_001)}, "#/items"),
            ({"items": items(1), "metadata": {"a": 1}}, "#/metadata/a"),
            ({"items": items(1), "queue": "fast"}, "#/queue"),
            ([], "#"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_what_is_no_batch(self, api: Api, body: Any, pointer: str) -> None:
        members = assert_problem(api.client.post("/jobs/batches", json=body), 422, "invalid-request")
        assert members["errors"][0]["pointer"] == pointer

    @pytest.mark.parametrize(
        "content",
        [
            b"{", b'{"items": NaN}', b'{"items": ["\\ud800"]}', b"[" * 100_000, b"null" + b" " * 9, b"\x00",
            b'{"items": [{"custom_id": "a", "task": "anything", "input": {"first": 1e999}}]}',
        ],
        ids=lambda content: repr(content[:20]),
    )  # fmt: skip
    def test_hostile_bodies(self, api: Api, content: bytes) -> None:
        response = api.client.post("/jobs/batches", content=content, headers=JSON)
        assert response.status_code in (400, 422)
        assert_problem(response, response.status_code)

    def test_a_word_is_no_number(self, api: Api) -> None:
        batch = accepted(api, [item("a", "anything", input={"first": "Infinity"})])
        assert json.loads(api.job(batch["items"][0]["job_id"]).arguments_json or "") == [["Infinity"], {}]

    def test_the_body_may_be_larger_than_that_of_a_single_job(self, api: Api) -> None:
        large = [item(f"item-{number}", input={"texts": ["x" * 900_000]}) for number in range(10)]
        assert accepted(api, large)["counts"]["total"] == 10
        assert_problem(send(api, [*large, *items(2), item("more", input={"texts": ["x" * 2_000_000]})]), 413)
        response = api.client.post("/jobs/batches", content=b"{}")
        assert_problem(response, 415, "unsupported-media-type")

    def test_jobs_are_queued_in_the_order_of_the_items(self, api: Api) -> None:
        batch = accepted(api, items(120))
        assert [one["custom_id"] for one in batch["items"]] == [f"item-{number}" for number in range(120)]
        assert sent(api)[-120:] == [one["job_id"] for one in batch["items"]]

    def test_bounds_may_be_set(self, celery_app: Celery, runtime: Runtime) -> None:
        with serving(runtime, job_router(celery_app, max_batch_items=2, max_batch_bytes=1_000)) as api:
            assert accepted(api, items(2))["counts"]["total"] == 2
            assert_problem(send(api, items(3)), 422, "invalid-request")
            assert_problem(send(api, [item("a", input={"texts": ["x" * 1_000]})]), 413, "body-too-large")
        with pytest.raises(ConfigurationError, match="max_batch_items"):
            job_router(celery_app, max_batch_items=0)
        with pytest.raises(ConfigurationError, match="max_batch_bytes"):
            job_router(celery_app, max_batch_bytes=0)

    def test_without_a_prefix(self, celery_app: Celery, runtime: Runtime) -> None:
        app = FastAPI()
        app.include_router(job_router(celery_app, prefix="", tasks={"other": "contract.plain"}), prefix="/v1")
        with serving(runtime, app=app) as api:
            batch = api.client.post("/v1/batches", json={"items": [item("a", "other", input={"x": 1})]}).json()
            assert batch["urls"]["self"] == f"/v1/batches/{batch['batch_id']}"
            for url in (batch["urls"]["self"], batch["urls"]["jobs"], batch["items"][0]["status_url"]):
                assert api.client.get(url).status_code == 200


class TestIdempotency:
    def test_the_same_content_is_the_same_batch(self, api: Api) -> None:
        headers = {"Idempotency-Key": "batch-1"}
        given = [item("a"), item("b", "nobody"), item("c", "summarise", input={"text": "t", "weight": 1})]
        first = send(api, given, headers, metadata={"x": "1", "y": "2"})
        content = json.dumps({"metadata": {"y": "2", "x": "1"}, "items": given}).replace('"weight": 1', '"weight": 1.0')
        again = api.client.post("/jobs/batches", content=content, headers={**headers, **JSON})
        assert (first.status_code, again.status_code) == (202, 202)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json() == first.json()
        assert len(api.client.get(first.json()["urls"]["jobs"]).json()["jobs"]) == 2

    @pytest.mark.parametrize(
        "other",
        [
            {"items": [item("a"), item("c")]},
            {"items": [item("b"), item("a")]},
            {"items": [item("a"), item("b", input={"texts": ["other"]})]},
            {"items": [item("a"), item("b", metadata={"k": "v"})]},
            {"items": [item("a"), item("b"), 7]},
            {"items": [item("a"), item("b")], "metadata": {"k": "v"}},
        ],
    )
    def test_other_content_is_a_conflict(self, api: Api, other: dict[str, Any]) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        send(api, [item("a"), item("b")], headers)
        response = api.client.post("/jobs/batches", json=other, headers=headers)
        assert_problem(response, 422, "idempotency-conflict")

    def test_a_key_counts_for_batches_alone(self, api: Api) -> None:
        headers = {"Idempotency-Key": "batch-2"}
        job_id = api.queue(headers=headers)
        assert job_id not in send(api, [item("a")], headers).text

    def test_at_once(self, api: Api) -> None:
        headers = {"Idempotency-Key": "batch-3"}
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda _: send(api, items(40), headers), range(6)))
        assert {reply.status_code for reply in replies} == {202}
        (batch_id,) = {reply.json()["batch_id"] for reply in replies}
        assert sum("idempotency-replayed" not in reply.headers for reply in replies) == 1
        assert get(api, batch_id)["counts"]["queued"] == 40
        of_batch = {one["job_id"] for one in replies[0].json()["items"]}
        assert sorted(job_id for job_id in sent(api) if job_id in of_batch) == sorted(of_batch)

    @pytest.mark.parametrize("key", ["", "a b", "x" * 256])
    def test_bad_keys(self, api: Api, key: str) -> None:
        response = send(api, items(1), {"Idempotency-Key": key})
        assert_problem(response, 400, "invalid-idempotency-key")


class TestState:
    def test_it_goes_from_queued_to_completed(self, api: Api) -> None:
        batch = accepted(api, items(2))
        batch_id = batch["batch_id"]
        jobs = [one["job_id"] for one in batch["items"]]
        first = api.start(jobs[0])
        running = get(api, batch_id)
        assert (running["status"], running["progress"], running["counts"]["running"]) == ("running", 0, 1)
        api.succeed(first)
        assert get(api, batch_id)["progress"] == 0.5
        api.fail(api.start(jobs[1]))
        response = api.get(f"/batches/{batch_id}")
        end = response.json()
        assert (end["status"], end["progress"]) == ("completed", 1)
        assert end["counts"] == {"total": 2, "queued": 0, "running": 0, "success": 1, "failed": 1, "revoked": 0}
        assert end["completed_at"] > end["created_at"]
        assert end["expires_at"] > end["completed_at"]
        assert "retry-after" not in response.headers
        assert end.keys() == batch.keys() - {"items", "message"}

    def test_who_has_the_current_state_is_told_so(self, api: Api) -> None:
        batch = accepted(api, items(1))
        path = f"/batches/{batch['batch_id']}"
        first = api.get(path)
        tag = {"If-None-Match": first.headers["etag"]}
        known = api.get(path, headers=tag)
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", first.headers["etag"])
        assert known.headers["retry-after"]
        api.start(batch["items"][0]["job_id"])
        assert api.get(path, headers=tag).status_code == 200

    def test_head(self, api: Api) -> None:
        path = f"/jobs/batches/{accepted(api, items(1))['batch_id']}"
        head, whole = api.client.head(path), api.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {name: head.headers[name] for name in ("etag", "content-length")} == {
            name: whole.headers[name] for name in ("etag", "content-length")
        }

    def test_a_job_that_is_run_again_opens_it_again(self, api: Api) -> None:
        batch = accepted(api, items(1))
        job_id = batch["items"][0]["job_id"]
        api.fail(api.start(job_id))
        assert get(api, batch["batch_id"])["status"] == "completed"
        assert api.client.post(f"/jobs/{job_id}/retry").status_code == 202
        again = get(api, batch["batch_id"])
        assert (again["status"], again["counts"]["queued"], again["completed_at"]) == ("queued", 1, None)
        api.succeed(api.start(job_id))
        assert get(api, batch["batch_id"])["counts"]["success"] == 1

    @pytest.mark.parametrize("batch_id", ["unknown", "%00", "x" * 300, "*", "a%3Ab", "%F0%9F%98%80", "%0a", "events"])
    def test_unknown_batches(self, api: Api, batch_id: str) -> None:
        expected = api.get(f"/batches/{uuid.uuid4()}").content
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/cancel")):
            response = api.client.request(method, f"/jobs/batches/{batch_id}{path}")
            assert_problem(response, 404, "batch-not-found")
            assert response.content == expected

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("PUT", "/jobs/batches/x", "DELETE, GET, HEAD"),
            ("GET", "/jobs/batches/x/cancel", "POST"),
            ("POST", "/jobs/batches/x/events", "GET"),
        ],
    )
    def test_wrong_methods(self, api: Api, method: str, path: str, allow: str) -> None:
        response = api.client.request(method, path)
        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == allow


class TestCancel:
    def test_all_that_is_not_over_is_cancelled(self, api: Api) -> None:
        batch = accepted(api, items(120))
        done, running = (batch["items"][number]["job_id"] for number in (0, 1))
        api.succeed(api.start(done))
        claim = api.start(running)
        response = api.client.delete(f"/jobs/batches/{batch['batch_id']}")
        body = response.json()
        assert (response.status_code, body["status"]) == (202, "running")
        assert body["cancel_requested_at"]
        assert body["counts"] == {"total": 120, "queued": 0, "running": 1, "success": 1, "failed": 0, "revoked": 118}
        assert api.job(running).cancel_requested_at is not None
        api.succeed(claim)
        again = api.client.post(batch["urls"]["cancel"])
        assert (again.status_code, again.json()["status"]) == (200, "completed")
        assert again.json()["cancel_requested_at"] == body["cancel_requested_at"]

    def test_a_completed_batch_stays_as_it_is(self, api: Api) -> None:
        batch = accepted(api, items(1))
        api.succeed(api.start(batch["items"][0]["job_id"]))
        before = get(api, batch["batch_id"])
        response = api.client.delete(f"/jobs/batches/{batch['batch_id']}")
        assert (response.status_code, response.json()) == (200, before)

    def test_python_code_cancels_it_as_well(self, api: Api) -> None:
        batch = accepted(api, items(2))
        cancel(api.runtime.app, batch["batch_id"], children=True)
        shown = get(api, batch["batch_id"])
        assert (shown["status"], shown["counts"]["revoked"]) == ("completed", 2)
        assert shown["cancel_requested_at"]

    def test_a_repeated_submission_runs_nothing(self, api: Api) -> None:
        headers = {"Idempotency-Key": "cancelled"}
        batch = accepted(api, items(2), headers=headers)
        api.client.delete(f"/jobs/batches/{batch['batch_id']}")
        again = accepted(api, items(2), headers=headers)
        assert (again["batch_id"], again["counts"]["revoked"]) == (batch["batch_id"], 2)


def caller(x_user: str = Header("")) -> str:
    return x_user


def is_admin(x_user: str = Header("")) -> bool:
    return x_user == "root"


async def allow(action: Action, owner: str | None, job: Job | None) -> bool:
    if action == "submit":
        return owner != "guest"
    return action != "cancel" or owner != "reader" or (job is not None and job.task != "contract.nightly")


@pytest.fixture(scope="module")
def private(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    router = job_router(celery_app, owner=caller, admin=is_admin, authorize=allow)
    with serving(runtime, router) as api:
        yield api


class TestOwner:
    def test_a_foreign_batch_is_unknown(self, private: Api) -> None:
        batch_id = accepted(private, items(2), headers=ANN)["batch_id"]
        for method, path in (("GET", ""), ("HEAD", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/cancel")):
            foreign = private.client.request(method, f"/jobs/batches/{batch_id}{path}", headers=BOB)
            unknown = private.client.request(method, f"/jobs/batches/{uuid.uuid4()}{path}", headers=BOB)
            assert foreign.status_code == 404
            assert foreign.content == unknown.content
            assert {**foreign.headers, "date": ""} == {**unknown.headers, "date": ""}
        assert get(private, batch_id, headers=ANN)["counts"]["queued"] == 2
        assert private.get(f"?batch_id={batch_id}", headers=BOB).json()["jobs"] == []
        assert len(private.get(f"?batch_id={batch_id}", headers=ANN).json()["jobs"]) == 2

    def test_admins_see_all(self, private: Api) -> None:
        batch = accepted(private, items(1), headers=ANN)
        assert get(private, batch["batch_id"], headers={"X-User": "root"})["batch_id"] == batch["batch_id"]
        assert private.job(batch["items"][0]["job_id"]).owner == "ann"
        assert (
            private.client.delete(f"/jobs/batches/{batch['batch_id']}", headers={"X-User": "root"}).status_code == 200
        )

    def test_keys_are_the_callers(self, private: Api) -> None:
        key = {"Idempotency-Key": "k"}
        first = accepted(private, items(1), headers={**ANN, **key})["batch_id"]
        assert accepted(private, items(1), headers={**ANN, **key})["batch_id"] == first
        assert accepted(private, items(1), headers={**BOB, **key})["batch_id"] != first

    def test_nobody_in_particular_is_refused(self, private: Api) -> None:
        assert_problem(send(private, items(1)), 403, "forbidden")
        assert_problem(private.get("/batches/x"), 403, "forbidden")

    def test_a_submission_may_be_denied(self, private: Api) -> None:
        assert_problem(send(private, items(1), {"X-User": "guest"}), 403, "forbidden")

    def test_all_is_cancelled_or_nothing(self, private: Api) -> None:
        reader = {"X-User": "reader"}
        batch = accepted(private, [*items(120), item("n", "nightly")], headers=reader)
        path = f"/jobs/batches/{batch['batch_id']}"
        assert_problem(private.client.delete(path, headers=reader), 403, "forbidden")
        assert get(private, batch["batch_id"], headers=reader)["counts"]["queued"] == 121
        private.succeed(private.start(batch["items"][-1]["job_id"]))
        assert private.client.delete(path, headers=reader).status_code == 200


class TestOutage:
    """What breaks off half-way goes on with the same key, to the same jobs."""

    @pytest.fixture
    def fragile(self, tmp_path: Path) -> Iterator[EmbeddedServer]:
        with start_server(tmp_path, use_environment=False) as server:
            yield server

    def test_the_store_hangs(self, fragile: EmbeddedServer) -> None:
        app = make_celery(fragile.url)
        with serving(setup(app), job_router(app)) as api:
            headers, members = wait_until(lambda: _broken_off(api, fragile), "a batch that breaks off")
            batch = wait_until(lambda: _retried(api, items(1_000), headers), "the store's return")
            assert batch["batch_id"] == members["batch_id"]
            assert batch["counts"]["queued"] == 1_000
            of_batch = {one["job_id"] for one in batch["items"]}
            assert sorted(job_id for job_id in sent(api) if job_id in of_batch) == sorted(of_batch)

    def test_the_broker_is_lost(
        self, server: EmbeddedServer, databases: Iterator[int], fragile: EmbeddedServer
    ) -> None:
        app = make_celery(server.url.removesuffix("0") + str(next(databases)), fragile.url)
        headers = {"Idempotency-Key": "k"}
        with serving(setup(app), job_router(app)) as api:
            with frozen(fragile):
                members = assert_problem(send(api, items(20), headers), 503, "publish-failed")
                broken = wait_until(lambda: _failed(api, members["batch_id"]), "the failure on record")
            assert broken["counts"]["queued"] == broken["counts"]["success"] == 0
            batch = wait_until(lambda: _retried(api, items(20), headers), "the broker's return")
            assert batch["batch_id"] == members["batch_id"]
            assert (batch["status"], batch["counts"]["queued"], batch["counts"]["failed"]) == ("queued", 20, 0)

    def test_without_a_key_it_cannot_go_on(self, server: EmbeddedServer, databases: Iterator[int]) -> None:
        app = make_celery(server.url.removesuffix("0") + str(next(databases)), "redis://127.0.0.1:1/0")
        with serving(setup(app), job_router(app)) as api:
            members = assert_problem(send(api, items(3)), 503, "publish-failed")
            assert "Idempotency-Key" in members["detail"]
            wait_until(lambda: _failed(api, members["batch_id"]), "the failure on record")
            response = api.client.delete(f"/jobs/batches/{members['batch_id']}")
            assert (response.status_code, response.json()["status"]) == (200, "completed")
            (job, *_) = api.get(f"?batch_id={members['batch_id']}").json()["jobs"]
            assert job["error"]["code"] == ErrorCode.PUBLISH_FAILED


def _broken_off(api: Api, server: EmbeddedServer) -> tuple[dict[str, str], dict[str, Any]] | None:
    """Key and answer of a submission during which the store began to hang; None when it was through already."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    known = api.command("KEYS", "aijobs:batch:*:record")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, api, items(1_000), headers)
        wait_until(lambda: len(api.command("KEYS", "aijobs:batch:*:record")) > len(known), "the begin of the batch")
        with frozen(server):
            response = answer.result()
    if response.status_code == 202:
        return None
    assert int(response.headers["retry-after"]) >= 1
    return headers, assert_problem(response, 503, "store-unavailable")


def _retried(api: Api, given: Any, headers: dict[str, str]) -> Any:
    response = send(api, given, headers)
    return response.json() if response.status_code == 202 else None


def _failed(api: Api, batch_id: str) -> Any:
    batch = get(api, batch_id)
    return batch if batch["counts"]["failed"] and not batch["counts"]["queued"] else None
