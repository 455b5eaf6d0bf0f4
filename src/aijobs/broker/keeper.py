"""A process that keeps on renewing for a worker whose own threads cannot: a task may hold Python's lock for long.

    python -m aijobs.broker.keeper

It reads one line of JSON from its standard input, which says what to renew, and goes on until that is closed, as it is
when the worker ends in whatever way. While the worker is stopped it renews nothing: a worker that is frozen must lose
what it holds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redis.exceptions import RedisError

from aijobs._vitals import is_stopped
from aijobs.errors import ConfigurationError
from aijobs.store.connect import connection_pool, normalize
from aijobs.store.line import Line
from aijobs.store.values import ScriptCall

logger = logging.getLogger(__name__)

_MODULE = "aijobs.broker.keeper"
#: How long the process may take to end once it is told to, seconds.
_END_SECONDS = 2.0
_RESTART_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A script to run on a Redis server every so many seconds."""

    #: Its URL is one as kombu reads it when `broker` is given, else as the job store does.
    call: ScriptCall
    #: How often, seconds.
    interval: float
    #: What kombu is told beside the address (`transport_options`, `ssl`), for a broker.
    broker: Mapping[str, Any] | None = None


def needs_keeper(pool_class: type) -> bool:
    """Whether tasks of a pool run in the worker's main process, where they can keep its threads from running."""
    from celery.concurrency.prefork import TaskPool

    return not issubclass(pool_class, TaskPool)


class Keeper:
    """The process, seen from the worker that starts it; it is started again when it dies.

    Args:
        entries: what to renew.

    Raises:
        ConfigurationError: a broker option cannot be handed over.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        try:
            self._told = json.dumps([asdict(entry) for entry in entries]).encode() + b"\n"
        except TypeError as error:
            raise ConfigurationError(
                "broker_transport_options or broker_use_ssl has a value that another process cannot be told "
                f"({error}). Use plain values, such as the dotted name of a credential provider, or the prefork pool."
            ) from None
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="aijobs-keeper", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the process."""
        self._process = self._spawn()
        self._thread.start()

    def stop(self) -> None:
        """Ends it; doing so twice does nothing."""
        self._stopped.set()
        process, self._process = self._process, None
        if process is None:
            return
        _close(process)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # In a session of its own, so that Ctrl-C in the terminal does not reach it before the worker has ended.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.write(self._told)
                process.stdin.flush()
        return process

    def _watch(self) -> None:
        while (process := self._process) is not None:
            status = process.wait()
            if self._stopped.wait(_RESTART_SECONDS):
                return
            logger.warning("The keeper process ended with status %s and is started again.", status)
            _close(process)
            self._process = self._spawn()


def main() -> None:
    """Renews what standard input says until it is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        # It ends with its worker, which may still have jobs to finish.
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    for told in json.loads(sys.stdin.buffer.readline() or b"[]"):
        entry = Entry(**{**told, "call": ScriptCall(**told["call"])})
        threading.Thread(target=_renew, args=(entry, parent), daemon=True).start()
    sys.stdin.buffer.read()


def _renew(entry: Entry, parent: int) -> None:
    line, call = None, entry.call
    while os.getppid() == parent:
        if not is_stopped(parent):
            try:
                line = line or _open(entry)
                line.call("EVAL", call.script, len(call.keys), *call.keys, *call.arguments)
            except (RedisError, OSError) as error:
                # Said once a minute would be enough, but the worker says more: its own thread has the same trouble.
                logger.debug("Not renewed: %s", error)
        time.sleep(entry.interval)
    os._exit(0)


def _open(entry: Entry) -> Line:
    url = entry.call.url
    if entry.broker is None:
        return Line(connection_pool(normalize(url), max(0.4, entry.interval)))
    return Line(_broker_pool(url, **entry.broker))


def _broker_pool(url: str, transport_options: Mapping[str, Any], ssl: Any) -> Any:
    from kombu import Connection

    from aijobs.broker.connection import sentinel_options

    options = {**transport_options, "sentinel_kwargs": sentinel_options(transport_options)}
    return Connection(url, transport_options=options, ssl=ssl).channel().pool


def _close(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()


if __name__ == "__main__":
    main()
