"""What tests of several folders share."""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import redis

from aijobs.embedded import EmbeddedServer
from aijobs.settings import Settings
from aijobs.store.base import Operation
from aijobs.store.values import Claim, NewJob

T = TypeVar("T")

DEADLINE_SECONDS = 60.0

#: Long enough that a busy machine does not make a store look unavailable.
PATIENT = Settings(store_timeout_seconds=10)

#: Indexes live as long as the store; the jobs in them are trimmed as they leave. The rest is what kombu and Celery
#: keep for ever, whatever `global_keyprefix` is before it.
_MAY_LAST = re.compile(
    r":(jobs(:|$)|owner:|queue:|queues$|expiry$)"
    r"|_kombu\.|unacked(_index|_mutex)?$|celery-task-meta-|celery-taskset-meta-"
)

#: The keys of all databases without time to live; a list is a broker's queue, since the store itself has none.
_LASTING = """
local found = {}
for space in string.gmatch(redis.call('INFO', 'keyspace'), 'db(%d+):') do
  redis.call('SELECT', space)
  for _, key in ipairs(redis.call('KEYS', '*')) do
    if redis.call('TTL', key) == -1 and redis.call('TYPE', key).ok ~= 'list' then found[#found + 1] = key end
  end
end
return found
"""


class Run(Protocol):
    """Executes a store operation in one of the two colours."""

    def __call__(self, operation: Operation[T]) -> T: ...


def wait_until(look: Callable[[], T | None], what: str) -> T:
    """What `look` gives once it gives something true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not happen within {DEADLINE_SECONDS} seconds")


@contextmanager
def frozen(server: EmbeddedServer) -> Iterator[None]:
    """The server takes connections and never answers."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def new_job(job_id: str | None = None, **known: Any) -> NewJob:
    """A job to be created, with an id of its own."""
    return NewJob(**{"id": job_id or str(uuid.uuid4()), "task": "embed", "queue": "celery", **known})


def claim(job: NewJob, token: str = "first", **known: Any) -> Claim:
    """An attempt's claim on a job."""
    return Claim(**{"job_id": job.id, "token": token, "task": job.task, "queue": job.queue, **known})


def lasting_keys(url: str) -> list[str]:
    """The keys in all databases of a server that should leave by themselves but will not."""
    with redis.Redis.from_url(url) as client:
        lasting: Any = client.eval(_LASTING, 0)
    return sorted(name for name in (key.decode(errors="replace") for key in lasting) if not _MAY_LAST.search(name))
