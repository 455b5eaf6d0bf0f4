"""One readable log of several processes: each line says whose it is."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, TextIO

_COLOURS = {"server": 35, "worker": 36, "api": 32, "dev": 33}
_WIDTH = max(map(len, _COLOURS))
_LINE_BYTES = 65_536
_TAIL_SECONDS = 0.3
#: What Redis and Valkey put before each message: process id and role, date, level.
_SERVER_PREFIX = re.compile(r"^\d+:(?:[A-Z] \d+ \w+ \d{4} [\d:.]+ [.\-*#]|signal-handler \(\d+\)) ")
_SERVER_READY = "Ready to accept connections"


class MergedLog:
    """Writes the lines of all processes to one stream, whole lines at a time.

    Args:
        stream: where to; colours only when it is a terminal and `NO_COLOR` is not set (https://no-color.org).
        on_closed: called once when nobody reads the stream any more.
    """

    def __init__(self, stream: TextIO, on_closed: Callable[[], None]) -> None:
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal lacks must not end the log.
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream
        self._on_closed = on_closed
        self._lock = threading.Lock()
        self._is_open = True
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def write(self, name: str, text: str) -> None:
        """Writes one line."""
        with self._lock:
            if not self._is_open:
                return
            try:
                self._stream.write(f"{self._prefix(name)} {text}\n")
                self._stream.flush()
            except OSError:
                self._is_open = False
        if not self._is_open:
            self._on_closed()

    def follow_output(self, name: str, output: IO[bytes]) -> None:
        """Copies what a process writes, until nobody can write there any more."""
        with output:
            for line in iter(lambda: output.readline(_LINE_BYTES), b""):
                self.write(name, line.decode(errors="replace").rstrip())

    def follow_file(self, name: str, path: Path, done: threading.Event) -> None:
        """Copies a server's log file from the line on that says that it is ready, until `done`."""
        ready = False
        with path.open(errors="replace") as file:
            while not done.wait(_TAIL_SECONDS):
                for line in file:
                    ready = ready or _SERVER_READY in line
                    if ready:
                        self.write(name, _SERVER_PREFIX.sub("", line.rstrip()))

    def _prefix(self, name: str) -> str:
        label = f"{name:>{_WIDTH}} |"
        return f"\x1b[{_COLOURS[name]}m{label}\x1b[0m" if self._coloured else label
