"""`aijobs dev` as its users meet it: real processes, a real server, real HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest
import redis

from aijobs.cli.dev.broker import unset
from aijobs.embedded import start_server

DEADLINE_SECONDS = 90.0

WORKER = """
import os, time
from celery import Celery
{more_imports}
celery_app = Celery("shop", broker={broker}, backend={backend})

@celery_app.task
def price(amount):
    print("price of", amount)
    return amount * 2

@celery_app.task(acks_late=True)
def slow(seconds):
    time.sleep(seconds)
"""
API = """
from fastapi import FastAPI
from shop.worker import price

app = FastAPI()

@app.get("/price/{amount}")
def get_price(amount: int):
    return {"version": 1, "price": price.delay(amount).get(timeout=60)}
"""
FROM_ENVIRONMENT = 'os.environ["CELERY_BROKER_URL"]', 'os.environ["CELERY_RESULT_BACKEND"]'


class Dev:
    """One run of the command in a project's folder."""

    def __init__(self, project: Path, *arguments: str) -> None:
        ours = unset({})
        self._log = project / f"dev-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aijobs", "dev", *arguments],
                cwd=project,
                env={name: value for name, value in os.environ.items() if name not in ours},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace").strip()

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """Waits until a pattern was printed, and gives its first group, or all of it."""
        eventually(
            lambda: len(re.findall(pattern, self.output)) >= times,
            lambda: f"no {pattern!r} in:\n{self.output}",
        )
        match = re.search(pattern, self.output)
        assert match
        return match.group(match.lastindex or 0)

    def family(self) -> list[psutil.Process]:
        """All processes that the command has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals) -> int:
        """Sends a signal, and gives the exit status once no process is left."""
        family = self.family()
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_SECONDS)
        eventually(lambda: not any(map(is_running, family)), lambda: f"left running: {family}")
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


def eventually(condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.02)


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose broker is written into the code, at an address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    make_project(tmp_path, f"'redis://localhost:{port}/0'", f"'redis://localhost:{port}/1'")
    return tmp_path


def make_project(folder: Path, broker: str, backend: str, more_imports: str = "") -> None:
    (folder / "shop").mkdir()
    (folder / "shop/__init__.py").touch()
    (folder / "shop/worker.py").write_text(WORKER.format(broker=broker, backend=backend, more_imports=more_imports))
    (folder / "shop/main.py").write_text(API)


def send(project: Path, url: str, task: str, argument: int, queue: str = "celery") -> None:
    """Sends a job from outside, as a script in another terminal does."""
    script = f"from shop.worker import {task}; {task}.apply_async([{argument}], queue={queue!r})"
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        check=True,
        env={**os.environ, "CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url},
    )


def save(path: Path, text: str) -> None:
    """Saves a file as an editor does: it is never seen half-written."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def answer(url: str) -> object:
    """What the API answers; None when a reload got in the way."""
    try:
        response = httpx.get(url, timeout=DEADLINE_SECONDS)
    except httpx.TransportError:
        return None
    return response.json() if response.is_success else None


def run(project: Path, *arguments: str) -> tuple[int, str]:
    """A run of the command that ends by itself."""
    with Dev(project, *arguments) as dev:
        status = dev.process.wait(DEADLINE_SECONDS)
    return status, dev.output


def test_a_project_runs_unchanged_and_is_reloaded(project: Path) -> None:
    arguments = ("shop.worker:celery_app", "--api", "shop.main:app", "--port", "0", "--concurrency", "1")
    with Dev(project, *arguments) as dev:
        url = dev.wait_for(r"dev \| api +(http://127\.0\.0\.1:\d+), docs http://127\.0\.0\.1:\d+/docs")
        assert answer(f"{url}/price/21") == {"version": 1, "price": 42}
        dev.wait_for(r"server \| Ready to accept connections")
        assert "worker | " in dev.output
        assert "api | INFO:     Application startup complete." in dev.output

        save(project / "shop/main.py", API.replace('"version": 1', '"version": 2'))
        dev.wait_for(r"dev \| shop/main\.py changed: reloading")
        eventually(lambda: answer(f"{url}/price/4") == {"version": 2, "price": 8}, lambda: dev.output)

        save(project / "shop/main.py", "def broken(:\n")
        dev.wait_for(r"The api ended on its own with exit status 1; it starts again when a file changes")
        save(project / "shop/main.py", API.replace('"version": 1', '"version": 3'))
        # Nothing serves at this moment, but the socket is open: the request waits for the next API.
        eventually(lambda: answer(f"{url}/price/5") == {"version": 3, "price": 10}, lambda: dev.output)
        assert dev.end(signal.SIGINT) == 130
    ends = [
        r"dev \| stopping",
        r"api \| .*Application shutdown complete",
        r"worker \| .*Warm shutdown",
        r"dev \| stopped",
    ]
    places = [[match.start() for match in re.finditer(end, dev.output)][-1] for end in ends]
    assert places == sorted(places), dev.output
    assert (project / ".aijobs/server.log").exists()


