"""The store is killed, or hangs: every operation of the OpenAPI document answers 503 in time, and recovers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import httpx
import pytest

from aijobs.embedded import EmbeddedServer, start_server
from tests.helpers import frozen, wait_until

from .complete import ADMIN, Complete, complete, operations, request_of
from .conftest import assert_problem

#: The promise is one second; a busy machine may need more.
PATIENCE_SECONDS = 3.0


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[EmbeddedServer]:
    (folder := tmp_path / "store").mkdir()
    with start_server(folder, use_environment=False) as server:
        yield server


@pytest.fixture
def api(fragile: EmbeddedServer, tmp_path: Path) -> Iterator[Complete]:
    with complete(fragile.url, tmp_path, worker=False) as api:
        api.client.headers.update(ADMIN)
        yield api


def ask(api: Complete, request: dict[str, object]) -> tuple[float, httpx.Response]:
    """How long an answer took, and the answer, of which a stream is not read further than its head."""
    began = time.monotonic()
    with api.client.stream(**request) as response:  # type: ignore[arg-type]
        took = time.monotonic() - began
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return took, response
        response.read()
    return took, response


def ask_everything(api: Complete, ids: dict[str, str]) -> dict[str, tuple[float, httpx.Response]]:
    """One well-formed request to each operation of the router that has everything on."""
    found = [one for one in operations(api.document()) if one[1].startswith("/jobs")]
    return {f"{method} {path}": ask(api, request_of(method, path, one, ids)) for method, path, one in found}


def prepared(api: Complete) -> dict[str, str]:
    """The ids of what there is, once everything works."""
    ids = {"job_id": api.submit("count", {"items": 1}), "batch_id": api.submit_batch()}
    for name, (_, response) in ask_everything(api, ids).items():
        assert response.status_code < 500, (name, response.text)
    return {"job_id": api.submit("count", {"items": 1}), "batch_id": api.submit_batch()}


def assert_all_unavailable(api: Complete, ids: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    answers = ask_everything(api, ids)
    for name, (took, response) in answers.items():
        assert took < PATIENCE_SECONDS, name
        members = assert_problem(response, 503)
        assert members["type"] in {f"urn:aijobs:problem:{one}" for one in ("store-unavailable", "unhealthy")}, name
        assert int(response.headers.get("retry-after", "1")) >= 1
    longest = max(answers, key=lambda name: answers[name][0])
    with capsys.disabled():
        print(f"\n{len(answers)} operations, the longest: {longest}, {answers[longest][0]:.2f} s")


def assert_all_well(api: Complete, ids: dict[str, str]) -> None:
    def well() -> bool:
        return all(response.status_code < 500 for _, response in ask_everything(api, ids).values())

    wait_until(well, "the recovery of all operations")


def test_the_store_is_killed(
    api: Complete, fragile: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = prepared(api)
    assert fragile.pid is not None
    os.kill(fragile.pid, signal.SIGKILL)
    wait_until(lambda: api.client.get("/jobs/health").status_code == 503, "the end of the store")
    assert_all_unavailable(api, ids, capsys)
    with start_server(tmp_path / "store", port=fragile.port, use_environment=False):
        assert_all_well(api, ids)
        assert api.client.get(f"/jobs/{ids['job_id']}").status_code == 200


def test_the_store_hangs(api: Complete, fragile: EmbeddedServer, capsys: pytest.CaptureFixture[str]) -> None:
    ids = prepared(api)
    with frozen(fragile):
        assert_all_unavailable(api, ids, capsys)
    assert_all_well(api, ids)


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_only_the_broker_is_away(server: EmbeddedServer, fragile: EmbeddedServer, tmp_path: Path, how: str) -> None:
    with complete(server.url, tmp_path, worker=False, environ={"TEST_BROKER": fragile.url}) as api:
        api.client.headers.update(ADMIN)
        ids = prepared(api)
        if how == "killed":
            fragile.kill()
        with frozen(fragile) if how == "hanging" else nullcontext():
            answers = ask_everything(api, ids)
    for name, (took, response) in answers.items():
        assert took < PATIENCE_SECONDS, name
        assert response.status_code in (200, 202, 409, 422, 503), (name, response.text)
    refused = {name for name, (_, response) in answers.items() if response.status_code == 503}
    assert {"POST /jobs/nothing", "POST /jobs/batches", "POST /jobs/read", "GET /jobs/health"} <= refused
    assert {name for name in refused if name.startswith("GET ")} == {"GET /jobs/health"}


def test_requests_under_way_are_answered(api: Complete, fragile: EmbeddedServer) -> None:
    ids, over = prepared(api), Event()

    def go_on() -> list[tuple[float, int]]:
        answers = []
        while not over.is_set():
            took, response = ask(api, {"method": "GET", "url": f"/jobs/{ids['job_id']}"})
            answers.append((took, response.status_code))
        return answers

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(go_on) for _ in range(8)]
        with frozen(fragile):
            wait_until(lambda: api.client.get("/jobs/stats").status_code == 503, "the first refusal")
        wait_until(lambda: api.client.get("/jobs/stats").status_code == 200, "the recovery")
        over.set()
        answers = [answer for client in clients for answer in client.result()]
    assert {status for _, status in answers} == {200, 503}
    assert max(took for took, _ in answers) < PATIENCE_SECONDS


def test_streams_end_cleanly(api: Complete, fragile: EmbeddedServer) -> None:
    job_id = api.submit("count", {"items": 1})
    # A stream that was cut off would raise here.
    with api.client.stream("GET", f"/jobs/{job_id}/events") as response:
        chunks = response.iter_text()
        assert next(chunks).startswith("retry: ")
        with frozen(fragile):
            rest = "".join(chunks)
    assert "job.completed" not in rest


def test_who_waits_is_told(api: Complete, fragile: EmbeddedServer) -> None:
    job_id = api.submit("count", {"items": 1})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.client.get, f"/jobs/{job_id}", headers={"Prefer": "wait=30"})
        with frozen(fragile):
            # Whether it waits already or only comes now, it does not wait for the 30 seconds.
            assert waiting.result(timeout=10).status_code in (200, 503)
