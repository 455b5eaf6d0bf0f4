"""What every benchmark needs: a fresh server, the processes of one subject, and rounds that take turns."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import quantiles
from typing import IO, Any

from aijobs._process import Stage, SupervisedProcess
from aijobs.embedded import start_server

ROOT = Path(__file__).resolve().parent.parent

#: What was measured of one subject in one round, by name.
Metrics = Mapping[str, float]
#: One round: the metrics of each contestant.
Round = Mapping[str, Metrics]

#: Where tasks leave what they measured, on the server.
MARK_KEY = "bench:mark:"
MEMORY_KEY = "bench:memory"
START_KEY = "bench:start:"
END_KEY = "bench:end:"
#: Where the API of `benchmarks.naive_streams` hears of a job.
NEWS_CHANNEL = "bench:news:"

_STAGES = (Stage("TERM", 15),)
_POLL_SECONDS = 0.05
#: A worker that takes longer to start, or runs fewer jobs a second, is stuck.
_START_SECONDS = 30
_LEAST_RATE = 20


class BenchmarkError(Exception):
    """A benchmark could not be carried out; the message says what to look at."""


class Subject(StrEnum):
    """Whose Celery app a process runs; `benchmarks.app` makes it."""

    AIJOBS = "aijobs"
    #: Celery's Redis backend with `task_track_started`, otherwise Celery's defaults (early acknowledgement).
    STOCK = "stock"
    #: The same with what `aijobs.setup` sets: late acknowledgement, one prefetched job per process.
    RELIABLE = "stock-reliable"


class Part(StrEnum):
    """A part of aijobs that `benchmarks.without` takes away."""

    LEASES = "leases"
    RECORD = "record"
    #: The threads of a worker that tell the store of it, and look for lost jobs.
    THREADS = "threads"
    INTERRUPTS = "interrupts"
    REJECTS = "rejects"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    #: Rounds; the median of each metric counts.
    rounds: int = 3
    #: No-op jobs that a worker executes.
    jobs: int = 3_000
    #: Jobs or calls before each measurement that do not count.
    warm_up: int = 200
    progress_calls: int = 100_000
    state_calls: int = 2_000
    submissions: int = 2_000
    requests: int = 4_000
    #: Jobs that are kept while their list is read, and how often it is.
    kept_jobs: int = 1_000_000
    pages: int = 300
    #: Jobs of a memory measurement.
    memory_jobs: int = 20_000
    #: Between two samples of memory.
    memory_step: int = 2_000
    #: Jobs after which growth counts: by then every cache is filled.
    memory_settled: int = 4_000
    #: Workers that are killed in a round of the recovery, which is measured less often, as it takes minutes.
    victims: int = 10
    recovery_rounds: int = 2
    #: How long messages are held, by aijobs after their worker's last sign of life, by stock Celery at all; seconds.
    lease: float = 30.0
    #: How long events are streamed, seconds.
    stream_seconds: float = 20.0
    #: Jobs that wait.
    waiting_jobs: int = 2_000
    #: How long tokens are given out, seconds; how many as fast as they come, by each job; calls that are timed.
    token_seconds: float = 10.0
    burst_tokens: int = 3_000
    token_calls: int = 20_000


QUICK = Scale(
    rounds=1,
    jobs=1_000,
    submissions=500,
    requests=1_000,
    kept_jobs=20_000,
    pages=100,
    memory_jobs=3_000,
    memory_step=500,
    memory_settled=1_000,
    victims=2,
    recovery_rounds=1,
    lease=10.0,
    stream_seconds=5.0,
    waiting_jobs=1_000,
    token_seconds=4.0,
    burst_tokens=1_000,
    token_calls=5_000,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """How to run: what to measure, and where the output of all processes goes."""

    scale: Scale
    log: IO[bytes]

    def rounds(self, contestants: Mapping[str, Callable[[], Metrics]], rounds: int | None = None) -> list[Round]:
        """Measures the contestants one after the other, so many times or as the scale says (A B, A B, …)."""
        last = self.scale.rounds if rounds is None else rounds
        return [
            {name: self._measure(name, measure, f"{number}/{last}") for name, measure in contestants.items()}
            for number in range(1, last + 1)
        ]

    @contextmanager
    def stage(
        self, subject: str, environ: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> Iterator[Stand]:
        """A fresh server and what runs against it; everything has ended when the context is left."""
        with ExitStack() as processes:
            server = processes.enter_context(start_server(use_environment=False))
            yield Stand(subject, server.url, self.log, processes, environ or {}, python)

    def _measure(self, name: str, measure: Callable[[], Metrics], number: str) -> Metrics:
        metrics = measure()
        shown = ", ".join(f"{metric} {value:,.3f}" for metric, value in metrics.items())
        print(f"  round {number}  {name}: {shown}", file=sys.stderr, flush=True)
        return metrics


@dataclass(frozen=True, slots=True)
class Stand:
    """One subject's processes around one server."""

    #: A `Subject` where they run `benchmarks.app`.
    subject: str
    url: str
    log: IO[bytes]
    processes: ExitStack
    #: Variables that its processes have besides.
    environ: Mapping[str, str]
    #: What they are run by.
    python: str

    def start_worker(self, concurrency: int, *options: str) -> SupervisedProcess:
        """Starts one prefork worker process, and does not wait until it takes jobs."""
        pool = ("-P", "prefork", "-c", str(concurrency), "-l", "WARNING")
        return self.start("celery", "-A", "benchmarks.app", "worker", *pool, *options)

    def run_worker(self, concurrency: int, jobs: int, done: Callable[[], bool]) -> None:
        """Starts a worker and waits until it has executed what was published."""
        self.start_worker(concurrency)
        wait_until(done, _START_SECONDS + jobs / _LEAST_RATE, f"the worker of {self.subject} to execute {jobs} jobs")

    def start_api(self, app: str = "benchmarks.api:app") -> tuple[int, int]:
        """Starts one uvicorn process and waits until it listens; gives its port and its process id."""
        port = _free_port()
        options = ("--port", str(port), "--log-level", "warning", "--no-access-log")
        process = self.start("uvicorn", app, *options)
        wait_until(lambda: _listens(port), _START_SECONDS, "the API to listen")
        return port, process.pid

    def drive(self, function: str, **arguments: Any) -> Any:
        """Calls a function of `benchmarks.driver` in a process of its own and returns what it returns."""
        return json.loads(self.read("benchmarks.driver", function, json.dumps(arguments)))

    def read(self, *command: str) -> bytes:
        """Runs a module with arguments to its end and returns what it writes.

        Raises:
            BenchmarkError: it failed.
        """
        with self._process(command, stdout=subprocess.PIPE) as process:
            answer = process.stdout.read() if process.stdout else b""
            if process.wait() != 0:
                raise BenchmarkError(f"{' '.join(command[:2])} failed for {self.subject}.")
        return answer

    def start(self, *command: str) -> SupervisedProcess:
        """Starts a module with arguments; it is stopped when the stage is over."""
        return self.processes.enter_context(self._process(command, stdout=self.log))

    def _process(self, command: Sequence[str], stdout: int | IO[bytes]) -> SupervisedProcess:
        return SupervisedProcess(
            [self.python, "-m", *command],
            stages=_STAGES,
            env={**_environment(self.subject, self.url), **self.environ},
            stdout=stdout,
            stderr=self.log,
        )


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for a condition.

    Raises:
        BenchmarkError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"Waited {seconds:g} seconds for {what}.")
        time.sleep(_POLL_SECONDS)


def speed(latencies: Sequence[float], elapsed: float) -> Metrics:
    """Rate and percentiles of calls that took so many seconds each, and so many all together."""
    cuts = quantiles(latencies, n=100)
    return {"per_second": len(latencies) / elapsed, "p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98]}


def _environment(subject: str, url: str) -> dict[str, str]:
    # The settings of whoever runs the benchmarks are not measured.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIJOBS_")}
    return {**clean, "PYTHONPATH": str(ROOT), "BENCH_SUBJECT": subject, "BENCH_URL": url}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
