"""The processes that trouble comes to: a server with its data on disk, and workers that are replaced when they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from aijobs.embedded import EmbeddedServer, start_server
from tests.chaos.plan import TroubleKind

ROOT = Path(__file__).resolve().parents[2]
LEASE_SECONDS = 5.0
#: How long a worker may take to end after SIGTERM: a soft shutdown, on a busy machine, maybe while the server is away.
EXIT_SECONDS = 60.0

#: The least time between two starts of one worker.
_PAUSE_SECONDS = 1.0

_POOLS = (
    ("-P", "prefork", "-c", "2", "-Q", "celery,crash"),
    # A crash of a task in a thread takes the whole worker, which is a trouble of its own.
    ("-P", "threads", "-c", "4", "-Q", "celery"),
)
#: Which worker has threads.
_THREADS = 1


@dataclass
class Server:
    """A server that can be restarted on its port, with its data."""

    data: Path
    running: EmbeddedServer

    @classmethod
    def begin(cls, data: Path) -> Server:
        """Starts a server on a free port."""
        data.mkdir()
        return cls(data, start_server(data, use_environment=False))

    @property
    def url(self) -> str:
        """Its address."""
        return self.running.url

    def strike(self, kind: TroubleKind) -> None:
        """Begins a trouble."""
        match kind:
            case TroubleKind.STOP_SERVER:
                self.running.stop()
            case TroubleKind.CRASH_SERVER:
                self._signal(signal.SIGKILL)
                self.running.wait()
            case _:
                self._signal(signal.SIGSTOP)

    def recover(self, kind: TroubleKind) -> None:
        """Ends a trouble."""
        if kind is TroubleKind.HANG_SERVER:
            self._signal(signal.SIGCONT)
        else:
            self.running = start_server(self.data, port=self.running.port, use_environment=False)

    def stop(self) -> None:
        """Ends the server, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            self._signal(signal.SIGCONT)
        self.running.stop()

    def _signal(self, number: signal.Signals) -> None:
        assert self.running.pid is not None
        os.kill(self.running.pid, number)


@dataclass
class Worker:
    """One life of a worker; its process leads a group and a session of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    #: When it was asked to end; None as long as it was not.
    asked: float | None = None
    #: When it was killed.
    killed: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it ever took jobs."""
        return b" ready." in self.log.read_bytes()

    @property
    def ended(self) -> bool:
        """Whether its main process is gone."""
        return self.process.poll() is not None

    @property
    def is_overdue(self) -> bool:
        """Whether it should have ended by now."""
        return self.asked is not None and time.monotonic() - self.asked > EXIT_SECONDS and not self.ended

    def ask(self) -> None:
        """Begins a graceful end."""
        self.asked = self.asked or time.monotonic()
        self.process.terminate()

    def kill(self, *, whole_group: bool) -> None:
        """Ends its main process at once; its pool processes with it, or not."""
        self.killed = time.monotonic()
        send = os.killpg if whole_group else os.kill
        with contextlib.suppress(ProcessLookupError):
            send(self.process.pid, signal.SIGKILL)

    def signal(self, number: signal.Signals, *, whole_group: bool) -> None:
        """Sends a signal to the main process or to all."""
        send = os.killpg if whole_group else os.kill
        with contextlib.suppress(ProcessLookupError):
            send(self.process.pid, number)

    def children(self) -> Sequence[psutil.Process]:
        """The processes that its main process started."""
        try:
            return list(psutil.Process(self.process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def left_behind(self) -> Sequence[psutil.Process]:
        """The processes of its group that live on though the main process has ended."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return []
        return [process for process in psutil.process_iter() if self._is_member(process)]

    def _is_member(self, process: psutil.Process) -> bool:
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            return os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE
        return False


class Crew:
    """The workers, by slot; what ends is replaced.

    Args:
        folder: for evidence and logs.
        environ: of their processes.
        size: how many workers.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], size: int) -> None:
        self._folder = folder
        self._environ = environ
        self._lives = [0] * size
        #: Workers that have ended, but for processes that they left behind.
        self.past: list[Worker] = []
        self.workers = [self._start(slot) for slot in range(size)]
        #: What workers did that nobody asked for.
        self.faults: list[str] = []

    def replace_ended(self) -> None:
        """Starts a new worker where one has ended, and notes those that ended by themselves or would not end."""
        self.forget_gone()
        for slot, worker in enumerate(self.workers):
            if worker.is_overdue:
                self._note(worker, f"did not end within {EXIT_SECONDS:g} seconds of SIGTERM")
                worker.kill(whole_group=True)
            if worker.ended and time.monotonic() - worker.started > _PAUSE_SECONDS:
                self._check_end(worker)
                self.past.append(worker)
                self.workers[slot] = self._start(slot)

    def stop(self) -> None:
        """Has all workers end gracefully, and notes those that would not."""
        for worker in self.workers:
            worker.ask()
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(EXIT_SECONDS)
            if not worker.ended:
                self._note(worker, f"did not end within {EXIT_SECONDS:g} seconds of SIGTERM")
                worker.kill(whole_group=True)
            self._check_end(worker)
        self.past += self.workers
        self.workers = []

    def forget_gone(self) -> None:
        """Drops workers of which nothing is left; their process ids may become those of others."""
        self.past = [worker for worker in self.past if worker.left_behind()]

    def kill(self) -> None:
        """Ends whatever still lives of all workers."""
        self.forget_gone()
        for worker in (*self.past, *self.workers):
            worker.kill(whole_group=True)
            worker.process.wait()

    def _check_end(self, worker: Worker) -> None:
        status = worker.process.returncode
        if worker.killed is not None:
            return
        if worker.asked is None:
            self._note(worker, f"ended by itself with status {status}")
        elif status != 0 and (status != -signal.SIGTERM or worker.is_ready):
            self._note(worker, f"ended with status {status} after SIGTERM")

    def _note(self, worker: Worker, fault: str) -> None:
        self.faults.append(f"worker {worker.name} {fault} (see {worker.log})")

    def _start(self, slot: int) -> Worker:
        self._lives[slot] += 1
        name = f"w{slot}.{self._lives[slot]}"
        options = _POOLS[slot == _THREADS]
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", "celery", "-A", "tests.chaos.app", "worker", "-n", f"w{slot}@chaos", *options]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, "-l", "INFO"],
                cwd=ROOT,
                env={**self._environ, "CHAOS_WORKER": name},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Worker(name, process, log, time.monotonic())


def environment(folder: Path, servers: Sequence[Server]) -> Mapping[str, str]:
    """What the processes under trouble see; the settings of whoever runs this do not count.

    The first server is for messages, the last one for records.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIJOBS_")}
    return {
        **clean,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))),
        "CHAOS_URL": servers[0].url,
        "AIJOBS_STORE_URL": servers[-1].url,
        "CHAOS_FOLDER": str(folder),
        "AIJOBS_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
    }
