"""Whose workers `benchmarks.waiting` compares, with what settings, and how each tells that a job has ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from benchmarks.environments import provide

#: How many jobs run at once.
AT_ONCE = 200

_LOG = ("-l", "WARNING")
_TASKIQ_OPTIONS = ("--workers=1", f"--max-async-tasks={AT_ONCE}", "--ack-type=when_saved", "--log-level=WARNING")


@dataclass(frozen=True, slots=True)
class Contestant:
    """One library's worker."""

    #: As the table has it.
    name: str
    #: The module of its jobs in `benchmarks.peers`.
    jobs: str
    #: Runs the worker: a module and its arguments.
    worker: Sequence[str]
    #: What is at the server once a job has ended: a key that has the job's id, a field of it when it is a hash, and
    #: what has to be in it.
    key: str
    field: str = ""
    holds: bytes = b""
    #: What is installed for it; nothing for aijobs, which is measured as it is installed here.
    requirements: Sequence[str] = ()
    #: How many times faster aijobs promises to be.
    target: float | None = None

    @property
    def module(self) -> str:
        """The module of its jobs, in full."""
        return _module(self.jobs)

    def python(self, log: IO[bytes]) -> str:
        """The interpreter that has its packages, which are installed when they are not there.

        Raises:
            BenchmarkError: they cannot be installed.
        """
        return provide(self.jobs, self.requirements, log) if self.requirements else sys.executable


def _module(jobs: str) -> str:
    return f"benchmarks.peers.{jobs}_jobs"


def _celery_worker(jobs: str, pool: str) -> Sequence[str]:
    return ("celery", "-A", _module(jobs), "worker", "--pool", pool, "-c", str(AT_ONCE), *_LOG)


def _celery(pool: str) -> Contestant:
    return Contestant(
        f"Celery, {pool}",
        "celery",
        _celery_worker("celery", pool),
        "celery-task-meta-{id}",
        holds=b'"SUCCESS"',
        requirements=("celery[redis]==5.7.0", "redis[hiredis]==8.1.0", "gevent==26.9.0"),
        target=2.0,
    )


OURS = Contestant(
    "aijobs", "aijobs", _celery_worker("aijobs", "asyncio"), "aijobs:job:{id}", field="status", holds=b"success"
)

#: All are told at least once of a job, and keep its result.
PEERS = (
    _celery("gevent"),
    _celery("threads"),
    Contestant(
        "arq",
        "arq",
        (_module("arq"), "work"),
        "arq:result:{id}",
        requirements=("arq==0.28.0", "redis[hiredis]==5.3.1"),
    ),
    Contestant(
        "SAQ",
        "saq",
        (_module("saq"), "work"),
        "saq:job:default:{id}",
        holds=b'"status": "complete"',
        # SAQ does not name all that it imports.
        requirements=("saq[redis,hiredis]==0.26.4", "redis[hiredis]==7.4.1", "typing-extensions==4.16.0"),
    ),
    Contestant(
        "streaQ",
        "streaq",
        (_module("streaq"), "work"),
        "streaq:default:task:results:{id}",
        requirements=("streaq==7.2.0", "coredis==6.9.0", "redis==8.1.0"),
    ),
    Contestant(
        "taskiq",
        "taskiq",
        ("taskiq", "worker", f"{_module('taskiq')}:broker", *_TASKIQ_OPTIONS),
        "{id}",
        requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4", "redis[hiredis]==8.1.0"),
    ),
)
