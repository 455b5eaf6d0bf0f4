"""The task styles of common tutorials work unchanged with only `job_router` added, over several API processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.helpers import wait_until

from .conftest import APPS, celery_worker, stop

Body = dict[str, Any]


@pytest.fixture(scope="module")
def environ(server_url: str) -> dict[str, str]:
    url = urlsplit(server_url)._replace(path="/8").geturl()
    results = urlsplit(server_url)._replace(path="/9").geturl()
    return {"TEST_BROKER_URL": url, "TEST_BACKEND_URL": results}


@pytest.fixture(scope="module")
def worker(environ: dict[str, str], folder: Path) -> Iterator[Path]:
    with celery_worker("tutorial_app:celery_app", folder / "worker.log", {**os.environ, **environ}, "-c", "2") as (
        _,
        log,
    ):
        wait_until(lambda: " ready." in log.read_text(), "the worker's start")
        yield log


@pytest.fixture(scope="module")
def api(environ: dict[str, str], folder: Path) -> Iterator[httpx.Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tutorial_app:app", "--port", str(port), "--workers", "4"]
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=APPS,
            env={**os.environ, **environ},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Each request on a connection of its own reaches one of the processes by chance.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=30) as client:
        try:
            wait_until(lambda: _answers(client), "the API's start")
            yield client
        finally:
            stop(process)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/jobs/health").is_success
    except httpx.TransportError:
        return False


def submit(api: httpx.Client, task: str, **body: Any) -> str:
    response = api.post(f"/jobs/{task}", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/jobs/{response.json()['job_id']}"
    return str(response.json()["job_id"])


def until(api: httpx.Client, job_id: str, condition: Callable[[Body], bool], what: str) -> Body:
    def look() -> Body | None:
        body: Body = api.get(f"/jobs/{job_id}").json()
        return body if condition(body) else None

    return wait_until(look, what)


def end(api: httpx.Client, job_id: str) -> Body:
    return until(api, job_id, lambda job: job["completed_at"] is not None, "the end of the job")


pytestmark = pytest.mark.usefixtures("worker")


def test_progress_as_a_fraction_shows_while_running(api: httpx.Client) -> None:
    job_id = submit(api, "train", epochs=20)
    seen = until(api, job_id, lambda job: 0 < (job["progress"] or 0) < 1, "progress")
    assert (seen["status"], seen["attempt"]) == ("running", 1)
    job = end(api, job_id)
    assert (job["status"], job["progress"], job["result"]) == ("success", 1.0, {"accuracy": 0.9})


def test_progress_as_current_and_total_shows_while_running(api: httpx.Client) -> None:
    job_id = submit(api, "process_items", items=["item"] * 10)
    seen = until(api, job_id, lambda job: 0 < (job["progress"] or 0) < 1, "progress")
    detail = seen["progress_detail"]
    assert seen["progress"] == pytest.approx(detail["current"] / detail["total"], abs=1e-5)
    assert end(api, job_id)["result"] == {"processed": 10}


def test_progress_as_a_named_step_shows_while_running(api: httpx.Client) -> None:
    job_id = submit(api, "ingest_document", path="report.pdf")
    seen = until(api, job_id, lambda job: (job["progress_detail"] or {}).get("step") == "embedding", "the step")
    assert seen["progress"] == 0.5
    assert end(api, job_id)["status"] == "success"


def test_error_text_is_kept(api: httpx.Client) -> None:
    job = end(api, submit(api, "ingest_document", path="virus.exe"))
    assert job["status"] == "failed"
    assert job["error"]["message"] == "ValueError: cannot read virus.exe"


def test_soft_time_limit_reads_as_a_time_limit(api: httpx.Client) -> None:
    job = end(api, submit(api, "process_items", items=["item"], fail="slow"))
    assert (job["status"], job["error"]["code"]) == ("failed", "time_limit")
    assert "time limit of 2 seconds" in job["error"]["message"]


def test_retries_are_visible(api: httpx.Client) -> None:
    job_id = submit(api, "process_items", items=["item"], fail="always")
    for attempt in (1, 2):
        waiting = until(api, job_id, partial(_waits_after, attempt), "the retry")
        assert waiting["error"]["attempt"] == attempt
        assert waiting["scheduled_at"] is not None
    job = end(api, job_id)
    assert (job["status"], job["attempt"], job["max_attempts"]) == ("failed", 3, 3)
    assert job["error"]["message"] == "ConnectionError: the provider is away"


def _waits_after(attempt: int, job: Body) -> bool:
    return (job["status"], job["attempt"]) == ("queued", attempt)


def test_unknown_id_is_not_pending(api: httpx.Client) -> None:
    assert api.get("/jobs/6ba21ab2-926f-4184-8747-f75d59c8bf4b").status_code == 404


def test_job_sent_by_delay_elsewhere_is_found(api: httpx.Client, environ: dict[str, str]) -> None:
    sender = "from tutorial_app import ingest_document; print(ingest_document.delay('sent.md').id)"
    sent = subprocess.run(
        [sys.executable, "-c", sender],
        cwd=APPS,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert end(api, sent.stdout.strip())["result"] == {"path": "sent.md"}


def test_job_of_a_publisher_without_aijobs_is_found(api: httpx.Client, environ: dict[str, str]) -> None:
    sender = (
        "import os; from celery import Celery; app = Celery(broker=os.environ['TEST_BROKER_URL']);"
        "print(app.send_task('tutorial_app.ingest_document', ['foreign.md']).id)"
    )
    sent = subprocess.run(
        [sys.executable, "-c", sender], env={**os.environ, **environ}, capture_output=True, text=True, check=True
    )
    job_id = sent.stdout.strip()
    wait_until(lambda: api.get(f"/jobs/{job_id}").is_success, "the record from the worker")
    assert end(api, job_id)["result"] == {"path": "foreign.md"}


def test_stream_shows_what_another_process_wrote(api: httpx.Client) -> None:
    job_id = submit(api, "process_items", items=["item"] * 5)
    with api.stream("GET", f"/jobs/{job_id}/events") as stream:
        events = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
    assert events[0] == "job.snapshot"
    assert "job.progress" in events
    assert events[-1] == "job.completed"
