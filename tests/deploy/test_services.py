"""The commands, health checks and times that compose.yaml has do what they are for."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from aijobs.compose import Installer
from aijobs.embedded import EmbeddedServer, start_server
from tests.deploy import images, shop
from tests.deploy.running import Deployment, Here, Image, Service, free_port
from tests.helpers import wait_until

# An image may have to be built first.
pytestmark = pytest.mark.timeout(3_600)

KINDS = ("api", "worker", "beat")
PAGES, PAGE_SECONDS = 5, 0.1


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with start_server(use_environment=False) as server:
        yield server


@pytest.fixture(scope="module", params=["here", "image"])
def deployment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: EmbeddedServer
) -> Iterator[Deployment]:
    """API, worker and scheduler, all well."""
    root = shop.make(tmp_path_factory.mktemp("shop"), Installer.REQUIREMENTS)
    folder = tmp_path_factory.mktemp("data")
    if request.param == "here":
        shop.deploy(root, services="beat,valkey")
        yield from _started(Deployment(root, Here(root, str(folder)), server.url, folder, free_port()))
    else:
        base, python = (request.getfixturevalue(name) for name in ("base", "python"))
        shop.deploy(root, services="beat,valkey", python=python)
        with images.container(images.build(root, "deploy-check/run", BASE_IMAGE=base, BUILD_PACKAGES="")) as container:
            yield from _started(Deployment(root, Image(container), server.url, folder, free_port()))


def _started(deployment: Deployment) -> Iterator[Deployment]:
    (Path(deployment.folder) / "beat").mkdir()
    services = [deployment.service(kind) for kind in KINDS]
    try:
        for service in services:
            assert service.health()[0] == 1, "it is not there yet"
            service.start()
        for service in services:
            service.until_healthy()
        yield deployment
    finally:
        deployment.stop()


def of(deployment: Deployment, name: str) -> Service:
    return next(service for service in deployment.services if service.name == name)


def test_a_job_goes_through(deployment: Deployment) -> None:
    (job,) = deployment.until("success", deployment.submit(pages=3))
    assert (job["result"], job["progress"], job["attempt"]) == (3, 1.0, 1)


def test_the_scheduler_sends(deployment: Deployment) -> None:
    log = of(deployment, "worker").log
    wait_until(lambda: "Task shop.worker.count" in log.read_text(), "a periodic task")


def test_what_hangs_is_seen_and_what_goes_on_again(deployment: Deployment) -> None:
    locked = deployment.service("worker", "locked")
    locked.start()
    locked.until_ready()
    frozen = [of(deployment, kind) for kind in KINDS]
    for service in frozen:
        service.send_to_all(signal.SIGSTOP)
    locked.send(signal.SIGUSR1)
    told = [service.until_healthy(healthy=False) for service in frozen]
    for service in frozen:
        service.send_to_all(signal.SIGCONT)
    assert "does not answer within" in told[0]
    assert all("is stopped" in one for one in told[1:])
    for service in frozen:
        service.until_healthy()
    assert "hangs: its main loop" in locked.until_healthy(healthy=False)
    locked.kill()
    assert "has ended" in locked.until_healthy(healthy=False)


def test_a_server_that_is_away_is_the_fault_of_no_worker(deployment: Deployment, server: EmbeddedServer) -> None:
    api, worker = (of(deployment, name) for name in ("api", "worker"))
    process = psutil.Process(server.pid)
    process.suspend()
    try:
        assert "the API answers 503" in api.until_healthy(healthy=False)
        assert worker.health()[0] == 0
    finally:
        process.resume()
    for service in (api, worker):
        service.until_healthy()


def test_a_worker_that_stops_gives_its_jobs_back(deployment: Deployment) -> None:
    jobs = [deployment.submit(pages=1, seconds=300) for _ in range(3)]
    deployment.until("running", *jobs[:2])
    worker = of(deployment, "worker")
    took = worker.stop()
    print(f"stopped after {took:.1f} of {worker.grace:.0f} s")
    for job in deployment.until("queued", *jobs):
        assert (job["attempt"], job["error"]) == (0, None)
        deployment.cancel(job["job_id"])
    worker.until_healthy(healthy=False)
    worker.start()
    worker.until_ready()


def test_three_workers_are_faster_than_one(deployment: Deployment) -> None:
    alone = batch_seconds(deployment, 12)
    further = [deployment.service("worker", name) for name in ("second", "third")]
    for service in further:
        service.start()
    for service in further:
        service.until_ready()
    together = batch_seconds(deployment, 12)
    for service in further:
        service.kill()
    print(f"12 jobs: {alone:.2f} s with one worker, {together:.2f} s with three")
    assert together < alone


def test_all_stop_in_time(deployment: Deployment) -> None:
    for kind in KINDS:
        service = of(deployment, kind)
        took = service.stop()
        print(f"{kind} stopped after {took:.1f} of {service.grace:.0f} s")
        service.until_healthy(healthy=False)


def batch_seconds(deployment: Deployment, count: int) -> float:
    """From the first start to the last end, by the records."""
    jobs = [deployment.submit(pages=PAGES, seconds=PAGE_SECONDS) for _ in range(count)]
    done = deployment.until("success", *jobs)
    return (max(map(ended, done)) - min(map(started, done))).total_seconds()


def started(job: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(job["started_at"])


def ended(job: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(job["completed_at"])
