"""Messages that are filled in are the messages that Celery makes, and whatever Celery would do is done."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery, signals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Queue

from aijobs import Job, ProgressTask, setup
from aijobs.submission import submit_async
from aijobs.worker.stencil import stencil_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def app_of(url: str, base: type = ProgressTask, task: dict[str, Any] | None = None, **conf: Any) -> Celery:
    app = Celery("stencils", broker=url, backend=url, set_as_current=False)
    app.conf.update(task_queues=(Queue("gpu"), Queue("celery"), Queue("other")), **conf)
    setup(app)

    @app.task(base=base, name="embed", shared=False, typing=False, **(task or {}))
    def embed(*args: Any, **kwargs: Any) -> None: ...

    app.finalize()
    return app


def app_with_stencil(url: str, task: str, take: Any) -> Celery:
    """An app whose task has been sent once; the same for each example."""
    if (url, task) not in _apps:
        app = _apps[url, task] = app_of(url, **json.loads(task))
        send(app)
        take()
        assert has_stencil(app)
    return _apps[url, task]


_apps: dict[tuple[str, str], Celery] = {}


def send(app: Celery, *args: Any, **more: Any) -> Job:
    options = more.pop("options", None)
    job: Job = asyncio.run(_send(app, list(args), more, options)).job
    return job


async def _send(app: Celery, args: list[Any], kwargs: dict[str, Any], options: Any) -> Any:
    runtime = setup(app)
    try:
        return await submit_async(runtime, "embed", args, kwargs, options=options)
    finally:
        await runtime.store.aclose()


def has_stencil(app: Celery) -> bool:
    return stencil_of(setup(app), app.tasks["embed"]) is not None


@pytest.fixture
def take(redis_client: redis.Redis) -> Any:
    def take_message() -> tuple[str, dict[str, Any]]:
        """The only message there is, and the list it is in, without what is new in each."""
        (key,) = [key for key in redis_client.scan_iter() if redis_client.type(key) == b"list"]
        (text,) = redis_client.lrange(key, 0, -1)
        redis_client.delete(key)
        message = json.loads(text)
        assert len(message["properties"].pop("delivery_tag")) == 36
        job_id = message["properties"]["correlation_id"]
        cleaned = json.loads(json.dumps(message).replace(job_id, "the id"))
        return key.decode(), cleaned

    return take_message


@pytest.fixture
def watched() -> Iterator[list[str]]:
    """Has Celery make each message, as somebody looks at it: the ids of those."""
    seen: list[str] = []

    def look(headers: Any = None, **_: Any) -> None:
        seen.append(headers["id"])

    signals.before_task_publish.connect(look, weak=False)
    yield seen
    signals.before_task_publish.disconnect(look)


ROUTES: dict[str, Any] = {
    "by name": {"embed": {"queue": "gpu"}},
    "by pattern": {"em*": "gpu"},
    "to an unknown queue": {"embed": {"queue": "unheard:of"}},
}
TASKS: dict[str, dict[str, Any]] = {
    "priority": {"task_routes": {"embed": {"queue": "gpu", "priority": 7}}},
    **{f"routed {name}": {"task_routes": route} for name, route in ROUTES.items()},
    "plain": {},
    "limits": {"task": {"time_limit": 10, "soft_time_limit": 5}},
    "ignored": {"task": {"ignore_result": True}},
    "transient": {"task_default_delivery_mode": "transient"},
    "retries": {"task": {"max_retries": 4}},
    "an app of few words": {"task_repr_maxlevels": 1, "task_default_queue": "other", "task_default_priority": 2},
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(args=st.lists(JSON, max_size=3), kwargs=st.dictionaries(st.text(min_size=1), JSON, max_size=3))
def test_it_is_the_message_that_celery_makes(
    redis_url: str, take: Any, task: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    app = app_with_stencil(redis_url, json.dumps(task), take)

    async def both() -> tuple[Any, Any]:
        runtime = setup(app)
        filled = await submit_async(runtime, "embed", args, kwargs)
        ours = take()

        def look(**_: Any) -> None: ...

        signals.before_task_publish.connect(look)
        try:
            made = await submit_async(runtime, "embed", args, kwargs)
        finally:
            signals.before_task_publish.disconnect(look)
        await runtime.store.aclose()
        assert ours == take()
        return filled.job, made.job

    one, other = asyncio.run(both())
    for name in ("task", "queue", "max_attempts", "arguments_json", "options_json", "parent_id", "group_id", "status"):
        assert getattr(one, name) == getattr(other, name)


CONF: dict[str, dict[str, Any]] = {
    "routes by function": {"task_routes": (lambda name, *_, **__: {"queue": "gpu"},)},
    "sent events": {"task_send_sent_event": True},
    "compression": {"task_compression": "gzip"},
}


@pytest.mark.parametrize("conf", CONF.values(), ids=CONF)
def test_where_messages_are_not_plain_celery_makes_all(redis_url: str, take: Any, conf: dict[str, Any]) -> None:
    app = app_of(redis_url, **conf)
    send(app, "one")
    first = take()
    assert not has_stencil(app)
    send(app, "one")
    assert take() == first


def test_messages_of_protocol_1_are_made_by_celery(redis_url: str, take: Any) -> None:
    app = app_of(redis_url, task_protocol=1)
    for _ in range(2):
        assert send(app, "one").arguments_json == '[["one"], {}]'
        take()
    assert not has_stencil(app)


def test_an_expiry_of_the_task_is_reckoned_anew(redis_url: str, take: Any) -> None:
    app = app_of(redis_url, task={"expires": 100})
    send(app)
    _, first = take()
    assert first["headers"]["expires"]
    assert not has_stencil(app)


def test_a_task_that_sends_itself_its_own_way_does_so(redis_url: str, take: Any) -> None:
    sent: list[Any] = []

    class Noted(ProgressTask):
        abstract = True

        def apply_async(self, *args: Any, **kwargs: Any) -> Any:
            sent.append(args)
            return super().apply_async(*args, **kwargs)

    app = app_of(redis_url, base=Noted)
    for _ in range(3):
        send(app)
        take()
    assert len(sent) == 3


def test_signals_are_sent_for_each_message(redis_url: str, take: Any, watched: list[str]) -> None:
    app = app_of(redis_url)
    jobs = [send(app).id, (take(), send(app).id)[1]]
    take()
    assert watched == jobs


def test_a_receiver_that_comes_later_sees_the_messages_from_then_on(redis_url: str, take: Any, request: Any) -> None:
    app = app_of(redis_url)
    send(app)
    take()
    assert has_stencil(app)
    watched = request.getfixturevalue("watched")
    job = send(app)
    take()
    assert watched == [job.id]


def test_options_go_through_celery(redis_url: str, take: Any) -> None:
    app = app_of(redis_url)
    send(app)
    plain, _ = take()
    send(app, options={"priority": 9})
    key, message = take()
    assert key != plain
    assert message["properties"]["priority"] == 9
    send(app)
    assert take()[0] == plain


def test_large_arguments_are_sent_and_not_kept(redis_url: str, take: Any) -> None:
    app = app_of(redis_url)
    large = "x" * (setup(app).settings.arguments_bytes + 1)
    assert send(app, large).arguments_json is None
    take()
    assert not has_stencil(app), "drawn from a record that did not keep its arguments"

    other = app_of(redis_url)
    assert send(other, "small").arguments_json is not None
    take()
    assert has_stencil(other)
    assert send(other, large).arguments_json is None
    take()
    assert send(other, "small").arguments_json == '[["small"], {}]'


def test_each_thread_says_which_one_it_is(redis_url: str, take: Any) -> None:
    app = app_of(redis_url)
    replies: list[str] = []

    def twice() -> None:
        for _ in range(2):
            send(app)
            replies.append(take()[1]["properties"]["reply_to"])

    for _ in range(2):
        thread = threading.Thread(target=twice)
        thread.start()
        thread.join()
    assert replies[0] == replies[1]
    assert replies[2] == replies[3]