def test_jobs_survive_a_restart_of_everything(tmp_path: Path) -> None:
    make_project(tmp_path, *FROM_ENVIRONMENT)
    with Dev(tmp_path, "shop.worker", "--queues", "other", "--data", "kept") as dev:
        send(tmp_path, dev.wait_for(r"dev \| server +(redis://\S+),"), "price", 17)
        dev.wait_for(r"celery@\S+ ready")
        assert dev.end(signal.SIGTERM) == 0
    with Dev(tmp_path, "shop.worker", "--data", "kept", "--pool", "threads") as dev:
        dev.wait_for(r"(?s)worker \| .*price of.*17")


def test_a_killed_command_leaves_no_process_and_a_second_one_is_refused(project: Path) -> None:
    arguments = ("shop.worker:celery_app", "--api", "shop.main:app", "--port", "0", "--concurrency", "2")
    with Dev(project, *arguments) as dev:
        dev.wait_for(r"celery@\S+ ready")
        dev.wait_for(r"Application startup complete")
        status, output = run(project, "shop.worker:celery_app")
        assert status == 2
        assert output.startswith(f"aijobs: The data folder {project}/.aijobs is in use by process {dev.process.pid}:")

        commands = [" ".join(process.cmdline()) for process in dev.family()]
        # Server and API with a supervisor each; the worker with a supervisor and two pool processes.
        assert len(commands) >= 2 + 2 + 4, commands
        assert dev.end(signal.SIGKILL) == -signal.SIGKILL


def test_the_second_request_to_stop_does_not_wait(project: Path) -> None:
    with Dev(project, "shop.worker:celery_app", "--concurrency", "1", "--no-reload") as dev:
        url = dev.wait_for(r"dev \| server +(redis://\S+),")
        send(project, url, "slow", 600)
        dev.wait_for(r"Task shop\.worker\.slow\S+ received")
        dev.process.send_signal(signal.SIGINT)
        dev.wait_for(r"Warm shutdown")
        assert dev.end(signal.SIGINT) == 130
    assert "Cold shutdown" not in dev.output


def test_a_running_server_is_used_and_left_running(tmp_path: Path) -> None:
    with start_server(use_environment=False) as server, redis.Redis.from_url(server.url) as client:
        make_project(tmp_path, repr(server.url), repr(server.url))
        with Dev(tmp_path, "shop.worker", "--concurrency", "1") as dev:
            assert dev.wait_for(r"dev \| server +(\S+), found running") == server.url
            dev.wait_for(r"celery@\S+ ready")
            assert dev.end(signal.SIGTERM) == 0
        assert client.ping()
    assert not (tmp_path / ".aijobs").exists()


def test_without_reload_a_failure_ends_the_command(tmp_path: Path) -> None:
    crash = "from celery.signals import worker_ready\nworker_ready.connect(lambda **_: os._exit(7), weak=False)\n"
    make_project(tmp_path, *FROM_ENVIRONMENT, crash)
    status, output = run(tmp_path, "shop.worker", "--no-reload")
    assert status == 1
    assert "dev | The worker ended on its own with exit status 7. Stopping the rest." in output


def test_a_server_that_dies_ends_the_command(tmp_path: Path) -> None:
    make_project(tmp_path, *FROM_ENVIRONMENT)
    with Dev(tmp_path, "shop.worker", "--concurrency", "1") as dev:
        dev.wait_for(r"celery@\S+ ready")
        family = dev.family()
        server = next(process for process in family if process.exe().endswith(("valkey-server", "redis-server")))
        server.kill()
        assert dev.process.wait(DEADLINE_SECONDS) == 1
        eventually(lambda: not any(map(is_running, family)), lambda: f"left running: {family}")
    assert "dev | The server was ended by SIGKILL" in dev.output


def test_a_port_in_use_is_named(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, output = run(project, "shop.worker", "--api", "shop.main", "--port", str(port))
    assert status == 2
    assert output.startswith(f"aijobs: Port {port} on 127.0.0.1 is in use: choose another with --port")


def test_something_else_at_the_brokers_address_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"redis://localhost:{other.getsockname()[1]}/0"
        make_project(tmp_path, repr(address), repr(address))
        status, output = run(tmp_path, "shop.worker")
    assert status == 2
    assert output.startswith(f"aijobs: The app's Redis is {address}, which does not answer")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shop.worker:app"], r"shop\.worker has no 'app'\. Did you mean shop\.worker:celery_app\?"),
        (["shop.worker", "--api", "shop.mian:app", "--port", "0"], r"There is no 'mian' in the package 'shop'"),
        (["shop.worker", "--reload-dir", "nowhere"], r"--reload-dir nowhere: there is no such folder"),
        (["shop.fatal"], r"Importing shop\.fatal ended the process \(exit status 9\):\nlast words"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_left(project: Path, arguments: list[str], message: str) -> None:
    fatal = "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos._exit(9)\n"
    (project / "shop/fatal.py").write_text(fatal)
    status, output = run(project, *arguments)
    assert status == 2
    assert re.match(f"aijobs: {message}", output), output
    assert not (project / ".aijobs").exists()
