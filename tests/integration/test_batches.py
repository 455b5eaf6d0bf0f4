"""Batches with real workers behind the API, and an API that is killed in the middle of a submission."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from aijobs.embedded import EmbeddedServer, start_server
from tests.contract.processes import PATIENCE, WORKER, Service, api_process, process, until_logged
from tests.helpers import DEADLINE_SECONDS, wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with start_server(use_environment=False) as server:
        yield server


@pytest.fixture
def environ(server: EmbeddedServer) -> dict[str, str]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return {"TEST_URL": server.url, **PATIENCE}


@pytest.fixture
def client(environ: dict[str, str], tmp_path: Path) -> Iterator[httpx.Client]:
    """An API with a worker that runs four jobs at a time."""
    log = tmp_path / "worker.log"
    with (
        api_process(environ, tmp_path / "api.log") as (url, _),
        process(log, environ, *WORKER, "-c", "4") as worker,
        httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client,
    ):
        until_logged(log, " ready.", worker)
        yield client


def counted(number: int, items: int = 0, seconds: float = 0.0) -> dict[str, Any]:
    """An item whose job takes so many steps of so many seconds."""
    return {"custom_id": f"item-{number}", "task": "count", "input": {"items": items, "seconds": seconds}}


def submit(client: httpx.Client, items: list[dict[str, Any]], **headers: str) -> dict[str, Any]:
    response = client.post("/jobs/batches", json={"items": items}, headers=headers)
    assert response.status_code == 202, response.text
    batch: dict[str, Any] = response.json()
    return batch


def follow(client: httpx.Client, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of all events until the end."""
    with client.stream("GET", batch["urls"]["events"], params={"starting_after": "0"}) as response:
        found = [json.loads(line.removeprefix("data: ")) for line in response.iter_lines() if line.startswith("data: ")]
    assert [one["seq"] for one in found] == list(range(1, len(found) + 1))
    return found


def test_a_batch_is_worked_off(client: httpx.Client) -> None:
    fails = {"custom_id": "fails", "task": "fail", "input": {"reason": "no ink"}}
    batch = submit(client, [fails, *map(counted, range(199))])
    *changes, end = follow(client, batch)
    assert (end["status"], end["progress"]) == ("completed", 1)
    assert end["counts"] == {"total": 200, "queued": 0, "running": 0, "success": 199, "failed": 1, "revoked": 0}
    told = [(one["custom_id"], one["status"]) for one in changes]
    for item in batch["items"]:
        last = "failed" if item["custom_id"] == "fails" else "success"
        assert [status for name, status in told if name == item["custom_id"]] == ["queued", "running", last]


def test_a_running_batch_is_cancelled(client: httpx.Client) -> None:
    batch = submit(client, [counted(number, items=10_000, seconds=0.02) for number in range(30)])
    own = batch["urls"]["self"]
    wait_until(lambda: client.get(own).json()["counts"]["running"] == 4, "the start of four jobs")
    response = client.delete(own)
    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert response.json()["counts"]["revoked"] >= 26
    wait_until(lambda: client.get(own).json()["status"] == "completed", "the end of the batch")
    assert client.get(own).json()["counts"]["revoked"] == 30
    assert client.delete(own).status_code == 200


def test_a_submission_whose_api_is_killed_goes_on(environ: dict[str, str], tmp_path: Path) -> None:
    items = [counted(number) for number in range(1_000)]
    key = {"Idempotency-Key": "order-1"}
    with (
        Service(environ, tmp_path / "api.log") as service,
        httpx.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client,
        redis.Redis.from_url(environ["TEST_URL"]) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        broken = pool.submit(submit, client, items, **key)
        wait_until(lambda: _messages(store), "the first jobs")
        service.restart(signal.SIGKILL)
        with suppress(httpx.TransportError):
            broken.result()
        (record,) = store.scan_iter("aijobs:batch:*:record")
        before = _messages(store)
        batch = submit(client, items, **key)
        assert record.decode() == f"aijobs:batch:{batch['batch_id']}:record"
        assert batch["counts"] == {
            "total": 1_000,
            "queued": 1_000,
            "running": 0,
            "success": 0,
            "failed": 0,
            "revoked": 0,
        }
        sent = _messages(store)
        assert sent[: len(before)] == before
        assert sorted(sent) == sorted(item["job_id"] for item in batch["items"])
        print(f"{len(before)} jobs had been submitted")


def _messages(store: redis.Redis) -> list[str]:
    """Ids of the jobs whose messages wait in the broker, oldest first."""
    found: list[str] = []
    for queue in store.scan_iter("celery*", _type="list"):
        found += [json.loads(message)["headers"]["id"] for message in reversed(store.lrange(queue, 0, -1))]
    return found
