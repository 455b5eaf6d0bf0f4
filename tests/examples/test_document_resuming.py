"""Fifty documents, and an end at the thirty-first: what was embedded once is not embedded again."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from aijobs.embedded import start_server
from document_ingestion.demo_processes import Service, api, environment, worker
from tests.helpers import wait_until

DOCUMENTS = 50
#: The document at which the first attempt ends.
FATAL = 31


@dataclass
class Endpoint:
    """Embeds documents and counts how often each was embedded."""

    url: str
    #: What is answered when the fatal document comes for the first time; None is no answer.
    trouble: int | None = None
    asked: list[int] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def embed(self, texts: list[str]) -> tuple[int, bytes]:
        """Status and body of the answer."""
        (number,) = {int(found[1]) for text in texts if (found := re.search(r"document (\d+)", text))}
        self.asked.append(number)
        if number == FATAL and self.asked.count(FATAL) == 1:
            if self.trouble is not None:
                return self.trouble, b"{}"
            self.let_go.wait(60)
        rows = [{"index": index, "embedding": [number, 1.0]} for index, _ in enumerate(texts)]
        return 200, json.dumps({"data": rows}).encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A server at a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = state.embed(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            # The client may be killed.
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield state
        state.let_go.set()
        server.shutdown()
        thread.join()


class App:
    """The running example: its API, and workers that a test starts and ends."""

    def __init__(self, folder: Path, env: dict[str, str], client: httpx.Client, stack: ExitStack) -> None:
        self.folder = folder
        self.env = env
        self.client = client
        self._stack = stack
        self._workers = 0

    def start_worker(self) -> Service:
        self._workers += 1
        folder = self.folder / f"worker-{self._workers}"
        folder.mkdir()
        return self._stack.enter_context(worker(self.env, folder))

    def submit(self) -> str:
        body = {"paths": [f"document-{number:02}.txt" for number in range(1, DOCUMENTS + 1)]}
        return str(self.client.post("/jobs/ingest", json=body).raise_for_status().json()["urls"]["self"])

    def job(self, url: str) -> dict[str, Any]:
        return dict(self.client.get(url).raise_for_status().json())

    def end(self, url: str) -> dict[str, Any]:
        wait_until(lambda: self.job(url)["completed_at"], "the end of the job")
        return self.job(url)


@pytest.fixture
def app(endpoint: Endpoint, tmp_path: Path) -> Iterator[App]:
    documents = tmp_path.resolve() / "documents"
    documents.mkdir()
    for number in range(1, DOCUMENTS + 1):
        (documents / f"document-{number:02}.txt").write_text(f"This is document {number}. It says very little.")
    with ExitStack() as stack:
        server = stack.enter_context(start_server(use_environment=False))
        env = environment(
            {
                "REDIS_URL": server.url,
                "DOCUMENT_ROOTS": str(documents),
                "DOCUMENT_STORE": str(tmp_path / "store.db"),
                "EMBEDDINGS_URL": endpoint.url,
                "AIJOBS_LEASE_SECONDS": "5",
            }
        )
        _, url = stack.enter_context(api(env, tmp_path))
        client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
        yield App(tmp_path, env, client, stack)


def kill_worker(service: Service) -> None:
    """The whole worker at once, as when its machine fails."""
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()


def kill_child(service: Service) -> None:
    """The process that runs the job, as when it is out of memory."""
    for child in psutil.Process(service.process.pid).children():
        if "celery" in " ".join(child.cmdline()):
            child.kill()


def holds_the_result(app: App, endpoint: Endpoint, job: dict[str, Any], in_flight: int) -> None:
    """Every document is counted and stored once, and was embedded once but for the one in flight."""
    assert job["status"] == "success", job
    assert Counter(endpoint.asked) == {**dict.fromkeys(range(1, DOCUMENTS + 1), 1), FATAL: in_flight}
    assert endpoint.asked == sorted(endpoint.asked), "the documents came in order"
    report = app.client.get(job["urls"]["result"]).json()
    assert (report["documents"], report["ingested"], report["chunks"]) == (DOCUMENTS, DOCUMENTS, DOCUMENTS)
    assert (report["unchanged"], report["failures"]) == (0, [])
    found = app.client.get("/search", params={"q": "document 7", "k": 50}).json()["hits"]
    assert len({hit["path"] for hit in found}) == DOCUMENTS


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kill", [kill_worker, kill_child])
def test_a_killed_process_costs_no_document_but_the_one_in_flight(
    app: App, endpoint: Endpoint, kill: Callable[[Service], None]
) -> None:
    first = app.start_worker()
    url = app.submit()
    wait_until(lambda: FATAL in endpoint.asked, "the fatal document")
    wait_until(lambda: app.job(url)["progress_detail"]["current"] == FATAL - 1, "the report of those before")
    kill(first)
    if kill is kill_worker:
        app.start_worker()
    job = app.end(url)
    assert (job["attempt"], job["progress_detail"]["total"]) == (2, DOCUMENTS)
    holds_the_result(app, endpoint, job, in_flight=2)


@pytest.mark.timeout(180)
def test_a_retry_goes_on_at_the_document_that_failed(app: App, endpoint: Endpoint) -> None:
    endpoint.trouble = 503
    app.start_worker()
    job = app.end(app.submit())
    assert job["attempt"] == 2
    holds_the_result(app, endpoint, job, in_flight=2)


@pytest.mark.timeout(180)
def test_a_dead_letter_that_is_run_again_goes_on_at_the_document_that_failed(app: App, endpoint: Endpoint) -> None:
    endpoint.trouble = 400
    app.start_worker()
    url = app.submit()
    job = app.end(url)
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert len(endpoint.asked) == FATAL
    app.client.post(f"{url}/retry").raise_for_status()
    holds_the_result(app, endpoint, app.end(url), in_flight=2)
