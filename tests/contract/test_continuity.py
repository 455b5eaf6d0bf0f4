"""Nothing lost, nothing twice, in order: while clients leave and come back, and while APIs and workers are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from aijobs.embedded import EmbeddedServer
from aijobs.runtime import Runtime
from aijobs.store.values import Claim
from tests.helpers import PATIENT

from .conftest import DEADLINE_SECONDS, Api, make_celery
from .followers import Follower
from .processes import PATIENCE, WORKER, Service, process, until_logged

pytestmark = pytest.mark.anyio

#: How often the clients of the written job leave, all together, before it ends; thousands take minutes.
DISCONNECTS = int(os.environ.get("TEST_DISCONNECTS", "200"))

FOLLOWERS = 12
WRITE_SECONDS = 0.01


@pytest.fixture
def environ(server: EmbeddedServer, databases: Iterator[int]) -> dict[str, str]:
    # The shortest lease there is: what a killed worker leaves behind is taken soon.
    return {"TEST_URL": server.url.removesuffix("0") + str(next(databases)), "AIJOBS_LEASE_SECONDS": "5", **PATIENCE}


@pytest.fixture
def service(environ: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with Service(environ, tmp_path / "api.log") as service:
        yield service


@pytest.fixture
def api(environ: dict[str, str], service: Service) -> Iterator[Api]:
    """The API's other side: jobs that are moved by hand."""
    # On a slow machine an API takes its time to start, and none of the events since then may be trimmed.
    runtime = Runtime(make_celery(environ["TEST_URL"]), PATIENT.model_copy(update={"max_events": 1_000_000}))
    with httpx.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
        yield Api(service.url, runtime, client)


async def test_clients_come_and_go_and_the_api_is_restarted(service: Service, api: Api) -> None:
    claim = api.start(api.queue(task="count", body={"items": 1}))
    followers = [Follower(service.port, claim.job_id) for _ in range(FOLLOWERS)]
    async with asyncio.TaskGroup() as group:
        for one in followers:
            group.create_task(one.follow())
        restarting = group.create_task(restart(service, followers))
        group.create_task(write(api, claim, lambda: restarting.done() and left(followers) >= DISCONNECTS))
    assert_complete(api, claim.job_id, followers)
    assert all(one.lost for one in followers)


async def test_a_worker_is_killed(service: Service, api: Api, environ: dict[str, str], tmp_path: Path) -> None:
    with ExitStack() as workers:

        async def start_worker(name: str) -> subprocess.Popen[bytes]:
            log = tmp_path / f"{name}.log"
            worker = workers.enter_context(process(log, environ, *WORKER, "-n", f"{name}@%h", "-c", "1"))
            await asyncio.to_thread(until_logged, log, " ready.", worker)
            return worker

        first = await start_worker("first")
        job_id = api.queue(task="count", body={"items": 25, "seconds": 0.1})
        followers = [Follower(service.port, job_id, patience=8) for _ in range(FOLLOWERS)]

        async def kill_worker() -> None:
            await until(lambda: all("job.progress" in one.kinds for one in followers))
            first.kill()
            await start_worker("second")

        async with asyncio.TaskGroup() as group:
            group.create_task(kill_worker())
            for one in followers:
                group.create_task(one.follow())
    assert (api.job(job_id).status, api.job(job_id).attempt) == ("success", 2)
    assert_complete(api, job_id, followers)
    assert all("job.attempt" in one.kinds for one in followers)


def assert_complete(api: Api, job_id: str, followers: list[Follower]) -> None:
    everything = list(range(1, api.job(job_id).seq + 1))
    for one in followers:
        assert one.ids == everything, set(one.kinds)


async def write(api: Api, claim: Claim, enough: Callable[[], bool]) -> None:
    step = 0
    while not enough():
        step += 1
        await asyncio.to_thread(api.report, claim, 0.5, current=step)
        await asyncio.sleep(WRITE_SECONDS)
    api.succeed(claim, step)


async def restart(service: Service, followers: Sequence[Follower]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL) * max(1, DISCONNECTS // 500):
        await until_more_left(followers)
        await asyncio.to_thread(service.restart, how)


async def until_more_left(followers: Sequence[Follower]) -> None:
    before = left(followers)
    await until(lambda: left(followers) > before + len(followers))


def left(followers: Sequence[Follower]) -> int:
    return sum(one.left for one in followers)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)
