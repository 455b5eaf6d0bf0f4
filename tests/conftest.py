"""What all tests share: a real server, a store on it, and settings that no environment changes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import celery.app.base
import pytest
import redis

from aijobs.embedded import EmbeddedServer, start_server
from aijobs.store.redis import RedisStore
from tests.helpers import PATIENT, lasting_keys

# Celery gives each app the tasks that any app of the process declared; here one process has the apps of many tests.
celery.app.base.connect_on_app_finalize = lambda function: function
# A test run in the background ignores SIGINT, and so would the processes that it starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AIJOBS_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, the event loop of redis-py and of the HTTP servers."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    """A server for this test process alone; never one from outside, since tests empty it."""
    with start_server(use_environment=False) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedServer) -> Iterator[str]:
    """An empty server, and afterwards the check that everything in it will leave by itself."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    yield redis_server.url
    assert lasting_keys(redis_server.url) == [], "these keys would stay for ever"


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client that sees what is in the server; replies are bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def store(redis_url: str) -> RedisStore:
    """A store with the default settings but a patient time-out."""
    return RedisStore(redis_url, PATIENT)
