"""A real worker behind the API, and an API that is told to stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from aijobs.embedded import EmbeddedServer
from tests.helpers import wait_until

from .conftest import DEADLINE_SECONDS, Api, assert_problem, stream, whole
from .processes import APPS, WORKER, api_process, process, until_logged


@pytest.fixture(scope="module")
def environ(server: EmbeddedServer, databases: Iterator[int]) -> dict[str, str]:
    return {"TEST_URL": server.url.removesuffix("0") + str(next(databases))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def worked(environ: dict[str, str], folder: Path) -> Iterator[Api]:
    """An API and a worker."""
    log = folder / "worker.log"
    with api_process(environ, folder / "api.log") as (url, _), process(log, environ, *WORKER, "-c", "4") as running:
        until_logged(log, " ready.", running)
        with httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client:
            # The jobs of these tests are moved by the worker, so there is no runtime in this process.
            yield Api(url, None, client)  # type: ignore[arg-type]


def test_a_model_there_and_back(worked: Api) -> None:
    job_id = worked.queue(task="summarise", body={"text": "a", "written": "2024-02-03T04:05:06Z"})
    completed = whole(worked, job_id)[-1]
    assert completed.data["result"] == {"text": "A", "year": 2024}
    assert worked.get(f"/{job_id}/result").json() == {"text": "A", "year": 2024}


def test_progress_as_it_happens(worked: Api) -> None:
    job_id = worked.queue(task="count", body={"items": 5, "seconds": 0.15})
    events = whole(worked, job_id, starting_after=0)
    assert [one.id for one in events] == list(range(1, len(events) + 1))
    done = [one.data["progress"] for one in events if one.kind == "job.progress"]
    assert done == sorted(done)
    assert len(done) >= 2
    assert (events[-1].data["status"], events[-1].data["result"]) == ("success", 5)


def test_cancel_while_running(worked: Api) -> None:
    job_id = worked.queue(task="count", body={"items": 10_000, "seconds": 0.02})
    with stream(worked, job_id) as events:
        wait_until(lambda: worked.get(f"/{job_id}").json()["status"] == "running", "the start")
        assert worked.client.delete(f"/jobs/{job_id}").status_code == 202
        assert [one.data["status"] for one in events.events() if one.kind == "job.completed"] == ["revoked"]
    assert worked.client.delete(f"/jobs/{job_id}").status_code == 200


def test_failure(worked: Api) -> None:
    job_id = worked.queue(task="fail", body={"reason": "no ink"})
    end = whole(worked, job_id)[-1].data
    assert (end["status"], end["error"]["message"]) == ("failed", "ValueError: no ink")
    assert_problem(worked.get(f"/{job_id}/result"), 409, "job-without-result")


def test_the_worker_is_counted(worked: Api) -> None:
    health = wait_until(lambda: worked.get("/health").json()["workers"] and worked.get("/health"), "the heartbeat")
    assert (health.status_code, health.json()["workers"], health.json()["detail"]) == (200, 1, None)
    assert worked.get("/stats").json()["workers"] == 1


def test_sigterm_ends_streams_and_the_process(server: EmbeddedServer, databases: Iterator[int], tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    without_worker = {"TEST_URL": server.url.removesuffix("0") + str(next(databases))}
    with (
        api_process(without_worker, log) as (url, running),
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client,
    ):
        api = Api(url, None, client)  # type: ignore[arg-type]
        job_id = api.queue(task="count", body={"items": 1})
        with stream(api, job_id) as events:
            events.take(1)
            running.send_signal(signal.SIGTERM)
            # A stream that was cut off would raise here.
            assert list(events.events()) == []
        assert running.wait(DEADLINE_SECONDS) in (0, -signal.SIGTERM)
    assert "Traceback" not in log.read_text()
    assert "ERROR" not in log.read_text()


def test_the_api_says_once_where_the_records_are(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    logged = {"UVICORN_LOG_CONFIG": str(APPS / "log.json")}
    with api_process({**environ, **logged}, log) as (url, _):
        httpx.get(f"{url}/jobs/some-id")
        httpx.get(f"{url}/jobs")
    lines = [line for line in log.read_text().splitlines() if "aijobs serves" in line]
    assert len(lines) == 1
    assert environ["TEST_URL"] in lines[0]
