"""Submitting where the record and the message cannot be one step."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import APPS

EAGER = """
import aijobs, celery
from aijobs import submit
app = celery.Celery("eager", broker="{url}", backend="{url}")
app.conf.task_always_eager = True
@app.task(base=aijobs.ProgressTask, bind=True)
def double(self, n: int) -> int:
    for _ in self.track(range(n)):
        pass
    return 2 * n
@app.task
def fail():
    raise ValueError("no")
done, failed = submit(double, (21,)), submit(fail)
print(done.status, done.result, done.attempt, failed.status, failed.error.message)
"""

ELSEWHERE = """
import aijobs, celery
app = celery.Celery("elsewhere", broker="{broker}", backend="{url}")
app.conf.broker_connection_timeout = 0.2
@app.task
def add(a: int, b: int) -> int:
    return a + b
store = aijobs.setup(app).store
try:
    print(aijobs.submit(add, (1, 2)).status)
except aijobs.PublishFailed as error:
    job = store.run(store.get(error.job_id))
    print(job.status, job.error.code)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=APPS, env=os.environ, capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_eager_mode_runs_at_once_and_is_recorded(server_url: str) -> None:
    assert run(EAGER.format(url=server_url)) == "success 42 1 failed ValueError: no"


@pytest.mark.parametrize(
    ("broker", "shown"),
    [("memory://", "queued"), ("redis://127.0.0.1:1/0", "failed publish_failed")],
)
def test_another_broker(server_url: str, broker: str, shown: str) -> None:
    assert run(ELSEWHERE.format(url=server_url, broker=broker)) == shown
