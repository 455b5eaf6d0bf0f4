"""From the options of `aijobs dev` to a running session."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aijobs._process import Stage, SupervisedProcess, tail
from aijobs.cli.dev import broker, probe
from aijobs.cli.dev.probe import Found
from aijobs.cli.dev.session import Service, Session
from aijobs.errors import ConfigurationError
from aijobs.store.connect import hide_password

_PROBE_STAGES = (Stage("TERM", 1),)
_API_STAGES = (Stage("TERM", 6),)
# A worker gives its jobs five seconds, then gives them back to the queue, which takes a moment.
_WORKER_STAGES = (Stage("TERM", 9), Stage("QUIT", 3))


@dataclass(frozen=True, slots=True)
class Options:
    """What the command was asked for."""

    worker: str
    api: str | None
    host: str
    port: int
    data: Path
    queues: str | None
    concurrency: int | None
    pool: str | None
    loglevel: str
    reload: bool
    reload_dirs: tuple[Path, ...]


def run(options: Options) -> int:
    """Runs the command and returns its exit status.

    Raises:
        AijobsError: something is missing, wrong or in use; nothing is left running.
    """
    _check(options)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(options)) if options.api else None
        found = look_into_modules(options.worker, options.api, os.environ)
        server = broker.open_server(found, options.data, os.environ)
        if server.embedded:
            stack.enter_context(server.embedded)
        environment = broker.child_environment(found, server, os.environ)
        session = Session(
            _services(options, found, listener, environment),
            server.embedded,
            sys.stdout,
            options.reload_dirs if options.reload else (),
            options.data,
        )
        return session.run(list(_summary(options, found, server, listener, environment)))


def look_into_modules(worker: str, api: str | None, environ: Mapping[str, str]) -> Found:
    """Imports the user's modules in a process of its own and says what is in them.

    Raises:
        ConfigurationError: they cannot be imported, or are not what they should be.
    """
    question = json.dumps({"worker": worker, "api": api, "ours": broker.unset(environ)})
    with (
        tempfile.TemporaryFile("a+b") as errors,
        SupervisedProcess(
            [sys.executable, "-m", probe.__name__, question],
            stages=_PROBE_STAGES,
            env=broker.probe_environment(environ),
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        answer = process.stdout.readline() if process.stdout else b""
        if not answer:
            raise ConfigurationError(
                f"Importing {worker} ended the process (exit status {process.wait()}):\n{tail(errors)}"
            )
    found = json.loads(answer)
    if "problem" in found:
        raise ConfigurationError(found["problem"])
    return Found(**found)


def _check(options: Options) -> None:
    needed = [("uvicorn", "--api", options.api), ("watchfiles", "reload (see --no-reload)", options.reload)]
    for module, purpose, wanted in needed:
        if wanted and importlib.util.find_spec(module) is None:
            raise ConfigurationError(f"{purpose} needs the package {module}: pip install 'aijobs[dev]'.")
    for folder in options.reload_dirs:
        if not folder.is_dir():
            raise ConfigurationError(f"--reload-dir {folder}: there is no such folder.")


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ConfigurationError(
            f"Port {options.port} on {options.host} {reason}: choose another with --port, or --port 0 for a free one."
        ) from error
    # Inherited by the connections on Linux and macOS; without it small events of a stream are held back.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _services(
    options: Options, found: Found, listener: socket.socket | None, environment: Mapping[str, str]
) -> list[Service]:
    """The services in the order in which to stop them."""
    spawn = partial(SupervisedProcess, env={**environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE)
    worker = Service("worker", partial(spawn, _worker_command(options, found), stages=_WORKER_STAGES))
    if not (found.api and listener):
        return [worker]
    socket_fd = listener.fileno()
    command = [sys.executable, "-m", "aijobs.cli.dev.serve", found.api, str(socket_fd), options.loglevel]
    return [Service("api", partial(spawn, command, stages=_API_STAGES, pass_fds=(socket_fd,))), worker]


def _worker_command(options: Options, found: Found) -> list[str]:
    given = {"--concurrency": options.concurrency, "--pool": options.pool, "--queues": options.queues}
    return [
        *(sys.executable, "-m", "celery", "--quiet", "--app", found.worker, "worker"),
        # There is one worker: looking for others at the start only takes time.
        *("--without-mingle", "--without-gossip", f"--loglevel={options.loglevel}"),
        *(f"{name}={value}" for name, value in given.items() if value is not None),
    ]


def _summary(
    options: Options,
    found: Found,
    server: broker.Server,
    listener: socket.socket | None,
    environment: Mapping[str, str],
) -> Iterator[str]:
    if listener:
        base = f"http://{_authority(options.host, listener)}"
        yield f"api     {base}" + (f", docs {base}{found.docs}" if found.docs else "")
    yield f"worker  {found.worker}"
    yield f"server  {hide_password(server.url)}, {server.note}" if server.url else f"server  {server.note}"
    if store := environment.get("AIJOBS_STORE_URL"):
        yield f"store   {hide_password(store)}"
    if server.embedded:
        yield f"data    {server.embedded.data_dir}"
    if options.reload:
        folders = ", ".join(str(folder.resolve()) for folder in options.reload_dirs)
        yield f"reload  when a Python file changes below {folders}"


def _authority(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
