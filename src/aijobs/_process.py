"""Child processes that never outlive this one, not even when it is killed with SIGKILL."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aijobs import _supervisor

#: How long a supervisor may need beyond its stages, on a busy machine.
_SLACK_SECONDS = 15.0

_TAIL_LINES = 8
_TAIL_BYTES = 4096

_File = int | IO[bytes] | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of an orderly stop."""

    #: The signal's name without `SIG`, e.g. `TERM`.
    signal: str
    #: How long the process may take to end before the next step (the last step is SIGKILL).
    seconds: float


class NotStarted(OSError):
    """The command could not be executed; the message says why."""


class SupervisedProcess:
    """A command in a process group of its own, watched over by a small supervisor process.

    The group ends when `stop` or `kill` is called, and when this process ends in whatever way. The supervisor
    runs in a new session, so that Ctrl-C in the terminal reaches this process alone, which can then stop its
    children in order.

    Args:
        command: program and arguments.
        stages: how to stop it.
        env: its environment; by default this process's.
        stdin: its standard input; by default nothing.
        stdout: where its output goes, as for `subprocess.Popen`; error output goes to the same place unless
            `stderr` is given.
        pass_fds: file descriptors that it inherits.

    Raises:
        NotStarted: the program does not exist or cannot be executed.

    Attributes:
        pid: the command's process id, which is its group's id too.
        stdout: the reading end, when `stdout` is `subprocess.PIPE`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stages: Sequence[Stage],
        env: Mapping[str, str] | None = None,
        stdin: _File = subprocess.DEVNULL,
        stdout: _File = None,
        stderr: _File = subprocess.STDOUT,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._control, theirs = socket.socketpair()
        self._stop_seconds = sum(stage.seconds for stage in stages) + _SLACK_SECONDS
        with theirs:
            self._supervisor = subprocess.Popen(  # noqa: S603 - the caller's own command
                [*_supervisor_command(theirs, stages), *command],
                env=None if env is None else dict(env),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(theirs.fileno(), *pass_fds),
                start_new_session=True,
            )
        self.stdout = self._supervisor.stdout
        self.pid = self._read_pid()

    def poll(self) -> int | None:
        """The exit status if the command has ended, else None."""
        return self._supervisor.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the command's end.

        Args:
            timeout: seconds to wait; None waits for ever.

        Returns:
            The exit status, 128 + n after signal n.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        status = self._supervisor.wait(timeout)
        if status >= 0:
            return status
        # Somebody killed the supervisor: what it watched over is ours to end.
        _supervisor.kill_group(self.pid)
        return 128 - status

    def request_stop(self) -> None:
        """Begins an orderly stop and returns at once."""
        self._order(_supervisor.STOP)

    def kill(self) -> None:
        """Sends SIGKILL to the whole group and returns at once; safe in a signal handler."""
        self._order(_supervisor.KILL)

    def stop(self) -> int:
        """Stops the command stage by stage and waits until it has ended; returns its exit status."""
        self.request_stop()
        try:
            return self.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            return self.wait()
        finally:
            self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.stdout is not None:
            self.stdout.close()

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):
            self._control.send(order)

    def _read_pid(self) -> int:
        with self._control.makefile("rb") as lines:
            answer = lines.readline().decode().strip()
        if answer.isdecimal():
            return int(answer)
        self._supervisor.wait()
        self._control.close()
        raise NotStarted(answer or "its supervisor ended")


def tail(log: IO[bytes]) -> str:
    """The last lines of an open log, without moving the position that a child writes at."""
    size = os.fstat(log.fileno()).st_size
    text = os.pread(log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _supervisor_command(control: socket.socket, stages: Sequence[Stage]) -> list[str]:
    script = str(Path(_supervisor.__file__).resolve())
    steps = ",".join(f"{stage.signal}:{stage.seconds:g}" for stage in stages)
    # Isolated: neither the current folder nor PYTHONPATH may shadow a module of the standard library.
    return [sys.executable, "-I", script, str(control.fileno()), str(os.getpid()), steps]
