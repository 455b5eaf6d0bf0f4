"""Sends jobs through `backends_app` and prints, as JSON, what their results and records say."""

from __future__ import annotations

import json
import time
from typing import Any

from backends_app import add, app, fail, quiet, retry, total, work
from celery import chain, chord, group, states
from celery.exceptions import TimeoutError as NoResult

from aijobs import Job, setup

store = setup(app).store


def record(job_id: str) -> Job:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        job = store.run(store.get(job_id))
        if job is not None and job.finished:
            return job
        time.sleep(0.02)
    raise NoResult(job_id)


def shown(job: Job) -> list[Any]:
    return [job.status, job.attempt, job.result]


one, failing, retrying, working, silent = add.delay(1, 2), fail.delay(), retry.delay(), work.delay(50), quiet.delay()
many = group(add.s(n, n) for n in (1, 2, 3))()
line = chain(add.s(1, 2), add.s(3), add.s(4))()
crowd = chord([add.s(n, 0) for n in (1, 2, 3)], total.s())()
results = {
    "add": one.get(timeout=30),
    "group": many.get(timeout=30),
    "chain": line.get(timeout=30),
    "chord": crowd.get(timeout=60),
    "work": working.get(timeout=30),
}
records = {"add": one, "fail": failing, "retry": retrying, "work": working, "quiet": silent, "chord": crowd}
found = {name: shown(record(result.id)) for name, result in records.items()}
failed = record(failing.id)
app.backend.store_result(failing.id, "too late", states.SUCCESS)
print(
    json.dumps(
        {
            "results": results,
            "failure": failed.error.message if failed.error else None,
            "states": {"add": one.state, "fail": failing.state, "quiet": silent.state},
            "records": found,
            "late_success_refused": record(failing.id) == failed and failing.state == states.FAILURE,
        }
    )
)
