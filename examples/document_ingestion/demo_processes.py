"""Starts the demo's worker and API, and makes sure that they end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
PORT = 8000
#: How long a process may take to end by itself, in seconds.
GRACE_SECONDS = 10.0

_EXAMPLES = Path(__file__).parents[1]
#: Settings of the user's other work that would lead the demo away from its own server.
_FOREIGN = ("AIJOBS_", "CELERY_")


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process that the demo has started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self, patience: float = 0) -> None:
        """Does nothing while the process runs.

        Args:
            patience: how long to look whether it is just ending, in seconds.

        Raises:
            DemoError: it has ended; the message has the end of its log.
        """
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        raise DemoError("\n".join([f"The {self.name} ended with status {status}:", *lines]))

    def stop(self) -> None:
        """Ends the process; by force, with its children, when that takes too long or is interrupted."""
        self.process.terminate()
        try:
            self.process.wait(GRACE_SECONDS)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment for the demo's processes: the user's, the given settings, and this package in reach."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    path = os.pathsep.join(filter(None, [str(_EXAMPLES), own.get("PYTHONPATH")]))
    return {**own, **settings, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def worker(env: Mapping[str, str], folder: Path) -> Iterator[Service]:
    """A Celery worker, until the block ends."""
    command = ["celery", "--app", "document_ingestion.worker", "worker", "--concurrency=1", "--loglevel=INFO"]
    with running("worker", command, env, folder) as service:
        yield service


@contextlib.contextmanager
def api(env: Mapping[str, str], folder: Path) -> Iterator[tuple[Service, str]]:
    """The API and its URL, until the block ends. It listens on port 8000, or a free one if that is taken."""
    with serving("API", "document_ingestion.main:app", env, folder, PORT) as served:
        yield served


@contextlib.contextmanager
def serving(name: str, app: str, env: Mapping[str, str], folder: Path, port: int = 0) -> Iterator[tuple[Service, str]]:
    """An ASGI app as a process, and its URL, until the block ends.

    Args:
        name: what it is called, for its log and for people.
        app: the app, as uvicorn takes it.
        env: the environment.
        folder: where it runs, and logs.
        port: where it listens, unless that is taken; 0 for any.
    """
    with _listening(port) as listener:
        command = ["uvicorn", app, "--fd", str(listener.fileno())]
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        with running(name, command, env, folder, pass_fds=[listener.fileno()]) as service:
            listener.close()
            yield service, url


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], env: Mapping[str, str], folder: Path, pass_fds: Sequence[int] = ()
) -> Iterator[Service]:
    """A Python module as a process, until the block ends.

    Args:
        name: what it is called, for its log and for people.
        command: the module and its arguments.
        env: the environment.
        folder: where it runs, and logs.
        pass_fds: what it gets beside its standard streams.
    """
    log = folder / f"{name.lower()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which ends the others in order
        )
    service = Service(name, process, log)
    try:
        yield service
    finally:
        service.stop()


def _listening(port: int) -> socket.socket:
    """A socket that listens already: nobody can take its port, and early requests wait instead of failing."""
    try:
        return socket.create_server((HOST, port))
    except OSError:
        return socket.create_server((HOST, 0))
