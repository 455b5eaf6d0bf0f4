"""What the API says of the servers behind it: health, warnings, the start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from celery import Celery
from fastapi import FastAPI

from aijobs import ConfigurationError, setup
from aijobs.embedded import EmbeddedServer, Login, start_server
from aijobs.http import job_router
from aijobs.runtime import Runtime
from tests.helpers import wait_until

from .conftest import make_celery, serving


def test_a_job_without_a_worker_is_a_warning_at_most_once_a_minute(
    celery_app: Celery, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(runtime, job_router(celery_app)) as api:
        api.queue()
        wait_until(lambda: "nobody may run it" in caplog.text, "the warning")
        api.queue()
        assert "setup" in api.get("/health").json()["detail"]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "No worker reports" in warning.getMessage()


@pytest.fixture
def locked(databases: Iterator[int]) -> Iterator[EmbeddedServer]:
    with start_server(login=Login("sesame", "team"), use_environment=False) as server:
        yield server


def test_passwords_are_shown_nowhere(locked: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = make_celery(locked.url)
    with serving(setup(app), job_router(app)) as api:
        health = api.get("/health")
        assert health.status_code == 200
        assert health.json()["store"]["url"].startswith("redis://team:***@")
        assert "sesame" not in health.text
        locked.stop()
        assert "sesame" not in api.get("/health").text
        assert "sesame" not in api.submit().text
    assert "aijobs serves" in caplog.text
    assert "sesame" not in caplog.text


def test_a_store_that_is_none_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.include_router(job_router(Celery("team", broker="memory://", set_as_current=False)))

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(ConfigurationError, match="AIJOBS_STORE_URL"):
        asyncio.run(start())


def test_another_broker_is_asked_too(celery_app: Celery) -> None:
    app = make_celery(celery_app.conf.broker_url, "memory://")
    with serving(setup(app), job_router(app)) as api:
        health = api.get("/health").json()
        assert (health["status"], health["broker"]["ok"]) == ("ok", True)
