"""Runs one command and ends it, with all its children, as soon as the process that wanted it is gone.

`aijobs._process` starts this file as a script of its own:

    python -I _supervisor.py CONTROL_FD PARENT_PID STAGES COMMAND...

`CONTROL_FD` is one end of a socket pair. The command's process id is written to it; `s` read from it means
"stop", `k` means "kill", and its end means that the parent is gone, which is the same as "stop". To stop is
to send the signals of `STAGES` (`TERM:5,QUIT:5`: a signal, and the seconds it gets), then SIGKILL to the
whole process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

STOP = b"s"
KILL = b"k"
#: Exit status for "the command could not be started", as in a shell.
NOT_STARTED = 127

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
#: How often to look whether the parent is still there: a fork of it may keep the control socket open.
_PARENT_CHECK_SECONDS = 1.0


def kill_group(group: int) -> None:
    """Sends SIGKILL to every process of a group that may be gone already (macOS says EPERM for zombies)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Supervises one command until its end.

    Returns:
        The command's exit status as a shell reports it: 128 + n after signal n, 127 when it could not be
        started.
    """
    control_fd, parent, stages, *command = arguments
    control = socket.socket(fileno=int(control_fd))
    control.set_inheritable(False)
    wakeup = _signal_pipe()
    try:
        child = _start(command)
    except OSError as error:
        control.sendall(f"{error.strerror}: {command[0]}\n".encode())
        return NOT_STARTED
    control.sendall(f"{child.pid}\n".encode())
    return _Supervisor(child, control, wakeup, int(parent)).run(_parse_stages(stages))


class _Supervisor:
    def __init__(self, child: subprocess.Popen[bytes], control: socket.socket, wakeup: int, parent: int) -> None:
        self._child = child
        self._control: socket.socket | None = control
        self._wakeup = wakeup
        self._parent = parent
        self._stop = False
        self._kill = False

    def run(self, stages: Sequence[tuple[signal.Signals, float]]) -> int:
        while not self._ended() and not self._stop:
            self._listen(_PARENT_CHECK_SECONDS)
        for number, seconds in stages:
            self._try_to_end(number, seconds)
        kill_group(self._child.pid)
        status = self._child.wait()
        return status if status >= 0 else 128 - status

    def _try_to_end(self, number: signal.Signals, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if not self._ended():
            self._child.send_signal(number)
        while not self._ended() and (left := deadline - time.monotonic()) > 0:
            self._listen(left)

    def _ended(self) -> bool:
        return self._kill or self._child.poll() is not None

    def _listen(self, timeout: float) -> None:
        control = self._control
        sources = [self._wakeup] if control is None else [self._wakeup, control.fileno()]
        ready = select.select(sources, [], [], timeout)[0]
        if self._wakeup in ready:
            self._stop |= not _STOP_SIGNALS.isdisjoint(os.read(self._wakeup, 512))
        if control is not None and control.fileno() in ready:
            self._obey(control.recv(16))
        self._stop |= os.getppid() != self._parent

    def _obey(self, order: bytes) -> None:
        self._stop = True
        self._kill |= KILL in order
        if not order:
            self._control = None


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the caller's own command
        command,
        # What the parent passed down (a listening socket, a lock) goes on to the command.
        close_fds=False,
        process_group=0,
        preexec_fn=_dying_with_us(),  # noqa: PLW1509 - there is one thread
    )


def _dying_with_us() -> Callable[[], object] | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return lambda: library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal_pipe() -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, lambda *_: None)
    return reader


def _parse_stages(text: str) -> list[tuple[signal.Signals, float]]:
    pairs = (stage.split(":") for stage in text.split(","))
    return [(signal.Signals[f"SIG{name}"], float(seconds)) for name, seconds in pairs]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
