"""The demo's processes: a fake provider, a worker and the API. What starts and ends them, the other example has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from agent.fake_script import Script
from document_ingestion.demo_processes import PORT, Service, environment, running, serving

#: How many jobs a worker runs at once: they mostly wait.
CONCURRENCY = {"asyncio": 50, "prefork": 2}


def provider(folder: Path, script: Script) -> AbstractContextManager[tuple[Service, str]]:
    """The fake provider and its URL, until the block ends."""
    env = environment({"FAKE_PROVIDER_SCRIPT": script.model_dump_json()})
    return serving("provider", "agent.fake_provider:app", env, folder)


def worker(env: Mapping[str, str], folder: Path, pool: str = "asyncio") -> AbstractContextManager[Service]:
    """A Celery worker, until the block ends."""
    options = [f"--pool={pool}", f"--concurrency={CONCURRENCY.get(pool, 1)}", "--loglevel=INFO"]
    return running("worker", ["celery", "--app", "agent.worker", "worker", *options], env, folder)


def api(env: Mapping[str, str], folder: Path, port: int = PORT) -> AbstractContextManager[tuple[Service, str]]:
    """The API with the page, and its URL, until the block ends."""
    return serving("API", "agent.main:app", env, folder, port)
