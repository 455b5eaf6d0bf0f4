"""A message that is pushed with its record is the message that stock Celery would have sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Exchange, Queue

from aijobs import JobStatus, StoreUnavailable, setup, submit
from aijobs.broker.outbox import Outbox, can_push
from aijobs.runtime import runtime_of

SOON = datetime(2100, 1, 1, tzinfo=UTC)
ARGUMENTS: tuple[Any, ...] = (["text ✓", {"nested": [1, None]}],)


def stock_app(url: str, prepare: Callable[[Celery], Any] = lambda app: None, **conf: Any) -> Celery:
    app = Celery("outbox", broker=url, backend=url, set_as_current=False)
    app.conf.update(task_queues=(Queue("gpu", Exchange("gpu"), "gpu"), Queue("celery")), **conf)
    prepare(app)

    @app.task(name="embed", shared=False)
    def embed(texts: Any, model: str = "small") -> None: ...

    app.finalize()
    return app


def app_of(url: str, **conf: Any) -> Celery:
    return stock_app(url, setup, **conf)


class Broker:
    """Looks at the queues of a server as its worker would."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def take(self) -> tuple[str, dict[str, Any]]:
        """The only message there is, and the list it is in."""
        (key,) = [key for key in self._client.scan_iter() if self._client.type(key) == b"list"]
        (body,) = self._client.lrange(key, 0, -1)
        self._client.delete(key)
        return key.decode(), self._comparable(json.loads(body))

    def _comparable(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message with what is new in each taken out."""
        assert message["properties"]["body_encoding"] == "base64"
        assert len(message["properties"].pop("delivery_tag")) == 36
        assert len(message["properties"].pop("reply_to")) == 36
        if "expiration" in message["properties"]:
            assert int(message["properties"].pop("expiration")) > 0
        job_id = message["headers"]["id"]
        cleaned: dict[str, Any] = json.loads(json.dumps(message).replace(job_id, "the id"))
        return cleaned


@pytest.fixture
def broker(redis_client: redis.Redis) -> Broker:
    return Broker(redis_client)


@pytest.fixture
def stock(redis_url: str) -> Iterator[Celery]:
    """An app without aijobs, but for what it says of priorities."""
    app = stock_app(redis_url, task_default_priority=3)
    yield app
    app.close()


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "highest": {"priority": 0},
    "between": {"priority": 4},
    "lowest": {"priority": 9},
    "beyond": {"priority": 200},
    "eta": {"eta": SOON},
    "expires": {"expires": SOON},
    "queue": {"queue": "gpu"},
    "unknown queue": {"queue": "unheard:of"},
    "queue object": {"queue": Queue("gpu", Exchange("gpu"), "gpu")},
    "headers": {"headers": {"tenant": "a"}, "correlation_id": "c", "app_id": "x"},
    "limits": {"time_limit": 10, "soft_time_limit": 5},
    "serializer": {"serializer": "yaml"},
    "compression": {"compression": "gzip"},
    "transient": {"delivery_mode": 1},
    "ignored": {"ignore_result": True, "shadow": "other name"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_the_message_of_stock_celery(
    redis_url: str, broker: Broker, stock: Celery, options: dict[str, Any]
) -> None:
    stock.tasks["embed"].apply_async(ARGUMENTS, {"model": "large"}, **options)
    theirs = broker.take()
    job = submit(app_of(redis_url).tasks["embed"], ARGUMENTS, {"model": "large"}, **options)
    ours = broker.take()
    assert ours == theirs
    assert job.status is JobStatus.QUEUED


@pytest.mark.parametrize(
    "transport",
    [
        {"global_keyprefix": "team:"},
        {"sep": ":"},
        {"priority_steps": list(range(10))},
        {"priority_steps": [0, 5], "sep": "-", "global_keyprefix": "x"},
        {"queue_order_strategy": "priority"},
    ],
    ids=str,
)
@pytest.mark.parametrize("priority", [0, 1, 5, 9])
def test_the_list_is_the_one_of_the_transports_options(
    redis_url: str, broker: Broker, transport: dict[str, Any], priority: int
) -> None:
    stock = stock_app(redis_url, broker_transport_options=transport)
    stock.tasks["embed"].apply_async(ARGUMENTS, priority=priority)
    stock.close()
    theirs = broker.take()
    submit(app_of(redis_url, broker_transport_options=transport).tasks["embed"], ARGUMENTS, priority=priority)
    assert broker.take() == theirs


def test_routes_and_options_of_the_app_apply(redis_url: str, broker: Broker) -> None:
    conf: dict[str, Any] = {"task_routes": {"embed": {"queue": "gpu"}}, "task_default_delivery_mode": "transient"}
    stock = stock_app(redis_url, task_default_priority=3, **conf)
    stock.tasks["embed"].apply_async(ARGUMENTS)
    stock.close()
    theirs = broker.take()
    job = submit(app_of(redis_url, **conf).tasks["embed"], ARGUMENTS)
    assert broker.take() == theirs
    assert job.queue == "gpu"


def test_a_message_goes_to_the_brokers_database(redis_url: str) -> None:
    other = redis_url.replace("/0", "/2")
    app = app_of(redis_url)
    app.conf.broker_url = other
    submit(app.tasks["embed"], ARGUMENTS)
    with redis.Redis.from_url(other) as client:
        assert Broker(client).take()[1]["headers"]["task"] == "embed"


@pytest.mark.parametrize(
    "broker_url",
    [
        "memory://",
        "redis://localhost:1/0",
        "amqp://guest@localhost//",
        "redis://localhost:1/0;redis://localhost:2/0",
        ["redis://localhost:1/0", "redis://localhost:2/0"],
    ],
    ids=str,
)
def test_another_server_gets_its_messages_by_itself(redis_url: str, broker_url: Any) -> None:
    app = Celery("elsewhere", broker=broker_url, backend=redis_url, set_as_current=False)
    setup(app)
    assert Outbox.of(runtime_of(app)) is None


@pytest.mark.parametrize(
    ("options", "pushable"),
    [
        ({}, True),
        ({"queue": None}, True),
        ({"queue": "gpu"}, True),
        ({"queue": Queue("gpu", Exchange("gpu", type="direct"))}, True),
        ({"queue": Queue("gpu", Exchange("gpu", type="topic"))}, False),
        ({"queue": Queue("gpu", Exchange("gpu", type="fanout"))}, False),
        ({"queue": Queue("gpu", Exchange("gpu"), expires=60)}, False),
        ({"exchange": "x", "routing_key": "y"}, False),
    ],
    ids=str,
)
def test_what_an_exchange_routes_is_left_to_celery(options: dict[str, Any], pushable: bool) -> None:
    assert can_push(options) is pushable


def test_what_is_not_pushed_still_has_its_record(redis_url: str, broker: Broker) -> None:
    app = app_of(redis_url)
    with app.connection_for_write() as connection:
        app.amqp.queues["gpu"](connection.default_channel).declare()
    job = submit(app.tasks["embed"], ARGUMENTS, exchange="gpu", routing_key="gpu")
    key, message = broker.take()
    assert key.startswith("gpu")
    assert message["headers"]["task"] == "embed"
    assert job.status is JobStatus.QUEUED


def test_nothing_is_sent_without_a_record(redis_url: str, redis_client: redis.Redis) -> None:
    app = app_of(redis_url)
    redis_client.set("celery\x06\x163", "not a list", ex=60)
    before = redis_client.dbsize()
    with pytest.raises(StoreUnavailable):
        submit(app.tasks["embed"], ARGUMENTS)
    assert redis_client.dbsize() == before
