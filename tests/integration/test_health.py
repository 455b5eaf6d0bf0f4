"""A job that keeps its worker from all else is not taken for a hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs import JobStatus

from .conftest import Worker, running_worker

#: Longer than a worker may be silent, and twice that longer than its loop may take.
HOLD_SECONDS = 12


@pytest.fixture
def worker(server_url: str, tmp_path: Path) -> Iterator[Worker]:
    known = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    environ = {**known, "AIJOBS_HEALTH_FOLDER": str(tmp_path / "signs")}
    options = ("-c", "1", "-Q", tmp_path.name, "-n", f"w@{tmp_path.name}")
    with running_worker("health_app", tmp_path, environ, "solo", *options) as worker:
        yield worker


def health(folder: Path) -> str:
    command = [sys.executable, "-m", "aijobs", "health", "worker"]
    environ = {**os.environ, "AIJOBS_HEALTH_FOLDER": str(folder / "signs")}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout


def test_a_job_that_holds_the_interpreter_is_no_hang(worker: Worker, tmp_path: Path) -> None:
    job_id = worker.send("hold", HOLD_SECONDS, queue=tmp_path.name)
    seen = [health(tmp_path)]
    while worker.job(job_id).status is not JobStatus.SUCCESS:
        seen.append(health(tmp_path))
    assert [one for one in seen if not one.startswith("ok: worker process")] == []
