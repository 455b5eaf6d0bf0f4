"""APIs and workers in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tests.helpers import wait_until

from .conftest import DEADLINE_SECONDS

APPS = Path(__file__).parent / "apps"

WORKER = ("celery", "-A", "service:celery_app", "worker", "-P", "threads", "-l", "INFO")

#: A busy machine must not make the store look away.
PATIENCE = {"AIJOBS_STORE_TIMEOUT_SECONDS": "10"}


@contextmanager
def process(log: Path, environ: Mapping[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a Python module; it is gone afterwards."""
    with log.open("wb") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=APPS,
            env={**os.environ, **environ},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def until_logged(log: Path, text: str, running: subprocess.Popen[bytes]) -> str:
    """The line of a process's output that has this text."""

    def look() -> str | None:
        assert running.poll() is None, log.read_text()
        return next((line for line in log.read_text().splitlines() if text in line), None)

    return wait_until(look, text)


@contextmanager
def api_process(
    environ: Mapping[str, str], log: Path, app: str = "service:app", *options: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs uvicorn, on a free port unless the options say otherwise; gives the address."""
    command = ("uvicorn", app, "--port", "0", "--no-access-log", *options)
    with process(log, environ, *command) as running:
        yield until_logged(log, "running on", running).split("running on ")[1].split()[0], running


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """An API that can be ended and started again at the same address.

    Args:
        environ: of its processes.
        log: of the one that runs.
        app: what uvicorn is to serve.
        *options: of uvicorn.
    """

    def __init__(self, environ: Mapping[str, str], log: Path, app: str = "service:app", *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = (*options, "--port", str(self.port))
        self._environ = environ
        self._log = log
        self._app = app
        self._process = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def start(self) -> None:
        """Starts a process, and waits until it serves."""
        _, self.running = self._process.enter_context(api_process(self._environ, self._log, self._app, *self._options))

    def end(self, how: signal.Signals) -> None:
        """Sends the process a signal and waits until it has gone."""
        self.running.send_signal(how)
        self.running.wait(DEADLINE_SECONDS)
        self._process.close()

    def restart(self, how: signal.Signals) -> None:
        """Ends the process by a signal and starts another one."""
        self.end(how)
        self.start()
