"""Streams behind reverse proxies that keep what comes until it is worth sending, and that add a prefix to the path."""

from __future__ import annotations

import getpass
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from socket import create_connection

import httpx
import pytest
from typing_extensions import override

from aijobs.embedded import EmbeddedServer
from aijobs.runtime import Runtime
from tests.helpers import PATIENT, wait_until

from .conftest import DEADLINE_SECONDS, Api, make_celery, stream
from .processes import PATIENCE, Service, free_port
from .test_streams import is_watched

PREFIX = "/api"

NGINX = """
daemon off; pid nginx.pid; error_log error.log; worker_processes 1; user {user};
events {{}}
http {{
    access_log off; gzip on;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{ proxy_pass http://127.0.0.1:{upstream}/; }}
    }}
}}
"""


class Buffering(socketserver.StreamRequestHandler):
    """Sends an answer when it is complete, unless the answer asks for something else."""

    upstream = 0

    @override
    def handle(self) -> None:
        # A client that has seen enough leaves.
        with suppress(ConnectionError):
            self._pass_on()

    def _pass_on(self) -> None:
        request = self._head(self.rfile).replace(PREFIX.encode(), b"", 1)
        with create_connection(("127.0.0.1", self.upstream)) as server, server.makefile("rb") as answer:
            server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            head = self._head(answer)
            self.wfile.write(head)
            if b"x-accel-buffering: no\r\n" not in head.lower():
                self.wfile.write(answer.read())
            while chunk := answer.read1():
                self.wfile.write(chunk)

    def _head(self, file: object) -> bytes:
        return b"".join(iter(file.readline, b"\r\n")) + b"\r\n"  # type: ignore[attr-defined]


@contextmanager
def buffering(upstream: int, folder: Path) -> Iterator[int]:
    handler = type("Handler", (Buffering,), {"upstream": upstream})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[int]:
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(port=port, upstream=upstream, user=getpass.getuser(), prefix=PREFIX))
    running = subprocess.Popen([program, "-p", str(folder), "-c", str(config), "-e", "error.log"])
    try:
        wait_until(lambda: running.poll() is not None or listens(port), "the start of nginx")
        yield port
    finally:
        running.terminate()
        running.wait(DEADLINE_SECONDS)


def listens(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def url(server: EmbeddedServer, databases: Iterator[int]) -> str:
    return server.url.removesuffix("0") + str(next(databases))


@pytest.fixture(scope="module")
def service(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("service") / "api.log"
    with Service({"TEST_URL": url, **PATIENCE}, log, "service:app", "--root-path", PREFIX) as service:
        yield service


Proxy = Callable[[int, Path], AbstractContextManager[int]]


@pytest.fixture(params=[buffering, nginx])
def api(request: pytest.FixtureRequest, url: str, service: Service, tmp_path: Path) -> Iterator[Api]:
    """The API as it is seen through a proxy."""
    proxy: Proxy = request.param
    with (
        proxy(service.port, tmp_path) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}{PREFIX}", timeout=DEADLINE_SECONDS) as client,
    ):
        yield Api(str(client.base_url), Runtime(make_celery(url), PATIENT), client)


def test_events_come_one_by_one(api: Api, service: Service) -> None:
    claim = api.start(queue(service))
    with stream(api, claim.job_id) as events:
        for number in range(1, 4):
            (one,) = events.take(1)
            assert one.kind == ("job.snapshot" if number == 1 else "job.progress")
            api.report(claim, number / 4)
        events.take(1)
        api.succeed(claim)
        (completed,) = events.events()
    assert completed.kind == "job.completed"
    assert completed.data["urls"]["events"] == f"{PREFIX}/jobs/{claim.job_id}/events"


def test_a_client_that_leaves_is_noticed(api: Api, service: Service) -> None:
    claim = api.start(queue(service))
    with stream(api, claim.job_id) as events:
        events.take(1)
        wait_until(lambda: is_watched(api, claim.job_id), "the stream")

    def is_left() -> bool:
        # A proxy may find out when it has something to send.
        api.report(claim, 0.5)
        return not is_watched(api, claim.job_id)

    wait_until(is_left, "the end of the stream")


def queue(service: Service) -> str:
    """The id of a new job, submitted without the proxy."""
    response = httpx.post(f"{service.url}/jobs/count", json={"items": 1})
    assert response.status_code == 202
    return str(response.json()["job_id"])
