"""Clients that do not read cost an API process little memory, and nobody else waits for them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from aijobs.embedded import EmbeddedServer
from aijobs.runtime import Runtime
from tests.helpers import PATIENT, wait_until

from .conftest import DEADLINE_SECONDS, Api, Event, make_celery, stream, whole
from .processes import PATIENCE, Service
from .streaming import Attempt, read
from .test_streams import is_watched, read_to_the_end

CLIENTS = 20
EVENTS = 200
MESSAGE = "x" * 60_000

#: Kept for each client, the events would take twenty times 12 MB.
MOST_GROWTH = 32e6


@pytest.fixture
def url(server: EmbeddedServer, databases: Iterator[int]) -> str:
    return server.url.removesuffix("0") + str(next(databases))


@pytest.fixture
def service(url: str, tmp_path: Path) -> Iterator[Service]:
    limits = {"send_seconds": 1.5}
    environ = {"TEST_URL": url, "TEST_STREAM_LIMITS": json.dumps(limits), **PATIENCE}
    with Service(environ, tmp_path / "api.log") as service:
        yield service


@pytest.fixture
def api(url: str, service: Service) -> Iterator[Api]:
    with httpx.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
        yield Api(service.url, Runtime(make_celery(url), PATIENT), client)


def test_many_clients_that_do_not_read(service: Service, api: Api) -> None:
    claim = api.start(api.queue(task="count", body={"items": 1}))
    seen: list[Event] = []
    reading = threading.Thread(target=lambda: seen.extend(whole(api, claim.job_id, starting_after=0)))
    process = psutil.Process(service.running.pid)
    with ExitStack() as sockets:
        clients = [sockets.enter_context(deaf(service.port, claim.job_id)) for _ in range(CLIENTS)]
        reading.start()
        wait_until(lambda: is_watched(api, claim.job_id), "the streams")
        before = process.memory_info().rss
        most = before
        for step in range(EVENTS):
            api.report(claim, step / EVENTS, message=MESSAGE)
            most = max(most, process.memory_info().rss)
        wait_until(lambda: not served(process) & ports(clients), "their end")
        received = [read_to_the_end(client) for client in clients]
    api.succeed(claim)
    reading.join(DEADLINE_SECONDS)
    assert most - before < MOST_GROWTH
    assert [one.id for one in seen] == list(range(1, api.job(claim.job_id).seq + 1))
    # Cut off: neither the end of the events nor that of the response.
    assert all(len(one) < EVENTS * len(MESSAGE) and not one.endswith(b"0\r\n\r\n") for one in received)


def test_many_clients_that_do_not_read_a_long_output(service: Service, api: Api) -> None:
    attempt = Attempt(api, api.start(api.queue(task="count", body={"items": 1})))
    for _ in range(EVENTS // 8):
        attempt.emit(MESSAGE)
    job_id, process = attempt.claim.job_id, psutil.Process(service.running.pid)
    with ExitStack() as sockets:
        before = process.memory_info().rss
        clients = [sockets.enter_context(deaf(service.port, job_id)) for _ in range(CLIENTS)]
        wait_until(lambda: is_watched(api, job_id), "the streams")
        # Who reads has all of it in the meantime.
        with stream(api, job_id) as events:
            (snapshot,) = events.take(1)
        most = process.memory_info().rss
        while ports(clients) & served(process):
            attempt.emit(MESSAGE)
            most = max(most, process.memory_info().rss)
        received = [read_to_the_end(client) for client in clients]
    assert most - before < MOST_GROWTH
    assert len(read([snapshot]).text) > 1_000_000
    assert all(len(one) < EVENTS * len(MESSAGE) and not one.endswith(b"0\r\n\r\n") for one in received)


def ports(clients: list[socket.socket]) -> set[int]:
    return {client.getsockname()[1] for client in clients}


def deaf(port: int, job_id: str) -> socket.socket:
    """A client that asks for a stream and takes next to nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(DEADLINE_SECONDS)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return client


def served(api: psutil.Process) -> set[int]:
    """The ports of those to whom an API has a connection."""
    return {one.raddr.port for one in api.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED}
