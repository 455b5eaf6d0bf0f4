"""The example as its users meet it: the demo in a terminal, the API over HTTP. Everything is real."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from aijobs.embedded import start_server
from document_ingestion.demo_documents import write_default_documents
from document_ingestion.demo_events import Event, ProgressView, read_events
from document_ingestion.demo_processes import DemoError, api, environment, worker
from document_ingestion.documents import find_documents
from tests.examples.demo_run import DEADLINE_SECONDS, document_demo
from tests.examples.document_files import COFFEE, TEA


@pytest.mark.timeout(180)
def test_the_demo_ingests_the_default_documents_and_answers_rightly(scratch: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:  # a busy port 8000 must not matter
            other.bind(("127.0.0.1", 8000))
            other.listen()
        except OSError:
            pass
        demo = document_demo(scratch)
        status, output = demo.finish()
    assert status == 0, output
    found = int(output.split("Found ")[1].split()[0])
    assert found >= 50
    assert f"{found}/{found} documents" in output
    assert f"Ingested {found} of {found} documents" in output
    lambda_answer, pdf_answer = output.split("\nWhich library")
    assert "lambda.rst" in lambda_answer
    assert "anonymous functions" in lambda_answer
    assert "pypdf.md" in pdf_answer
    assert demo.leftovers() == []


@pytest.mark.timeout(180)
def test_the_demo_takes_a_folder_with_bad_documents_in_it(scratch: Path, library: Path) -> None:
    demo = document_demo(scratch, str(library), "--ask", "Is green tea oxidised?")
    status, output = demo.finish()
    assert status == 0, output
    assert "Ingested 7 of 14 documents" in output
    assert "locked.pdf: The PDF needs a password" in output
    assert "Green tea is heated early" in output.split("Is green tea")[1]
    assert demo.leftovers() == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_demo_leaves_nothing_when_it_is_stopped(scratch: Path, number: signal.Signals, status: int) -> None:
    demo = document_demo(scratch)
    demo.read_until("accepted as job")
    demo.process.send_signal(number)
    assert demo.finish()[0] == status
    assert demo.leftovers() == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("name", "message"), [("nothing", "There is nothing at"), ("", "There are no documents there")]
)
def test_the_demo_says_when_there_is_nothing_to_ingest(scratch: Path, root: Path, name: str, message: str) -> None:
    demo = document_demo(scratch, str(root / name))
    status, output = demo.finish()
    assert status == 1
    assert message in output
    assert "Traceback" not in output
    assert demo.leftovers() == []


# The API


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the app may read."""
    return tmp_path_factory.mktemp("app").resolve()


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[httpx.Client]:
    """The running app."""
    with start_server(use_environment=False) as server:
        settings = {
            "REDIS_URL": server.url,
            "DOCUMENT_ROOTS": str(folder),
            "DOCUMENT_STORE": str(folder / "store.db"),
        }
        with worker(environment(settings), folder), api(environment(settings), folder) as (_, url):
            with httpx.Client(base_url=url, timeout=60) as client:
                yield client


def submit_and_wait(app: httpx.Client, **body: object) -> dict[str, Any]:
    job = app.post("/jobs/ingest", json=body, headers={"Prefer": "wait=30"}).raise_for_status().json()
    while job["completed_at"] is None:
        job = app.get(job["urls"]["self"], headers={"Prefer": "wait=30"}).raise_for_status().json()
    return dict(job)


@pytest.mark.timeout(180)
def test_what_is_ingested_over_http_is_found_over_http(app: httpx.Client, folder: Path) -> None:
    (folder / "tea.txt").write_text(TEA)
    (folder / "coffee.txt").write_text(COFFEE)
    job = submit_and_wait(app, paths=["tea.txt", str(folder / "coffee.txt"), "gone.txt"], collection="drinks")
    assert job["status"] == "success", job
    assert job["progress_detail"]["current"] == job["progress_detail"]["total"] == 3
    report = app.get(job["urls"]["result"]).json()
    assert (report["ingested"], report["failures"][0]["problem"]) == (2, "missing")
    found = app.get("/search", params={"q": "How is tea dried?", "collection": "drinks", "k": 1}).json()
    assert [(hit["path"], hit["text"]) for hit in found["hits"]] == [(str(folder / "tea.txt"), TEA)]
    assert app.get("/search", params={"q": "How is tea dried?"}).json()["hits"] == []


