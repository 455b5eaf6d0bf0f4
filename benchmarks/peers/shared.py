"""What the jobs of every library share; it needs redis-py alone, as aijobs is not in their environments."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis

from benchmarks.peers import IDS_KEY, RUN_KEY

URL = os.environ["BENCH_URL"]
#: How many jobs there are, how many run at once, and how long each waits, seconds.
JOBS = int(os.environ["BENCH_JOBS"])
AT_ONCE = int(os.environ["BENCH_AT_ONCE"])
SECONDS = float(os.environ["BENCH_SECONDS"])

_CHUNK = 500
_LONGEST_SECONDS = 60.0

_T = TypeVar("_T")


class Run:
    """When the jobs of this process began and ended; costs them no call to the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: tuple[float, float] | None = None
        self._ended = 0

    @contextmanager
    def job(self) -> Iterator[None]:
        """Around what a job does. The last one to end leaves what was measured on the server."""
        with self._lock:
            self._begun = self._begun or (time.monotonic(), time.process_time())
        yield
        with self._lock:
            self._ended += 1
            if self._ended == JOBS:
                self._tell(*self._begun)

    def _tell(self, begun: float, cpu: float) -> None:
        found = {"begun": begun, "ended": time.monotonic(), "cpu": time.process_time() - cpu}
        with redis.Redis.from_url(URL) as client:
            client.rpush(RUN_KEY, json.dumps(found))


def serve(
    publish: Callable[[Sequence[int]], Coroutine[Any, Any, Sequence[str]]],
    read: Callable[[Sequence[str]], Coroutine[Any, Any, Sequence[Any]]],
    work: Callable[[], None] | None = None,
) -> None:
    """The command line of a library's module: `publish`, `check`, or `work` where its own command cannot be used.

    Args:
        publish: queues a job for each number and gives their ids.
        read: what the jobs of these ids returned, as the library tells.
        work: runs the worker.
    """
    match sys.argv[1]:
        case "publish":
            _keep(_run(publish(range(JOBS))))
        case "check":
            print(sum(map(int.__eq__, _run(read(_kept())), range(JOBS))))
        case "work" if work:
            work()


def _run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(coroutine, _LONGEST_SECONDS))


def _keep(ids: Sequence[str]) -> None:
    with redis.Redis.from_url(URL) as client:
        for first in range(0, len(ids), _CHUNK):
            client.rpush(IDS_KEY, *ids[first : first + _CHUNK])


def _kept() -> list[str]:
    with redis.Redis.from_url(URL, decode_responses=True) as client:
        kept: Any = client.lrange(IDS_KEY, 0, -1)
    return list(kept)
