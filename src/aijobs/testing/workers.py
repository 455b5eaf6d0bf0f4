"""Real workers for tests: started, killed, and started anew."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from weakref import WeakSet

from celery import Celery
from typing_extensions import override

from aijobs._process import Stage, SupervisedProcess
from aijobs._targets import CELERY_APP, resolve
from aijobs.errors import ConfigurationError
from aijobs.job import Job
from aijobs.testing import launch
from aijobs.testing.jobs import PATIENCE_SECONDS, Jobs
from aijobs.testing.servers import Server
from aijobs.testing.troubles import Kind, Trouble

# A warm shutdown waits for running jobs; the cold one after it gives them back to the queue.
_STAGES = (Stage("TERM", 10), Stage("QUIT", 5))
_LOOK_SECONDS = 0.02
_SHOWN_LINES = 30
_LOG_BYTES = 65_536

_numbers = itertools.count(1)
_workers: WeakSet[Worker] = WeakSet()


@dataclass(frozen=True, slots=True)
class _Order:
    """How a worker is started."""

    target: str
    environ: Mapping[str, str]
    options: Sequence[str]
    crash: Trouble | None = None
    timeout_seconds: float = PATIENCE_SECONDS


class Worker(Jobs):
    """A worker process, and the jobs of its app; `start_worker` and the fixture `aijobs_worker` make it.

    Leave its context, or call `stop`, to end it. It never outlives this process.

    Attributes:
        app: the Celery app, as this process has imported it.
        name: among the workers of this process.
    """

    def __init__(self, app: Celery, order: _Order) -> None:
        super().__init__(app)
        self.name = f"worker-{next(_numbers)}"
        self._order = order
        self._folder = Path(tempfile.mkdtemp(prefix="aijobs-worker-"))
        self._process: SupervisedProcess | None = None
        _workers.add(self)

    @property
    def pid(self) -> int:
        """Of its main process.

        Raises:
            RuntimeError: it does not run.
        """
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Starts it and waits until it takes jobs.

        Raises:
            AssertionError: it ended, or was not ready in time; the message has the end of its log.
        """
        self._ready.unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = SupervisedProcess(self._command(), stages=_STAGES, env=self._order.environ, stdout=log)
        deadline = time.monotonic() + self._order.timeout_seconds
        while not self._ready.exists():
            if not self.alive:
                raise AssertionError(f"The worker ended while it started.\n{self.log()}")
            if time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"The worker was not ready in {self._order.timeout_seconds:g} s.\n{self.log()}")
            time.sleep(_LOOK_SECONDS)
        return self

    def stop(self) -> None:
        """Ends it gently: running jobs get ten seconds, then they go back to the queue."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Kills it with its pool (SIGKILL), as a machine that fails would, and waits until it is gone.

        Raises:
            RuntimeError: it does not run.
        """
        self._running().kill()
        self.wait()

    def wait(self, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until it has ended, as after `crash_at`.

        Raises:
            AssertionError: it still runs; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.alive:
            if time.monotonic() > deadline:
                raise AssertionError(f"The worker still runs after {timeout_seconds:g} s.\n{self.log()}")
            time.sleep(_LOOK_SECONDS)

    def restart(self) -> Self:
        """Starts it anew, stopping it first if it runs; what `crash=` asked for does not happen again.

        Raises:
            AssertionError: as `start`.
        """
        self.stop()
        return self.start()

    def log(self, lines: int = _SHOWN_LINES) -> str:
        """The last lines that it wrote."""
        with (self._folder / "log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
            text = file.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """Ends it and removes its files."""
        self.stop()
        _workers.discard(self)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _ready(self) -> Path:
        return self._folder / "ready"

    def _running(self) -> SupervisedProcess:
        if self._process is None or not self.alive:
            raise RuntimeError(f"{self.name} does not run.")
        return self._process

    def _command(self) -> list[str]:
        crash = self._order.crash
        told = crash and {"point": asdict(crash.point), "times": crash.times, "marks": str(self._folder)}
        orders = json.dumps({"ready": str(self._ready), "crash": told})
        return [
            *(sys.executable, "-m", launch.__name__, orders),
            *("--quiet", "--app", self._order.target, "worker", "--loglevel=INFO", f"--hostname={self.name}@%h"),
            # There are few: looking for others at the start only takes time.
            *("--without-mingle", "--without-gossip", *self._order.options),
        ]

    @override
    def _clues(self, record: Job) -> str:
        logs = (
            f"{worker.name} ({'runs' if worker.alive else 'has ended'}) wrote last:\n{worker.log()}"
            for worker in started_workers()
        )
        return "\n\n".join([super()._clues(record), *logs])


def start_worker(
    app: str | Celery,
    server: Server,
    *,
    pool: str = "prefork",
    concurrency: int = 1,
    queues: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    crash: Trouble | None = None,
    timeout_seconds: float = PATIENCE_SECONDS,
) -> Worker:
    """Starts a worker process and waits until it takes jobs.

    Its app, and the one in this process, use the server, whatever their code says. It runs with this process's
    environment and import path. A worker that is killed is missed after five seconds.

    Args:
        app: `module:app`, or the app itself where a module has it by name.
        server: for its jobs.
        pool: prefork, threads, solo, …
        concurrency: how many jobs at once.
        queues: that it takes; by default all that the app has.
        env: more of its environment.
        options: more for `celery worker`.
        crash: `crash_at(…)` or `crash_after(…)`: it kills itself there, with its whole pool.
        timeout_seconds: how long its start may take.

    Raises:
        AssertionError: it did not start; the message has the end of its log.
        ConfigurationError: there is no such app, or `crash` is something else than a crash.
    """
    if crash is not None and crash.kind is not Kind.CRASH:
        raise ConfigurationError("crash= takes crash_at(…) or crash_after(…); a job is cancelled with aijobs.cancel.")
    target, found = resolve(app if isinstance(app, str) else _path_of(app), CELERY_APP)
    server.use(cast(Celery, found))
    given = [f"--pool={pool}", f"--concurrency={concurrency}", *([f"--queues={','.join(queues)}"] if queues else [])]
    environ = {**os.environ, **server.environment(), "PYTHONPATH": os.pathsep.join(_import_path()), **(env or {})}
    worker = Worker(cast(Celery, found), _Order(target, environ, [*given, *options], crash, timeout_seconds))
    try:
        return worker.start()
    except BaseException:
        worker.close()
        raise


def started_workers() -> list[Worker]:
    """The workers that this process has started and not closed."""
    return sorted(_workers, key=lambda worker: worker.name)


def _path_of(app: Celery) -> str:
    """`module:name` of an app."""
    for name, module in sorted(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and name != "__main__":
                return f"{name}:{attribute}"
    raise ConfigurationError(
        f"No module that a worker could import has the app {app.main!r}: give its path as a text, as "
        "'package.module:app', and make it at the top of that module."
    )


def _import_path() -> Iterator[str]:
    return (str(Path(entry).absolute()) for entry in sys.path if not entry.endswith(".zip"))
