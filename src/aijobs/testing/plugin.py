"""The pytest plugin `aijobs`: fixtures with a real server and real workers. It does nothing until one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celery import Celery

    from aijobs.testing.jobs import Jobs
    from aijobs.testing.servers import Server
    from aijobs.testing.workers import Worker


@pytest.fixture(scope="session")
def aijobs_server() -> Iterator[Server]:
    """A Redis or Valkey server for this process: that of `AIJOBS_TEST_REDIS_URL`, else one of its own."""
    from aijobs.testing.servers import start_test_server

    with start_test_server() as server:
        yield server


@pytest.fixture
def aijobs_worker(aijobs_server: Server) -> Iterator[Callable[..., Worker]]:
    """Starts worker processes, as `start_worker` does: `aijobs_worker("shop.worker:celery_app", concurrency=2)`.

    They are stopped at the end of the test. When it fails, the last lines of their logs are shown.
    """
    from aijobs.testing.workers import start_worker

    with ExitStack() as stack:
        yield lambda app, **options: stack.enter_context(start_worker(app, aijobs_server, **options))


@pytest.fixture
def aijobs_client(aijobs_server: Server) -> Callable[[Celery], Jobs]:
    """Has an app use the server and gives its jobs: `aijobs_client(celery_app).submit(task, …)`."""
    from aijobs.testing.jobs import Jobs

    def client(app: Celery) -> Jobs:
        aijobs_server.use(app)
        return Jobs(app)

    return client


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Adds what workers wrote last to the report of a test that failed."""
    outcome = yield
    report = outcome.get_result()
    workers = sys.modules.get("aijobs.testing.workers")
    if report.failed and workers is not None:
        report.sections += [(f"Log of aijobs {worker.name}", worker.log()) for worker in workers.started_workers()]
