"""`aijobs health`, on real files, processes and HTTP servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals
from celery.beat import Service

from aijobs import Settings, setup
from aijobs._vitals import SCHEDULER, SILENCE_SECONDS, WORKER, Sign, Vitals, complaint, is_stopped, last_sign
from aijobs.cli import health, main
from aijobs.worker.vitals import TICK_SECONDS, watch_scheduler
from tests.helpers import wait_until

NOW = 1_000.0


def look(*words: str) -> int:
    return main(["health", *words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIJOBS_HEALTH_FOLDER", str(tmp_path / "signs"))
    return tmp_path / "signs"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if isinstance(thread, Vitals):
            thread.stop()
            thread.join()


def due(folder: Path) -> float | None:
    """When the scheduler's loop is to turn next, by its last sign."""
    sign = last_sign(folder, SCHEDULER)
    return sign and sign.due


@contextmanager
def running(vitals: Vitals) -> Iterator[Vitals]:
    vitals.start()
    try:
        yield vitals
    finally:
        vitals.stop()
        vitals.join()


@contextmanager
def stopped_process() -> Iterator[int]:
    """A process that SIGSTOP has stopped."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid), "the stop")
        yield process.pid
    finally:
        process.kill()
        process.wait()


class TestSigns:
    def test_a_process_that_does_well(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with running(Vitals(folder, WORKER)):
            wait_until(lambda: last_sign(folder, WORKER), "the first sign")
            assert look("worker") == 0
        assert capsys.readouterr().out.startswith(f"ok: worker process {os.getpid()}, sign of life 0.")

    def test_signs_go_on_until_they_are_stopped(self, folder: Path) -> None:
        with running(Vitals(folder, SCHEDULER)) as vitals:
            wait_until(lambda: last_sign(folder, SCHEDULER), "the first sign")
            vitals.turn(within=5)
            wait_until(lambda: due(folder), "a sign that tells when the next turn is due")
            vitals.rest()
            wait_until(lambda: not due(folder), "a sign that tells of no turn")
        assert sorted(path.name for path in folder.iterdir()) == ["beat.json"]

    def test_only_its_user_may_write_there(self, folder: Path) -> None:
        with running(Vitals(folder, WORKER)):
            wait_until(folder.exists, "the folder")
        assert folder.stat().st_mode & 0o777 == 0o700

    def test_a_folder_that_cannot_be_written_is_complained_of_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        vitals = Vitals(tmp_path / "file", WORKER, lambda: True)
        with running(vitals):
            wait_until(lambda: caplog.messages, "the complaint")
            vitals.begin_task()
        vitals.begin_task()
        assert len(caplog.messages) == 1
        assert "aijobs health finds nothing" in caplog.text

    def test_a_task_that_begins_is_told_at_once(self, folder: Path) -> None:
        vitals = Vitals(folder, WORKER)
        vitals.begin_task()
        first = last_sign(folder, WORKER)
        assert first is not None
        assert first.busy
        vitals.begin_task()
        assert last_sign(folder, WORKER) == first, "it was said already"

    @pytest.mark.parametrize("service", ["worker", "beat"])
    def test_no_sign(self, folder: Path, capsys: pytest.CaptureFixture[str], service: str) -> None:
        assert look(service) == 1
        assert capsys.readouterr().out.startswith(f"unwell: no {service} has left a sign of life in {folder};")

    def test_no_folder(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.delenv("AIJOBS_HEALTH_FOLDER", raising=False)
        assert look("worker") == 1
        assert capsys.readouterr().out.startswith("unwell: AIJOBS_HEALTH_FOLDER is not set;")

    @pytest.mark.parametrize("text", ["", "{", "[1]", '"text"', "3", "\ud800"])
    def test_what_is_no_sign(self, folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
        folder.mkdir()
        (folder / "worker.json").write_bytes(text.encode(errors="surrogatepass"))
        assert look("worker") == 1
        assert "cannot be read" in capsys.readouterr().out

    def test_a_sign_from_before_the_machine_started(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder.mkdir()
        (folder / "worker.json").write_text(f"[{os.getpid()}, {time.monotonic() + 1_000}, null, false]")
        assert look("worker") == 1
        assert "no worker has left a sign of life" in capsys.readouterr().out


class TestComplaints:
    def test_none(self) -> None:
        for sign in (Sign(os.getpid(), NOW, None, False), Sign(os.getpid(), NOW - 5, NOW + 1, True)):
            assert complaint(sign, NOW) is None

    def test_a_process_that_has_ended(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        # A zombie until it is waited for.
        wait_until(lambda: complaint(Sign(process.pid, NOW, None, False), NOW), "the end")
        process.wait()
        told = complaint(Sign(process.pid, NOW, None, False), NOW)
        assert told == f"process {process.pid} has ended"

    def test_silence(self) -> None:
        told = complaint(Sign(os.getpid(), NOW - SILENCE_SECONDS - 1, NOW + 9, False), NOW)
        assert told == f"process {os.getpid()} has given no sign of life for 11 s"

    def test_a_task_may_keep_the_process_from_giving_signs(self) -> None:
        assert complaint(Sign(os.getpid(), NOW - 900, NOW - 890, True), NOW) is None

    def test_but_a_stopped_process_runs_no_task(self) -> None:
        with stopped_process() as pid:
            assert complaint(Sign(pid, NOW - 2, None, True), NOW) is None
            assert complaint(Sign(pid, NOW - 12, None, True), NOW) == f"process {pid} is stopped, for 12 s now"

    def test_a_loop_that_does_not_turn(self) -> None:
        told = complaint(Sign(os.getpid(), NOW, NOW - 3, False), NOW)
        assert told == f"process {os.getpid()} hangs: its main loop should have turned 3 s ago"


class TestScheduler:
    def service(self, folder: Path, tick: Any, **settings: Any) -> Service:
        app = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0", set_as_current=False)
        setup(app).settings = Settings(**settings)
        service = Service(app, schedule_filename=str(folder.parent / "schedule"))
        setattr(service.scheduler, "tick", tick)  # noqa: B010 - a method, to mypy
        return service

    def test_each_look_at_the_schedule_counts(self, folder: Path) -> None:
        service = self.service(folder, lambda: 7.0, health_folder=str(folder))
        signals.beat_init.send(sender=service)
        standby = wait_until(lambda: last_sign(folder, SCHEDULER), "the first sign")
        assert standby.due is None, "it may wait for a lock"
        before = time.monotonic()
        assert service.scheduler.tick() == 7.0
        told = wait_until(lambda: due(folder), "the time of the next look")
        assert 7.0 <= told - before - TICK_SECONDS <= 7.0 + time.monotonic() - before

    def test_without_a_folder_nothing_is_done(self, folder: Path) -> None:
        service = self.service(folder, tick := (lambda: 7.0))
        signals.beat_init.send(sender=service)
        assert service.scheduler.tick is tick

    def test_it_comes_before_what_may_wait_for_a_lock(self) -> None:
        def wait_for_lock(**_: Any) -> None: ...

        signals.beat_init.connect(wait_for_lock)
        try:
            watch_scheduler()
            assert signals.beat_init.receivers[0][0][0] == "aijobs.scheduler"
        finally:
            signals.beat_init.disconnect(wait_for_lock)


class Answers(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        if self.path == "/never":
            self.server.silence.wait()  # type: ignore[attr-defined]
            return
        body = b'{"detail": "No answer within 0.5 s\\u001b[2J from the job store."}' if self.path == "/503" else b"?"
        self.send_response(int(self.path[1:]) if self.path[1:].isdecimal() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.silence = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.silence.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


class TestApi:
    @pytest.mark.parametrize("status", [200, 307, 401, 403, 429])
    def test_an_answer(self, port: int, status: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert look("api", "--port", str(port), "--path", f"/{status}") == 0
        assert capsys.readouterr().out == f"ok: the API answers {status}\n"

    def test_store_or_broker_away(self, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert look("api", "--port", str(port), "--path", "/503") == 1
        said = "unwell: the API answers 503. No answer within 0.5 s\\x1b[2J from the job store.\n"
        assert capsys.readouterr().out == said
        assert look("api", "--port", str(port), "--path", "/503", "--live") == 0

    def test_other_errors(self, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert look("api", "--port", str(port), "--path", "/500") == 1
        assert capsys.readouterr().out == "unwell: the API answers 500.\n"

    def test_another_path(self, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert look("api", "--port", str(port), "--path", "/404") == 1
        assert "has no /404; name its health route with --path" in capsys.readouterr().out
        assert look("api", "--port", str(port), "--path", "/404", "--live") == 0

    def test_no_answer(self, port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "ANSWER_SECONDS", 0.2)
        for live in ([], ["--live"]):
            assert look("api", "--port", str(port), "--path", "/never", *live) == 1
            assert capsys.readouterr().out == f"unwell: the API on port {port} does not answer within 0.2 s.\n"

    @pytest.mark.parametrize("path", ["/a b", "/\n"])
    def test_no_server_and_odd_paths(self, capsys: pytest.CaptureFixture[str], path: str) -> None:
        assert look("api", "--port", "1", "--path", path, "--live") == 1
        assert capsys.readouterr().out.startswith("unwell: nothing that speaks HTTP answers on port 1: ")


def test_it_loads_little() -> None:
    """It runs every few seconds: neither Celery nor pydantic, nor what other commands need."""
    script = "import sys; from aijobs.cli import main; main(['health', 'worker']); print(*sys.modules)"
    environ = {name: value for name, value in os.environ.items() if name != "AIJOBS_HEALTH_FOLDER"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environ, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"celery", "kombu", "redis", "pydantic", "fastapi", "aijobs.cli.dev", "http.client"})
