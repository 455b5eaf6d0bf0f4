"""Tokens of real workers arrive once and in order: through disconnects, a killed worker and a restarted API.

`TEST_DISCONNECTS=1000` has the clients leave so often, all together; `make continuity` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from aijobs.embedded import EmbeddedServer
from aijobs.runtime import Runtime
from tests.helpers import PATIENT

from .conftest import DEADLINE_SECONDS, Api, make_celery
from .processes import PATIENCE, WORKER, Service, process, until_logged
from .streaming import TokenFollower, tokens_in
from .test_continuity import DISCONNECTS, left, restart, until, until_more_left

pytestmark = pytest.mark.anyio

FOLLOWERS = 12
PAUSE_SECONDS = 0.005
#: Of the job's events so many are left, each time that its history is trimmed.
KEPT_EVENTS = 5
TRIM_SECONDS = 0.2


@pytest.fixture
def enough(tmp_path: Path) -> Path:
    """The file that ends the task."""
    return tmp_path / "enough"


@pytest.fixture
def environ(server: EmbeddedServer, databases: Iterator[int], enough: Path) -> dict[str, str]:
    url = server.url.removesuffix("0") + str(next(databases))
    fast = {"AIJOBS_OUTPUT_INTERVAL_SECONDS": "0.02", "AIJOBS_LEASE_SECONDS": "5"}
    return {"TEST_URL": url, "TEST_ENOUGH": str(enough), **fast, **PATIENCE}


@pytest.fixture
def service(environ: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with Service(environ, tmp_path / "api.log", "tokens:app") as service:
        yield service


@pytest.fixture
def api(environ: dict[str, str], service: Service) -> Iterator[Api]:
    with httpx.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
        yield Api(service.url, Runtime(make_celery(environ["TEST_URL"]), PATIENT), client)


@pytest.fixture
def start_worker(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    worker = [one.replace("service:", "tokens:") for one in WORKER]
    with ExitStack() as workers:

        def start(name: str) -> subprocess.Popen[bytes]:
            log = tmp_path / f"{name}.log"
            running = workers.enter_context(process(log, environ, *worker, "-n", f"{name}@%h", "-c", "1"))
            until_logged(log, " ready.", running)
            return running

        yield start


async def test_tokens_arrive_once_and_in_order(
    service: Service, api: Api, start_worker: Callable[[str], subprocess.Popen[bytes]], enough: Path
) -> None:
    first = await asyncio.to_thread(start_worker, "first")
    job_id = api.queue(task="write", body={"pause": PAUSE_SECONDS})
    followers = [TokenFollower(service.port, job_id, patience=12) for _ in range(FOLLOWERS)]

    async def trouble() -> None:
        await until(lambda: all(one.count for one in followers))
        first.kill()
        await asyncio.to_thread(start_worker, "second")
        await until(lambda: all(one.count and len(one.attempts) == 2 for one in followers))
        await restart(service, followers)
        while left(followers) < DISCONNECTS:
            await until_more_left(followers)
        enough.touch()

    async with asyncio.TaskGroup() as group:
        for one in followers:
            group.create_task(one.follow())
        trimming = group.create_task(trim(api, job_id))
        await trouble()
        await until(lambda: all(one.over for one in followers))
        trimming.cancel()
    assert api.job(job_id).attempt == 2
    assert_complete(api, job_id, followers)
    kinds = {kind for one in followers for kind in one.kinds}
    assert {"job.snapshot", "stream.gap", "job.attempt", "job.output", "job.completed"} <= kinds


def assert_complete(api: Api, job_id: str, followers: list[TokenFollower]) -> None:
    """Each has what the last attempt says that it gave out, and so has the API."""
    result = api.job(job_id).result
    expected = [(result["attempt"], number) for number in range(result["tokens"])]
    found = api.get(f"/{job_id}/output").json()
    assert tokens_in(found["pieces"]) == expected
    assert (found["attempt"], found["truncated"], found["finished"]) == (2, False, True)
    for one in followers:
        assert (one.reader.pieces, one.reader.text) == (found["pieces"], found["text"])
        assert one.lost, "no connection of it was broken"


async def trim(api: Api, job_id: str) -> None:
    """Has who comes back late find a gap."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.to_thread(api.command, "XTRIM", f"aijobs:job:{job_id}:events", "MAXLEN", KEPT_EVENTS)
            await asyncio.sleep(TRIM_SECONDS)