@pytest.mark.timeout(180)
def test_a_job_without_documents_fails_and_says_so(app: httpx.Client, folder: Path) -> None:
    (folder / "nothing").mkdir()
    job = submit_and_wait(app, paths=["nothing"])
    assert job["status"] == "failed"
    assert "There are no documents at these paths" in job["error"]["message"]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"paths": ["tea.txt", "/etc/passwd"]}, "/paths/1"),
        ({"paths": ["../secret.txt"]}, "/paths/0"),
        ({"paths": ["a\0b"]}, "/paths/0"),
        ({"paths": []}, "/paths"),
        ({"paths": "tea.txt"}, "/paths"),
        ({"paths": ["tea.txt"], "collection": "a/b"}, "/collection"),
        ({}, "/paths"),
    ],
)
def test_a_request_that_may_not_be_is_refused_before_it_is_a_job(
    app: httpx.Client, body: dict[str, object], pointer: str
) -> None:
    response = app.post("/jobs/ingest", json=body)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [f"#{pointer}"]
    assert "passwd" not in response.text


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "query", [{}, {"q": ""}, {"q": "x", "k": 0}, {"q": "x", "k": 51}, {"q": "x", "collection": "/"}]
)
def test_a_search_that_makes_no_sense_is_refused(app: httpx.Client, query: dict[str, str]) -> None:
    assert app.get("/search", params=query).status_code == 422


@pytest.mark.timeout(180)
def test_a_search_without_embeddings_says_what_is_wrong(app: httpx.Client, folder: Path) -> None:
    settings = {"DOCUMENT_STORE": str(folder / "other.db"), "EMBEDDINGS_URL": "http://127.0.0.1:9/v1"}
    with api(environment(settings), folder) as (_, url):
        response = httpx.get(f"{url}/search", params={"q": "tea"}, timeout=60)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert "http://127.0.0.1:9/v1/embeddings cannot be reached" in response.json()["detail"]


# The demo's parts


def test_the_default_documents_are_real_and_many(tmp_path: Path) -> None:
    assert write_default_documents(tmp_path) >= 50
    assert len(find_documents(["."], [tmp_path.resolve()])) >= 50


def test_events_are_read_from_their_lines() -> None:
    lines = [
        *("retry: 2000", ""),
        *("id: 1", "event: job.progress", 'data: {"seq": 1}', ""),
        *(": ping", ""),
        *('data:{"seq": 2}', ""),
        *("event: lost", 'data: {"half": true}'),
    ]
    assert list(read_events(lines)) == [
        Event("job.progress", {"seq": 1}, "1"),
        Event("message", {"seq": 2}, "1"),
    ]


def test_without_a_terminal_progress_is_lines() -> None:
    screen = StringIO()
    detail = {"current": 5, "total": 10, "unit": "documents", "rate": 2.5, "eta_seconds": 2.0}
    with ProgressView(Console(file=screen, width=100)) as view:
        view.show(detail)
        view.show({**detail, "current": 6})
        view.show({**detail, "current": 10, "rate": None, "eta_seconds": None})
    assert screen.getvalue().splitlines() == ["  5/10 documents  2/s  ETA 2 s", "  10/10 documents"]


def test_in_a_terminal_progress_is_a_bar() -> None:
    screen = StringIO()
    detail = {"current": 5, "total": 10, "unit": "documents", "rate": 2.5, "eta_seconds": 2.0}
    with ProgressView(Console(file=screen, width=100, force_terminal=True, color_system=None)) as view:
        view.show(detail)
    assert re.search("ingesting ━+ +5/10 documents  2/s  ETA 2 s", screen.getvalue())


@pytest.mark.timeout(60)
def test_a_worker_that_cannot_start_is_shown_with_its_log(tmp_path: Path) -> None:
    with worker(environment({"DOCUMENT_MAX_BYTES": "none"}), tmp_path) as service:
        service.process.wait(DEADLINE_SECONDS)
        with pytest.raises(DemoError, match=r"worker ended with status 2:\n(.*\n)*.*DOCUMENT_MAX_BYTES"):
            service.check()
