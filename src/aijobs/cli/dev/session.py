"""Keeps the processes of one `aijobs dev` in step: starts, reloads and stops them, and says what happens."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TextIO, TypeAlias

from aijobs._process import SupervisedProcess
from aijobs.cli import INTERRUPTED
from aijobs.cli.dev.log import MergedLog
from aijobs.cli.dev.watch import Watcher
from aijobs.embedded import LOG_NAME, EmbeddedServer

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CRASHED = 1
#: A process that was ended by signal n has the exit status 128 + n.
_SIGNAL_BASE = 128
_SHOWN_FILES = 3
#: How long to wait for the last lines of a process that has ended; a stray child may keep its output open.
_LAST_LINES_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Signalled:
    """We were asked to stop."""

    number: int


@dataclass(frozen=True, slots=True)
class Changed:
    """Source files changed."""


@dataclass(frozen=True, slots=True)
class Unwatched:
    """Files cannot be watched."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A process ended."""

    process: SupervisedProcess | EmbeddedServer
    status: int


Event: TypeAlias = Signalled | Changed | Unwatched | Ended


class Service:
    """A process that is started anew at each reload.

    Args:
        name: its name in the log.
        spawn: starts it, its output in a pipe.
    """

    def __init__(self, name: str, spawn: Callable[[], SupervisedProcess]) -> None:
        self.name = name
        self.process: SupervisedProcess | None = None
        self._spawn = spawn
        self._reader: threading.Thread | None = None

    def start(self, log: MergedLog, events: SimpleQueue[Event]) -> None:
        """Starts the process; its lines go to the log, its end becomes an event."""
        process = self.process = self._spawn()
        if process.stdout is not None:
            self._reader = _in_background(log.follow_output, self.name, process.stdout)
        _in_background(_report_end, process, events)

    def stop(self) -> None:
        """Stops the process and waits for its end and its last lines."""
        if self.process:
            self.process.stop()
        if self._reader:
            self._reader.join(_LAST_LINES_SECONDS)
        self.process = self._reader = None

    def kill(self) -> None:
        """Ends the process at once; safe in a signal handler."""
        if self.process:
            self.process.kill()


class Session:
    """One run of the command.

    Args:
        services: what to run, in the order in which to stop it.
        server: the embedded server, which stops last; None when there is none.
        stream: where the log goes.
        reload_dirs: the folders to watch; none means no reload.
        data_dir: a folder whose changes do not count.
    """

    def __init__(
        self,
        services: Sequence[Service],
        server: EmbeddedServer | None,
        stream: TextIO,
        reload_dirs: Sequence[Path],
        data_dir: Path,
    ) -> None:
        self._services = services
        self._server = server
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._log = MergedLog(stream, lambda: self._events.put(Signalled(signal.SIGPIPE)))
        self._watcher = self._make_watcher(reload_dirs, data_dir) if reload_dirs else None
        self._asked_to_stop = False
        self._done = threading.Event()

    def run(self, summary: Sequence[str]) -> int:
        """Runs everything until the user or a failure ends it.

        Args:
            summary: the lines to begin with.

        Returns:
            The exit status: 130 after Ctrl-C, 0 after another request to stop, 1 when a process failed.
        """
        with self._signals():
            for line in summary:
                self._say(line)
            try:
                self._start()
                return self._follow()
            finally:
                self._stop()

    def _start(self) -> None:
        if self._watcher:
            self._watcher.start()
        if self._server and self._server.data_dir:
            log_file = self._server.data_dir / LOG_NAME
            _in_background(self._log.follow_file, "server", log_file, self._done)
            _in_background(_report_end, self._server, self._events)
        self._start_services()

    def _start_services(self) -> None:
        for service in self._services:
            service.start(self._log, self._events)

    def _stop_services(self) -> None:
        # One after the other: a request that waits for its job can end while the worker is still there.
        for service in self._services:
            service.stop()

    def _follow(self) -> int:
        while True:
            status = self._handle(self._events.get())
            if status is not None:
                return status

    def _handle(self, event: Event) -> int | None:
        match event:
            case Signalled(number):
                return INTERRUPTED if number == signal.SIGINT else 0
            case Changed():
                self._reload()
            case Unwatched(reason):
                self._say(f"Reload is off, files cannot be watched: {reason}. Try a smaller --reload-dir.")
                self._watcher = None
            case Ended():
                return self._on_end(event)
        return None

    def _reload(self) -> None:
        changed = self._watcher.take() if self._watcher else []
        if not changed:
            return
        names = ", ".join(_shown(path) for path in changed[:_SHOWN_FILES])
        more = f" and {len(changed) - _SHOWN_FILES} more" if len(changed) > _SHOWN_FILES else ""
        self._say(f"{names}{more} changed: reloading")
        self._stop_services()
        if not self._asked_to_stop:
            self._start_services()

    def _on_end(self, end: Ended) -> int | None:
        if end.process is self._server:
            self._say(f"The server {_how(end.status)}; its log is in {end.process.data_dir}. Stopping the rest.")
            return _CRASHED
        service = next((service for service in self._services if service.process is end.process), None)
        if service is None:
            return None
        service.stop()
        if self._watcher is None:
            self._say(f"The {service.name} {_how(end.status)}. Stopping the rest.")
            return _CRASHED
        self._say(f"The {service.name} {_how(end.status)}; it starts again when a file changes.")
        return None

    def _stop(self) -> None:
        self._say("stopping (Ctrl-C again to end at once)")
        if self._watcher:
            self._watcher.stop()
        self._stop_services()
        if self._server:
            self._server.stop()
        self._done.set()
        self._say("stopped")

    def _make_watcher(self, folders: Sequence[Path], data_dir: Path) -> Watcher:
        return Watcher(
            folders,
            data_dir,
            on_change=lambda: self._events.put(Changed()),
            on_failure=lambda error: self._events.put(Unwatched(str(error))),
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._asked_to_stop:
            for process in (*self._services, self._server):
                if process:
                    process.kill()
        self._asked_to_stop = True
        self._events.put(Signalled(number))

    def _say(self, text: str) -> None:
        self._log.write("dev", text)


def _report_end(process: SupervisedProcess | EmbeddedServer, events: SimpleQueue[Event]) -> None:
    events.put(Ended(process, process.wait()))


def _in_background(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def _how(status: int) -> str:
    name = next((number.name for number in signal.Signals if status == _SIGNAL_BASE + number), None)
    return f"was ended by {name}" if name else f"ended on its own with exit status {status}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
