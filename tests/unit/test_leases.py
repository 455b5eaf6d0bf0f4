"""The transport message by message, on a real server: what is held, acknowledged, returned, reaped and found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kombu
import pytest
import redis
from celery import Celery
from redis.exceptions import ResponseError

from aijobs import setup
from aijobs.broker.held import (
    DELIVERIES,
    FETCH,
    FRONT,
    HELD,
    RENEW,
    SESSIONS,
    Session,
    lost_deliveries,
    reap,
    redelivered,
    session_id,
)
from aijobs.broker.keeper import Keeper
from aijobs.broker.leases import lease_entries, lease_of
from aijobs.broker.presence import list_keys, present
from aijobs.broker.renewal import Continuity
from aijobs.store.line import Line
from tests.helpers import wait_until

QUEUE = "unit"


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = Celery("leases", broker=redis_url, backend=redis_url, set_as_current=False)
    setup(app)
    yield app
    app.close()


@pytest.fixture
def connection(app: Celery) -> Iterator[kombu.Connection]:
    with app.connection_for_read() as connection:
        yield connection


@pytest.fixture
def line(redis_url: str) -> Iterator[Line]:
    pool = redis.ConnectionPool.from_url(redis_url)
    line = Line(pool)
    yield line
    line.close()


@contextmanager
def consumer(connection: kombu.Connection, *queues: str, prefetch: int = 1, **options: Any) -> Iterator[list[Any]]:
    """What has arrived on a channel of its own."""
    arrived: list[Any] = []
    with connection.channel() as channel:
        channel.basic_qos(prefetch_count=prefetch)
        names = [kombu.Queue(queue, routing_key=queue) for queue in queues or (QUEUE,)]
        with kombu.Consumer(channel, names, on_message=arrived.append, accept=["json"], **options):
            yield arrived


def publish(connection: kombu.Connection, *bodies: Any, **options: Any) -> None:
    with connection.Producer() as producer:
        for body in bodies:
            producer.publish(body, routing_key=QUEUE, declare=[kombu.Queue(QUEUE, routing_key=QUEUE)], **options)


def drain(connection: kombu.Connection, arrived: list[Any], number: int) -> list[Any]:
    while len(arrived) < number:
        connection.drain_events(timeout=10)
    return arrived


def held(client: Any, session: str | None = None) -> dict[bytes, bytes]:
    found: Any = client.hgetall(HELD + (session or session_id()))
    return dict(found)


def queued(client: Any, queue: str = QUEUE) -> list[dict[str, Any]]:
    """The messages of a queue, the next one first."""
    items: Any = client.lrange(queue, 0, -1)
    return [json.loads(item) for item in reversed(items)]


def bodies(messages: list[Any]) -> list[Any]:
    return [message.payload for message in messages]


def test_a_message_is_held_until_it_is_acknowledged(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, 1)
    (text,) = redis_client.lrange(QUEUE, 0, -1)
    with consumer(connection) as arrived:
        (message,) = drain(connection, arrived, 1)
        assert held(redis_client) == {message.delivery_tag.encode(): QUEUE.encode() + b"\n" + text}
        now = redis_client.time()[0]
        assert 20 < redis_client.zscore(SESSIONS, session_id()) / 1_000 - now <= 33
        message.ack()
        assert not redis_client.exists(HELD + session_id(), SESSIONS, QUEUE)


def test_a_fetch_takes_no_more_than_may_be_held(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, *range(6))
    with consumer(connection, prefetch=4) as arrived:
        drain(connection, arrived, 4)
        assert (len(held(redis_client)), redis_client.llen(QUEUE)) == (4, 2)
    assert [message["headers"].get("redelivered") for message in queued(redis_client)] == [True] * 4 + [None] * 2


def test_what_a_closing_channel_gives_back_keeps_its_order(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, *range(3))
    with consumer(connection, prefetch=2) as arrived:
        drain(connection, arrived, 2)
    assert not redis_client.exists(HELD + session_id(), SESSIONS)
    with consumer(connection, prefetch=3) as arrived:
        assert bodies(drain(connection, arrived, 3)) == [0, 1, 2]
        assert [lost_deliveries(message) for message in arrived] == [0, 0, 0]


@pytest.mark.parametrize(("lost", "order"), [(0, [1, 2, 1]), (2, [1, 1, 2])], ids=["to the end", "to the front"])
def test_a_rejected_message_goes_back_with_its_count(
    connection: kombu.Connection, redis_client: Any, lost: int, order: list[int]
) -> None:
    publish(connection, 1, 2)
    with consumer(connection) as arrived:
        (message,) = drain(connection, arrived, 1)
        message.headers[DELIVERIES] = lost
        message.reject(requeue=True)
        assert not held(redis_client)
        for number in (2, 3):
            drain(connection, arrived, number)[-1].ack()
        assert bodies(arrived) == order
        (again,) = (message for message in arrived[1:] if message.payload == 1)
        assert (lost_deliveries(again), again.headers["redelivered"]) == (lost, True)
    assert not redis_client.exists(QUEUE, HELD + session_id(), SESSIONS)


def test_an_acknowledgement_of_an_older_delivery_hits_nothing(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, 1)
    with consumer(connection, prefetch=2) as arrived:
        (old,) = drain(connection, arrived, 1)
        lease = old.channel.lease
        assert lease.session.give_back(lease.line, old.delivery_tag, None, FRONT)
        drain(connection, arrived, 2)
        old.ack()
        assert list(held(redis_client)) == [arrived[1].delivery_tag.encode()]
        assert not lease.session.give_back(lease.line, old.delivery_tag, None, FRONT)
        arrived[1].ack()


def test_what_needs_no_acknowledgement_is_not_held(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, 1)
    with consumer(connection, no_ack=True) as arrived:
        drain(connection, arrived, 1)
        assert not redis_client.exists(HELD + session_id(), SESSIONS, QUEUE)


def test_single_gets_are_held_as_well(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, 1, 2)
    with connection.channel() as channel:
        first = channel.basic_get(QUEUE)
        assert channel.basic_get(QUEUE, no_ack=True).payload == 2
        assert channel.basic_get(QUEUE) is None
        assert len(held(redis_client)) == 1
        first.ack()
    assert not redis_client.exists(HELD + session_id(), SESSIONS, QUEUE)


def test_broadcasts_arrive_and_are_not_held(connection: kombu.Connection, redis_client: Any) -> None:
    exchange = kombu.Exchange("everybody", type="fanout")
    queue = kombu.Queue("mine", exchange, auto_delete=True)
    arrived: list[Any] = []
    with connection.channel() as channel, kombu.Consumer(channel, [queue], on_message=arrived.append, accept=["json"]):
        # The first event is the server's answer to the subscription.
        connection.drain_events(timeout=5)
        connection.Producer().publish("hello", exchange=exchange)
        (message,) = drain(connection, arrived, 1)
        assert not redis_client.exists(HELD + session_id(), SESSIONS)
        message.ack()


def test_queues_take_turns(connection: kombu.Connection, redis_client: Any) -> None:
    with connection.Producer() as producer:
        for number in range(3):
            for queue in ("left", "right"):
                declared = [kombu.Queue(queue, routing_key=queue)]
                producer.publish([queue, number], routing_key=queue, declare=declared)
    with consumer(connection, "left", "right", prefetch=0) as arrived:
        sides = [side for side, _ in bodies(drain(connection, arrived, 6))]
        assert sides in (["left", "right"] * 3, ["right", "left"] * 3)
        for message in arrived:
            message.ack()
    assert not redis_client.exists(HELD + session_id(), SESSIONS)


def test_a_lost_answer_to_a_fetch_loses_no_message(connection: kombu.Connection, redis_client: Any) -> None:
    with consumer(connection) as arrived:
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)
        channel = connection.transport.channels[-1]
        wait_until(lambda: channel._asked is None or connection.drain_events(timeout=2), "the answer")
        channel._finish_poll()
        publish(connection, 1)
        channel._brpop_start()
        wait_until(lambda: held(redis_client), "the fetch")
        channel.client.connection.disconnect()
        assert bodies(drain(connection, arrived, 1)) == [1]
        arrived[0].ack()
    assert not redis_client.exists(QUEUE, HELD + session_id(), SESSIONS)


def test_a_fetch_that_a_hanging_server_executes_late_loses_no_message(
    connection: kombu.Connection, redis_client: Any, line: Line
) -> None:
    publish(connection, 1)
    lease = connection.default_channel.lease
    fetch = lease.fetch([QUEUE], 1)
    lease.undo(fetch)
    lease.settle()
    assert not lease.has_news
    line.call("EVAL", FETCH.text, *fetch.words)
    assert len(held(redis_client)) == 1
    lease.look_again()
    assert (len(held(redis_client)), redis_client.llen(QUEUE)) == (0, 1)
    redis_client.delete(QUEUE)


def test_many_acknowledgements_go_in_portions(connection: kombu.Connection, redis_client: Any) -> None:
    lease = connection.default_channel.lease
    tags = [f"many{number}" for number in range(2_500)]
    redis_client.hset(HELD + session_id(), mapping=dict.fromkeys(tags, "x"))
    for tag in tags:
        lease.ack(tag)
    assert len(lease.fetch([QUEUE], 1).acks) == 1_000
    lease.settle()
    assert redis_client.hlen(HELD + session_id()) == 1_000
    redis_client.delete(HELD + session_id())


def test_a_key_that_is_no_list_does_not_hide_messages(connection: kombu.Connection, redis_client: Any) -> None:
    publish(connection, 1)
    with consumer(connection, prefetch=4) as arrived:
        redis_client.hset(f"{QUEUE}\x06\x163", "a", "hash")
        drain(connection, arrived, 1)[0].ack()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            connection.drain_events(timeout=5)
        redis_client.delete(f"{QUEUE}\x06\x163")


def message_text(**headers: Any) -> bytes:
    properties = {"delivery_info": {"exchange": "", "routing_key": QUEUE}, "delivery_tag": "t"}
    return json.dumps({"body": "MQ==", "headers": headers, "properties": properties}).encode()


def lose(line: Line, name: str, *texts: bytes) -> None:
    """A session that held something and whose lease has passed."""
    session = Session(name, "", 1)
    for number, text in enumerate(texts):
        session.book(line, str(number), QUEUE.encode() + b"\n" + text)


def server_time(line: Line) -> int:
    seconds, micros = line.call("TIME")
    return int(seconds) * 1_000 + int(micros) // 1_000


def reap_all(line: Line, session: Session) -> list[str]:
    return list(reap(line, session, server_time(line) + 60_000))


def test_what_a_lost_session_held_goes_back_counted(line: Line, redis_client: Any) -> None:
    lose(line, "lost", message_text(id="a"), message_text(id="b", aijobs_deliveries=2))
    session = Session("mine", "", 30_000)
    wait_until(lambda: len(reap_all(line, session)) == 2, "the reaping")
    counted = {message["headers"]["id"]: message["headers"][DELIVERIES] for message in queued(redis_client)}
    assert counted == {"a": 1, "b": 3}
    assert all(message["properties"]["delivery_info"]["redelivered"] for message in queued(redis_client))
    assert not redis_client.exists(HELD + "lost", SESSIONS)
    redis_client.delete(QUEUE)


def test_what_is_no_message_goes_back_as_it_was(line: Line, redis_client: Any) -> None:
    lose(line, "lost", b"no message\nof two lines")
    wait_until(lambda: reap_all(line, Session("mine", "", 30_000)), "the reaping")
    assert redis_client.rpop(QUEUE) == b"no message\nof two lines"


def test_a_live_session_is_left_alone(line: Line, redis_client: Any) -> None:
    session = Session("alive", "", 60_000)
    session.book(line, "1", QUEUE.encode() + b"\n" + message_text())
    assert reap_all(line, Session("mine", "", 30_000)) == []
    session.forget(line, ["1"])
    assert not redis_client.exists(HELD + "alive", SESSIONS, QUEUE)


def test_a_reaper_that_is_late_takes_nothing(line: Line, redis_client: Any) -> None:
    lose(line, "lost", message_text())
    session = Session("mine", "", 30_000)
    assert list(reap(line, session, server_time(line) - 1)) == []
    wait_until(lambda: reap_all(line, session), "the reaping")
    redis_client.delete(QUEUE)


def test_two_reapers_return_a_message_once(line: Line, redis_client: Any) -> None:
    lose(line, "lost", *[message_text(id=str(number)) for number in range(20)])
    session = Session("mine", "", 30_000)
    wait_until(lambda: server_time(line) > float(redis_client.zscore(SESSIONS, "lost") or 0) + 1, "the end")
    one, other = (reap(line, session, server_time(line) + 60_000) for _ in range(2))
    for _ in range(20):
        next(one, None)
        next(other, None)
    assert sorted(int(message["headers"]["id"]) for message in queued(redis_client)) == list(range(20))
    assert {message["headers"][DELIVERIES] for message in queued(redis_client)} == {1}
    redis_client.delete(QUEUE)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"headers": null}', b"\xff", b"[" * 100_000])
def test_odd_texts_stay_as_they_are(text: bytes) -> None:
    assert redelivered(text, lambda _: 1) == text


@pytest.mark.parametrize("count", [None, -1, "3", True, 2.5, [1]])
def test_a_count_that_is_none_counts_nothing(count: Any) -> None:
    assert (
        json.loads(redelivered(message_text(aijobs_deliveries=count), lambda before: before + 1))["headers"][DELIVERIES]
        == 1
    )


@pytest.mark.parametrize(
    ("times", "allowed"),
    [
        ([0, 5, 10, 15, 20, 25, 30], [False] * 6 + [True]),
        ([0, 10, 20, 36, 46, 56, 66], [False] * 6 + [True]),
        ([0, 10, 20, 30, 40, 90, 100], [False, False, False, True, True, False, False]),
        ([0, 15, 30, 29, 28], [False, False, True, False, False]),
    ],
)
def test_only_who_has_renewed_without_a_gap_may_take(times: list[int], allowed: list[bool]) -> None:
    continuity = Continuity(30_000)
    assert [continuity.renewed(1_000_000 + 1_000 * at) for at in times] == allowed


def test_a_failed_renewal_is_a_gap() -> None:
    continuity = Continuity(10)
    assert [continuity.renewed(now) for now in (100, 105, 110)] == [False, False, True]
    continuity.interrupt()
    assert not continuity.renewed(112)


def test_jobs_are_found_wherever_their_message_is(line: Line, connection: kombu.Connection, redis_client: Any) -> None:
    channel = connection.default_channel
    keys = list_keys(channel, [QUEUE, "other"])
    assert keys[:3] == [QUEUE, "other", f"{QUEUE}\x06\x163"]
    redis_client.lpush(QUEUE, *[message_text(id=f"q{number}") for number in range(1_000)])
    redis_client.lpush("other\x06\x169", message_text(id="low"))
    redis_client.hset("unacked", "t", json.dumps([json.loads(message_text(id="stock")), "", QUEUE]))
    old = json.loads(message_text())
    redis_client.lpush(QUEUE, json.dumps({**old, "properties": {**old["properties"], "correlation_id": "old"}}))
    session = Session("holder", "", 60_000)
    session.book(line, "1", QUEUE.encode() + b"\n" + message_text(id="held", root_id="root"))
    asked = {"q0", "q999", "q500", "low", "stock", "old", "held", "root", "absent", 'with "quotes', "%a+"}
    assert present(line, "", keys, asked) == asked - {"root", "absent", 'with "quotes', "%a+"}
    assert present(line, "", [], ["q0", "held"]) == {"held"}
    assert present(line, "", keys, []) == set()
    session.forget(line, ["1"])
    redis_client.delete(QUEUE, "other\x06\x169", "unacked")


@pytest.mark.parametrize("url", ["amqp://guest@localhost//", "sqs://"])
def test_other_brokers_have_no_leases(url: str) -> None:
    app = Celery("other", broker=url, backend="redis://", set_as_current=False)
    setup(app)
    assert lease_entries(app) == []


def test_one_broker_is_one_lease(redis_url: str) -> None:
    pool, again = (redis.ConnectionPool.from_url(redis_url) for _ in range(2))
    elsewhere = redis.ConnectionPool.from_url(redis_url.replace("/0", "/1"))
    assert lease_of(pool, "") is lease_of(again, "")
    assert lease_of(pool, "") is not lease_of(elsewhere, "")
    assert lease_of(pool, "") is not lease_of(pool, "team:")


def test_a_keeper_renews_the_lease_of_an_app(app: Celery, line: Line, redis_client: Any) -> None:
    (one,) = lease_entries(app)
    assert (one.call.script, one.call.arguments, one.interval) == (RENEW.text, (session_id(), 32_000), 2.0)
    session = Session(session_id(), "", 1_000)
    session.book(line, "1", QUEUE.encode() + b"\n" + message_text())
    before = redis_client.zscore(SESSIONS, session_id())
    keeper = Keeper([one])
    keeper.start()
    wait_until(lambda: redis_client.zscore(SESSIONS, session_id()) > before + 20_000, "the renewal")
    keeper.stop()
    session.forget(line, ["1"])
