"""Celery, as one sets it up that wants to lose no job and to know of each whether it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

from benchmarks.peers.shared import AT_ONCE, SECONDS, URL, Run, serve

#: Each running job may need one connection for its result and one for its message.
_CONNECTIONS = 2 * AT_ONCE + 50

app = Celery("waiting", broker=URL, backend=URL)
app.conf.update(
    task_track_started=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # Without these two, a pool of threads or greenlets is half as fast and loses acknowledgements.
    result_backend_thread_safe=True,
    broker_transport_options={"max_connections": _CONNECTIONS},
    redis_max_connections=_CONNECTIONS,
)
run = Run()


@app.task(name="wait")
def wait(number: int) -> int:
    """Waits."""
    with run.job():
        time.sleep(SECONDS)
    return number


async def publish(numbers: Sequence[int]) -> list[str]:
    """Queues the jobs."""
    return [str(wait.delay(number).id) for number in numbers]


async def read(ids: Sequence[str]) -> list[Any]:
    """What the jobs returned."""
    return [app.AsyncResult(job_id).result for job_id in ids]


if __name__ == "__main__":
    serve(publish, read)
