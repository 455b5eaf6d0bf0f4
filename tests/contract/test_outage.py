"""Store or broker down or hanging: a quick 503 on every route, and no restart needed afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from aijobs import setup
from aijobs.embedded import EmbeddedServer, start_server
from aijobs.http import StreamLimits, job_router
from tests.helpers import frozen, wait_until

from .conftest import Api, assert_problem, make_celery, serving, stream, whole

#: The promise is one second; a busy machine may need more.
PATIENCE_SECONDS = 4.0

LIMITS = StreamLimits(ping_seconds=0.2)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with start_server(tmp_path, use_environment=False) as server:
        yield server


@contextmanager
def api_at(store: str, broker: str | None = None) -> Iterator[Api]:
    app = make_celery(store, broker)
    with serving(setup(app), job_router(app, stream_limits=LIMITS)) as api:
        yield api


def ask_everything(api: Api, job_id: str) -> dict[str, httpx.Response]:
    """One request to each route that needs the store, each answered in time."""
    requests = {
        "submit": ("POST", "/embed"),
        "get": ("GET", f"/{job_id}"),
        "output": ("GET", f"/{job_id}/output"),
        "result": ("GET", f"/{job_id}/result"),
        "events": ("GET", f"/{job_id}/events"),
        "delete": ("DELETE", f"/{job_id}"),
        "cancel": ("POST", f"/{job_id}/cancel"),
        "list": ("GET", ""),
        "stats": ("GET", "/stats"),
    }
    replies = {}
    for name, (method, path) in requests.items():
        began = time.monotonic()
        body = {"texts": ["a"]} if name == "submit" else None
        replies[name] = api.client.request(method, f"/jobs{path}", json=body)
        assert time.monotonic() - began < PATIENCE_SECONDS, name
    return replies


def assert_all_unavailable(api: Api, job_id: str) -> None:
    for reply in ask_everything(api, job_id).values():
        assert_problem(reply, 503, "store-unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        assert "127.0.0.1" not in reply.text


def assert_unhealthy(api: Api, store: bool, broker: bool) -> None:
    began = time.monotonic()
    members = assert_problem(api.get("/health"), 503, "unhealthy")
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert (members["store"]["ok"], members["broker"]["ok"]) == (store, broker)


def test_the_server_is_down_and_comes_back(fragile: EmbeddedServer) -> None:
    with api_at(fragile.url) as api:
        claim = api.run()
        fragile.stop()
        assert_all_unavailable(api, claim.job_id)
        assert_unhealthy(api, store=False, broker=False)
        with start_server(fragile.data_dir, port=fragile.port, use_environment=False):
            wait_until(lambda: api.get(f"/{claim.job_id}").status_code == 200, "the store's return")
            assert api.get("/health").status_code == 200
            api.queue()


def test_the_server_hangs_and_goes_on(fragile: EmbeddedServer) -> None:
    with api_at(fragile.url) as api:
        claim = api.run()
        with frozen(fragile):
            assert_all_unavailable(api, claim.job_id)
            assert_unhealthy(api, store=False, broker=False)
        wait_until(lambda: api.get(f"/{claim.job_id}").status_code == 200, "the store's return")


def test_a_server_that_was_never_there() -> None:
    with api_at("redis://127.0.0.1:1/0") as api:
        assert_all_unavailable(api, "some-id")


def test_a_stream_ends_with_the_store_and_goes_on_with_it(fragile: EmbeddedServer) -> None:
    with api_at(fragile.url) as api:
        claim = api.run()
        with stream(api, claim.job_id) as events:
            (snapshot,) = events.take(1)
            with frozen(fragile):
                assert list(events.events()) == []
        wait_until(lambda: api.get(f"/{claim.job_id}").status_code == 200, "the store's return")
        api.succeed(claim)
        assert [one.kind for one in whole(api, claim.job_id, snapshot.id)] == ["job.completed"]


@pytest.mark.parametrize("how", ["down", "hanging"])
def test_only_the_broker_is_lost(server: EmbeddedServer, fragile: EmbeddedServer, how: str) -> None:
    with api_at(server.url.removesuffix("0") + "60", fragile.url) as api:
        job_id = api.queue()
        assert api.get("/health").status_code == 200
        if how == "down":
            fragile.stop()
            assert_broker_lost(api, job_id)
        else:
            with frozen(fragile):
                assert_broker_lost(api, job_id)


def assert_broker_lost(api: Api, job_id: str) -> None:
    began = time.monotonic()
    response = api.submit()
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert_problem(response, 503, "publish-failed")
    assert int(response.headers["retry-after"]) >= 1
    assert api.get(f"/{job_id}").status_code == 200
    assert_unhealthy(api, store=True, broker=False)
