"""The life of a stream: its limits, its clients, its server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery import Celery
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.middleware.gzip import GZipMiddleware

from aijobs import setup
from aijobs.embedded import start_server
from aijobs.http import StreamLimits, job_router
from aijobs.http.sse import CHUNK_BYTES, EventStream
from aijobs.runtime import Runtime
from tests.helpers import frozen, wait_until

from .conftest import Api, make_celery, serving, stream, whole


@pytest.fixture(scope="module")
def hasty(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    """An API whose streams have short limits."""
    limits = StreamLimits(ping_seconds=0.05, send_seconds=0.5, lifetime_seconds=1.0, retry_seconds=0.5)
    with serving(runtime, job_router(celery_app, stream_limits=limits)) as api:
        yield api


@pytest.fixture(scope="module")
def impatient(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    """An API that waits for no reader."""
    with serving(runtime, job_router(celery_app, stream_limits=StreamLimits(send_seconds=0.5))) as api:
        yield api


def test_pings_and_the_end_of_a_streams_life(hasty: Api) -> None:
    claim = hasty.run()
    with stream(hasty, claim.job_id) as events:
        kinds = [one.kind for one in events.events()]
    assert kinds == ["job.snapshot"]
    assert events.pings >= 1


def test_a_job_that_vanishes_ends_its_stream(hasty: Api) -> None:
    claim = hasty.run()
    with stream(hasty, claim.job_id) as events:
        events.take(1)
        hasty.command("DEL", f"aijobs:job:{claim.job_id}", f"aijobs:job:{claim.job_id}:events")
        assert list(events.events()) == []


def test_a_store_that_was_set_back_ends_streams_and_is_a_gap(hasty: Api) -> None:
    claim = hasty.run()
    for step in range(3):
        hasty.report(claim, step / 3)
    record = f"aijobs:job:{claim.job_id}"
    newest = hasty.job(claim.job_id).seq
    with stream(hasty, claim.job_id) as events:
        events.take(1)
        hasty.command("HSET", record, "seq", 2)
        hasty.command("DEL", f"{record}:events")
        assert list(events.events()) == []
    with stream(hasty, claim.job_id, newest) as events:
        assert [(one.kind, one.id) for one in events.take(1)] == [("stream.gap", 2)]


def test_a_history_that_is_gone_ends_streams_and_is_a_gap(hasty: Api) -> None:
    claim = hasty.run()
    with stream(hasty, claim.job_id) as events:
        (snapshot,) = events.take(1)
        hasty.command("HINCRBY", f"aijobs:job:{claim.job_id}", "seq", 1)
        assert list(events.events()) == []
    with stream(hasty, claim.job_id, snapshot.id) as events:
        assert [(one.kind, one.id) for one in events.take(1)] == [("stream.gap", snapshot.id + 1)]


def test_a_short_outage_of_the_store_ends_no_stream(tmp_path: Path) -> None:
    with start_server(tmp_path, use_environment=False) as fragile:
        celery_app = make_celery(fragile.url)
        limits = StreamLimits(ping_seconds=0.1)
        with serving(setup(celery_app), job_router(celery_app, stream_limits=limits)) as api:
            claim = api.run()
            with stream(api, claim.job_id) as events:
                events.take(1)
                with frozen(fragile):
                    wait_until(lambda: api.get(f"/{claim.job_id}").status_code == 503, "the outage")
                wait_until(lambda: api.get(f"/{claim.job_id}").status_code == 200, "the end of the outage")
                api.succeed(claim)
                assert [one.kind for one in events.events()] == ["job.completed"]


def test_a_client_that_does_not_read_is_cut_off(impatient: Api) -> None:
    claim = impatient.run()
    address = urlsplit(impatient.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(30)
        client.connect((address.hostname, address.port))
        client.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % claim.job_id.encode())
        wait_until(lambda: is_watched(impatient, claim.job_id), "the stream")
        for step in range(400):
            impatient.report(claim, step / 400, message="x" * 60_000)
            if not is_watched(impatient, claim.job_id):
                break
        wait_until(lambda: not is_watched(impatient, claim.job_id), "the end of the stream")
        received = read_to_the_end(client)
    assert not received.endswith(b"0\r\n\r\n")
    assert len(received) < 400 * 60_000
    assert impatient.get(f"/{claim.job_id}").status_code == 200


def test_a_client_that_leaves_is_noticed_at_once(api: Api) -> None:
    claim = api.run()
    with stream(api, claim.job_id) as events:
        events.take(1)
        wait_until(lambda: is_watched(api, claim.job_id), "the stream")
    wait_until(lambda: not is_watched(api, claim.job_id), "the end of the stream")


def test_streams_pass_through_middleware(celery_app: Celery, runtime: Runtime) -> None:
    app = FastAPI()

    @app.middleware("http")
    async def add_header(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-team"] = "yes"
        return response

    with serving(runtime, job_router(celery_app), app=app) as api:
        claim = api.run()
        with stream(api, claim.job_id) as events:
            assert events.response.headers["x-team"] == "yes"
            events.take(1)
            api.succeed(claim)
            assert [one.kind for one in events.events()] == ["job.completed"]
        other = api.run()
        with stream(api, other.job_id) as events:
            events.take(1)
        wait_until(lambda: not is_watched(api, other.job_id), "the end of the stream")


def test_streams_are_not_compressed(celery_app: Celery, runtime: Runtime) -> None:
    app = FastAPI()
    app.add_middleware(GZipMiddleware, minimum_size=0)
    with serving(runtime, job_router(celery_app), app=app) as api:
        claim = api.run()
        assert api.get(f"/{claim.job_id}").headers["content-encoding"] == "gzip"
        with stream(api, claim.job_id) as events:
            assert "content-encoding" not in events.response.headers
            for number in range(1, 4):
                events.take(1)
                api.report(claim, number / 4)
            events.take(1)
            api.succeed(claim)
            assert [one.kind for one in events.events()] == ["job.completed"]


def test_background_tasks_run_after_the_stream(celery_app: Celery, runtime: Runtime) -> None:
    done: list[str] = []

    def remember(request: Request, tasks: BackgroundTasks) -> None:
        tasks.add_task(done.append, request.url.path)

    with serving(runtime, job_router(celery_app, dependencies=[Depends(remember)])) as api:
        claim = api.run()
        api.succeed(claim)
        whole(api, claim.job_id)
        wait_until(lambda: f"/jobs/{claim.job_id}/events" in done, "the background task")


@pytest.mark.parametrize("leaves", [True, False])
def test_servers_that_raise_when_the_client_has_left(leaves: bool) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield b": more\n\n"

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 5:
            raise BrokenPipeError

    async def receive() -> Any:
        await asyncio.sleep(0 if leaves else 3_600)
        return {"type": "http.disconnect"}

    asyncio.run(EventStream(endless, StreamLimits())({"type": "http"}, receive, send))
    assert len(sent) <= 5


def test_a_lost_cancellation_does_not_keep_a_stream_alive() -> None:
    sent: list[Any] = []

    async def deaf() -> AsyncGenerator[bytes]:
        yield b": first\n\n"
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        await asyncio.sleep(3_600)

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.sleep(3_600)

    limits = StreamLimits(lifetime_seconds=0.05)
    asyncio.run(asyncio.wait_for(EventStream(deaf, limits)({"type": "http"}, receive, send), 30))
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def large_events() -> AsyncGenerator[bytes]:
    while True:
        yield b": %s\n\n" % (b"x" * 4 * CHUNK_BYTES)


async def never() -> Any:
    await asyncio.sleep(3_600)


def test_a_stream_ends_between_two_events() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await asyncio.sleep(0.02)
        sent.append(message)

    limits = StreamLimits(lifetime_seconds=0.03)
    asyncio.run(asyncio.wait_for(EventStream(large_events, limits)({"type": "http"}, never, send), 30))
    bodies = [one["body"] for one in sent if "body" in one]
    assert max(map(len, bodies)) == CHUNK_BYTES
    assert b"".join(bodies).endswith(b"x\n\n")
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_who_does_not_read_an_event_to_its_end_is_cut_off() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if len(sent) == 4:
            await never()
        sent.append(message)

    limits = StreamLimits(send_seconds=0.1)
    asyncio.run(asyncio.wait_for(EventStream(large_events, limits)({"type": "http"}, never, send), 30))
    assert len(sent) == 4
    assert all(one.get("more_body", True) for one in sent)


def is_watched(api: Api, job_id: str) -> bool:
    return bool(api.command("PUBSUB CHANNELS", f"aijobs:news:{job_id}"))


def read_to_the_end(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65_536):
            received += chunk
    return received
