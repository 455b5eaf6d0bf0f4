"""Webhooks over HTTP: asking for one, its log, and what OpenAPI says."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from fastapi import Depends, FastAPI, Header
from openapi_schema_validator import validate as assert_valid
from openapi_spec_validator import validate

import aijobs
from aijobs import ConfigurationError, InvalidWebhook, Settings, Webhook, setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.job import EventType, JobStatus
from aijobs.runtime import Runtime
from aijobs.store.deliveries import Announcement, Delivery, DeliveryOutcome, DueAnnouncement
from aijobs.webhooks.delivery import write_body

from .conftest import Api, assert_problem, make_celery, serving

URL = "https://hooks.example.com/path?token=hidden"
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


def caller(x_user: str | None = Header(None)) -> str:
    return x_user or "ann"


@pytest.fixture(scope="module")
def celery_app(server: EmbeddedServer, databases: Iterator[int]) -> Celery:
    """An app with webhooks on."""
    app = make_celery(server.url.removesuffix("0") + str(next(databases)))
    setup(app).settings = Settings.from_env({"AIJOBS_WEBHOOK_SECRETS": SECRET})
    return app


@pytest.fixture(scope="module")
def api(celery_app: Celery) -> Iterator[Api]:
    router = job_router(celery_app, webhooks=True, owner=caller)
    with serving(setup(celery_app), router) as api:
        yield api


def submit(api: Api, **webhook: Any) -> Any:
    return api.submit(body={"texts": ["a"], "webhook": webhook})


def log_attempt(runtime: Runtime, job_id: str, outcome: DeliveryOutcome, **known: Any) -> Delivery:
    """An attempt as a worker notes it."""
    store = runtime.store
    due = next(one for one in store.run(store.take_announcements(100, 60)) if one.job_id == job_id)
    announcement = store.run(store.begin_delivery(due, "", 60))
    assert announcement is not None
    at = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    delivery = Delivery(due.seq, EventType.COMPLETED, announcement.attempt, at, 0.25, outcome, **known)
    assert store.run(store.settle_delivery(due, "", delivery))
    return delivery


def test_a_client_names_its_webhook(api: Api) -> None:
    response = submit(api, url=URL, events=["job.status", "job.completed"])
    assert response.status_code == 202
    assert "hidden" not in response.text
    job = api.job(response.json()["job_id"])
    assert job.webhook == Webhook(URL, ("job.status", "job.completed"))
    assert "hidden" not in api.get(f"/{job.id}").text
    plain = api.job(submit(api, url=URL).json()["job_id"])
    assert plain.webhook == Webhook(URL, ("job.completed",))


def test_python_code_names_a_webhook(celery_app: Celery, api: Api) -> None:
    task = next(task for name, task in celery_app.tasks.items() if name.endswith("embed"))
    with pytest.raises(InvalidWebhook):
        aijobs.submit(task, (["a"],), webhook=Webhook("https://10.0.0.1/"))
    job = aijobs.submit(task, (["a"],), webhook=Webhook(URL))
    assert api.job(job.id).webhook == Webhook(URL)


def test_without_a_secret_python_code_cannot_name_one(server: EmbeddedServer, databases: Iterator[int]) -> None:
    app = make_celery(server.url.removesuffix("0") + str(next(databases)))
    task = next(task for name, task in app.tasks.items() if name.endswith("embed"))
    with pytest.raises(ConfigurationError, match="AIJOBS_WEBHOOK_SECRETS"):
        aijobs.submit(task, (["a"],), webhook=Webhook(URL))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://10.0.0.1/hidden",
        "https://localhost/hidden",
        "https://u:p@example.com/",
        "",
    ],
)
def test_an_address_that_is_not_allowed_is_refused(api: Api, url: str) -> None:
    members = assert_problem(submit(api, url=url), 422)
    assert members["errors"][0]["pointer"].startswith("#/webhook")
    assert "The webhook's address" in str(members["errors"])
    assert "hidden" not in str(members)


@pytest.mark.parametrize("events", [[], ["job.progress"], "job.completed", None])
def test_events_that_webhooks_do_not_tell_are_refused(api: Api, events: Any) -> None:
    members = assert_problem(submit(api, url=URL, events=events), 422)
    assert "EventType" not in json.dumps(members)


def test_the_log_shows_each_attempt(api: Api) -> None:
    job_id = submit(api, url=URL).json()["job_id"]
    assert api.get(f"/{job_id}/webhooks").json() == {"deliveries": []}
    api.client.delete(f"/jobs/{job_id}")
    seq = api.job(job_id).seq
    following = datetime(2026, 1, 2, 3, 4, 10, tzinfo=UTC)
    log_attempt(api.runtime, job_id, DeliveryOutcome.RETRYING, error="timeout", next_attempt_at=following)
    response = api.get(f"/{job_id}/webhooks")
    assert response.status_code == 200
    assert response.headers["cache-control"] == api.get(f"/{job_id}").headers["cache-control"]
    assert response.json() == {
        "deliveries": [
            {
                "seq": seq,
                "event": "job.completed",
                "attempt": 1,
                "at": "2026-01-02T03:04:05.678Z",
                "duration_seconds": 0.25,
                "outcome": "retrying",
                "status_code": None,
                "error": "timeout",
                "next_attempt_at": "2026-01-02T03:04:10.000Z",
            }
        ]
    }
    # What was due in the past may be told again now.
    due, store = DueAnnouncement(job_id, seq), api.runtime.store
    assert store.run(store.begin_delivery(due, "", 60)) is not None
    at = datetime.now(UTC)
    store.run(
        store.settle_delivery(
            due, "", Delivery(seq, EventType.COMPLETED, 2, at, 0.1, DeliveryOutcome.DELIVERED, status_code=204)
        )
    )
    last = api.get(f"/{job_id}/webhooks").json()["deliveries"][-1]
    assert (last["attempt"], last["outcome"], last["status_code"], last["next_attempt_at"]) == (
        2,
        "delivered",
        204,
        None,
    )
    assert api.client.head(f"/jobs/{job_id}/webhooks").content == b""


def test_the_log_of_anothers_job_is_like_that_of_none(api: Api) -> None:
    job_id = submit(api, url=URL).json()["job_id"]
    foreign = api.get(f"/{job_id}/webhooks", headers={"X-User": "bob"})
    unknown = api.get(f"/{uuid.uuid4()}/webhooks", headers={"X-User": "bob"})
    assert_problem(foreign, 404, "job-not-found")
    assert foreign.content == unknown.content
    assert sorted(foreign.headers) == sorted(unknown.headers)


def test_the_webhook_counts_for_idempotency(api: Api) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    bodies = [{"texts": ["a"], "webhook": {"url": url}} for url in (URL, URL, "https://other.example.com/")]
    statuses = [api.submit(body=body, headers=key).status_code for body in bodies]
    assert statuses == [202, 202, 422]


def test_a_retry_keeps_the_webhook(api: Api) -> None:
    job_id = submit(api, url=URL).json()["job_id"]
    api.client.delete(f"/jobs/{job_id}")
    assert api.client.post(f"/jobs/{job_id}/retry").status_code == 202
    assert api.job(job_id).webhook == Webhook(URL, ("job.completed",))


def test_openapi_has_the_callback_and_the_log(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app, webhooks=True))
    app.include_router(job_router(celery_app, webhooks=True, prefix="/v2/jobs"))
    document = app.openapi()
    validate(document)
    ((expression, item),) = document["paths"]["/jobs/embed"]["post"]["callbacks"]["job_event"].items()
    assert expression == "{$request.body#/webhook/url}"
    told = item["post"]
    assert {header["name"] for header in told["parameters"]} == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert {"2XX", "410"} == told["responses"].keys()
    assert "WebhookLog" in document["components"]["schemas"]
    assert "webhook" in str(document["paths"]["/jobs/embed"]["post"]["requestBody"]) + str(document["components"])


def test_what_is_sent_is_what_openapi_says(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app, webhooks=True))
    (item,) = app.openapi()["paths"]["/jobs/embed"]["post"]["callbacks"]["job_event"].values()
    schema = item["post"]["requestBody"]["content"]["application/json"]["schema"]
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    announcement = Announcement(
        EventType.COMPLETED, at, "contract.embed", JobStatus.SUCCESS, 1, 3, 1, at, "b", {"k": "v"}
    )
    for public_url in (None, "https://api.example.com/jobs"):
        assert_valid(json.loads(write_body(DueAnnouncement("id", 3), announcement, public_url)), schema)


def test_clients_cannot_name_a_webhook_unless_it_is_opened(celery_app: Celery) -> None:
    app = FastAPI()
    app.include_router(job_router(celery_app, dependencies=[Depends(caller)]))
    document = app.openapi()
    assert "callbacks" not in document["paths"]["/jobs/embed"]["post"]
    assert "/jobs/{job_id}/webhooks" in document["paths"]
    with serving(setup(celery_app), job_router(celery_app)) as closed:
        response = closed.submit(body={"texts": ["a"], "webhook": {"url": URL}})
        assert_problem(response, 422)


def test_without_webhooks_there_is_no_route(server: EmbeddedServer, databases: Iterator[int]) -> None:
    app = FastAPI()
    app.include_router(job_router(make_celery(server.url.removesuffix("0") + str(next(databases)))))
    assert "/jobs/{job_id}/webhooks" not in app.openapi()["paths"]


def test_opening_them_without_secrets_says_what_is_missing(server: EmbeddedServer, databases: Iterator[int]) -> None:
    app = make_celery(server.url.removesuffix("0") + str(next(databases)))
    with pytest.raises(ConfigurationError, match=r"job_router\(webhooks=True\) needs AIJOBS_WEBHOOK_SECRETS"):
        job_router(app, webhooks=True)
