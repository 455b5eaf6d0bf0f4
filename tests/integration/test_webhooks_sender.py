"""Attempts, the task and the worker's thread, in this process: what is noted, what is sent on, what an outage does."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from celery import Celery

from aijobs import Settings, Webhook, setup
from aijobs.embedded import start_server
from aijobs.runtime import Runtime
from aijobs.store.deliveries import Delivery, DueAnnouncement
from aijobs.store.redis import RedisStore
from aijobs.webhooks import deliveries, deliveries_async, enable_async
from aijobs.webhooks.config import WebhookConfig, read_config
from aijobs.webhooks.delivery import Sender
from aijobs.webhooks.schedule import Schedule
from aijobs.webhooks.task import DELIVER, Dispatcher, add_webhooks, deliver, dispatching
from tests.helpers import PATIENT, frozen, new_job, wait_until

from .receiver import Receiver, receiving, status

HOST = "hooks.example.com"
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
#: Nothing is tried again within a test.
SLOW = Schedule(waits=(3_600,), jitter=0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def runtime(redis_url: str) -> Runtime:
    """An app with webhooks on."""
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    runtime = setup(app)
    settings = Settings.from_env(
        {
            "AIJOBS_WEBHOOK_SECRETS": SECRET,
            "AIJOBS_WEBHOOK_URL": f"https://{HOST}/app?token=hidden",
            "AIJOBS_STORE_TIMEOUT_SECONDS": "10",
        }
    )
    runtime.settings = settings
    add_webhooks(runtime)
    return runtime


def to_private(host: str) -> Sequence[str]:
    return ["127.0.0.1"]


def sender(runtime: Runtime, resolve: Callable[[str], Sequence[str]] = to_private, **settings: Any) -> Sender:
    config = read_config(runtime.settings.model_copy(update=settings))
    assert config is not None
    return Sender(runtime.store, config, SLOW, resolve)


def ended(runtime: Runtime, webhook: Webhook | None = None) -> DueAnnouncement:
    """The end of a job, to be told."""
    job, store = new_job(webhook=webhook), runtime.store
    store.run(store.create(job))
    store.run(store.cancel(job.id))
    return DueAnnouncement(job.id, 2)


def attempt(runtime: Runtime, due: DueAnnouncement, by: Sender) -> tuple[str, int | str | None]:
    delivery = by.deliver(due)
    assert isinstance(delivery, Delivery)
    assert list(deliveries(runtime.app, due.job_id))[-1] == delivery
    return delivery.outcome, delivery.status_code or delivery.error


def test_a_name_that_leads_elsewhere_by_the_next_attempt_is_refused(runtime: Runtime, receiver: Receiver) -> None:
    answers = iter([[], ["127.0.0.1"], ["8.8.8.8"]])
    by = sender(runtime, lambda host: next(answers))
    due = ended(runtime, Webhook(f"https://{HOST}:{receiver.port}/"))
    assert attempt(runtime, due, by) == ("retrying", "dns")
    with redis.Redis.from_url(runtime.store_url) as client:
        client.hdel(f"aijobs:webhook:{due.job_id}:2", "next")
    assert attempt(runtime, due, by) == ("refused", "address")
    assert by.deliver(due) is None
    assert list(next(answers)) == ["8.8.8.8"], "it was looked up once for each attempt"
    assert receiver.got == []


def test_an_address_that_is_not_allowed_any_more_is_refused(runtime: Runtime, receiver: Receiver) -> None:
    opened = sender(runtime, webhook_allow_private=True)
    url = receiver.url("/", HOST)
    assert attempt(runtime, ended(runtime, Webhook(url)), opened) == ("delivered", 204)
    assert attempt(runtime, ended(runtime, Webhook(url)), sender(runtime)) == ("refused", "address")
    # Nor is there one without an address of the app's own.
    assert attempt(runtime, ended(runtime), sender(runtime, webhook_url=None)) == ("refused", "address")
    assert len(receiver.got) == 1


def test_an_event_that_is_too_old_is_given_up(runtime: Runtime, receiver: Receiver) -> None:
    receiver.replies["/"] = status(500)
    by = sender(runtime, webhook_allow_private=True)
    short = Sender(by.store, by.config, Schedule(waits=(5,), lifetime=4, jitter=0), by.resolve)
    due = ended(runtime, Webhook(receiver.url("/", HOST)))
    assert attempt(runtime, due, short) == ("given_up", 500)
    assert by.deliver(due) is None


def test_a_mistake_of_ours_is_an_attempt_like_others(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    def broken(host: str) -> Sequence[str]:
        raise LookupError("a mistake")

    assert attempt(runtime, ended(runtime), sender(runtime, broken)) == ("retrying", "internal")
    assert "could not be sent" in caplog.text
    assert "hidden" not in caplog.text


def test_the_task_makes_one_attempt(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    due = ended(runtime)
    task = runtime.app.tasks[DELIVER]
    task.resolve, task.schedule = to_private, SLOW
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            deliver(task, due.job_id, due.seq)
    assert [record.getMessage() for record in caplog.records if record.name == "aijobs.webhooks.task"] == [
        f"Webhook of job {due.job_id}, attempt 1: refused (address)"
    ]


def test_a_worker_without_secrets_leaves_events_to_others(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    due = ended(runtime)
    runtime.settings = PATIENT
    deliver(runtime.app.tasks[DELIVER], due.job_id, due.seq)
    assert "This worker has no AIJOBS_WEBHOOK_SECRETS" in caplog.text
    assert list(deliveries(runtime.app, due.job_id)) == []


@pytest.mark.anyio
async def test_the_log_and_the_switch_from_an_event_loop(runtime: Runtime, receiver: Receiver) -> None:
    receiver.replies["/app"] = status(410)
    url = receiver.url("/app", HOST)
    settings = Settings.from_env(
        {"AIJOBS_WEBHOOK_SECRETS": SECRET, "AIJOBS_WEBHOOK_URL": url, "AIJOBS_WEBHOOK_ALLOW_PRIVATE": "true"}
    )
    config = read_config(settings)
    assert config is not None
    due = ended(runtime)
    assert attempt(runtime, due, Sender(runtime.store, config, SLOW, to_private)) == ("gone", 410)
    assert [one.outcome for one in await deliveries_async(runtime.app, due.job_id)] == ["gone"]
    assert await enable_async(runtime.app, url)
    assert not await enable_async(runtime.app, url)
    await runtime.store.aclose()


# --- the worker's thread -------------------------------------------------------------------------------------------


def configured(runtime: Runtime, **settings: Any) -> WebhookConfig:
    config = read_config(runtime.settings.model_copy(update=settings))
    assert config is not None
    return config


def dispatcher(runtime: Runtime, **settings: Any) -> Dispatcher:
    return Dispatcher(runtime.app, configured(runtime, **settings))


def messages(client: redis.Redis, queue: str) -> list[Any]:
    found: Any = client.lrange(queue, 0, -1)
    return [json.loads(message) for message in found]


def test_each_due_event_is_sent_once(runtime: Runtime, redis_client: redis.Redis) -> None:
    events = [ended(runtime) for _ in range(3)]
    by = dispatcher(runtime)
    assert (by.dispatch(), by.dispatch()) == (3, 0)
    sent = messages(redis_client, "celery")
    bodies = [json.loads(base64.b64decode(message["body"]))[:2] for message in sent]
    assert sorted(bodies) == sorted([[due.job_id, due.seq], {}] for due in events)
    assert {message["headers"]["task"] for message in sent} == {DELIVER}
    # Before any job, since the queue of priority 0 is looked at first.
    assert {message["properties"]["priority"] for message in sent} == {0}
    assert "hidden" not in str(sent)
    assert SECRET not in str(sent)


def test_what_is_sent_leaves_no_record(runtime: Runtime) -> None:
    ended(runtime)
    dispatcher(runtime).dispatch()
    stats = runtime.store.run(runtime.store.stats([DELIVER]))
    assert sum(stats.tasks[DELIVER].values()) == 0


def test_a_queue_of_its_own(runtime: Runtime, redis_client: redis.Redis) -> None:
    ended(runtime)
    dispatcher(runtime, webhook_queue="hooks").dispatch()
    assert len(messages(redis_client, "hooks")) == 1
    assert messages(redis_client, "celery") == []


def test_the_thread_sends_what_becomes_due(runtime: Runtime, redis_client: redis.Redis) -> None:
    by = dispatching(runtime.app, configured(runtime))
    by.start()
    try:
        events = [ended(runtime) for _ in range(120)]
        wait_until(lambda: len(messages(redis_client, "celery")) == len(events), "the tasks")
    finally:
        by.stop()
    wait_until(lambda: not _is_running("aijobs-webhooks"), "the thread's end")


def test_an_outage_is_told_once_and_gets_over(caplog: pytest.LogCaptureFixture) -> None:
    with start_server(use_environment=False) as server:
        app = Celery(broker=server.url, backend=server.url, set_as_current=False)
        runtime = setup(app)
        environ = {"WEBHOOK_SECRETS": SECRET, "WEBHOOK_URL": f"https://{HOST}/", "STORE_TIMEOUT_SECONDS": "0.2"}
        runtime.settings = Settings.from_env({f"AIJOBS_{name}": value for name, value in environ.items()})
        add_webhooks(runtime)
        by = dispatching(app, configured(runtime))
        by.start()
        try:
            with frozen(server):
                wait_until(lambda: _complaints(caplog), "the complaint")
            patient = RedisStore(server.url, runtime.settings.model_copy(update={"store_timeout_seconds": 10}))
            job = new_job()
            patient.run(patient.create(job))
            patient.run(patient.cancel(job.id))
            with redis.Redis.from_url(server.url) as client:
                wait_until(lambda: messages(client, "celery"), "the task")
        finally:
            by.stop()
            wait_until(lambda: not _is_running("aijobs-webhooks"), "the thread's end")


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.getMessage() for record in caplog.records if record.name == "aijobs.webhooks.task"]
    return [text for text in told if text.startswith("Webhooks are told later: ")]


def _is_running(name: str) -> bool:
    return any(thread.name == name for thread in threading.enumerate())
