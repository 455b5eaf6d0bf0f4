"""A folder with an app in it, and commands of `aijobs` typed there."""

from __future__ import annotations

import io
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aijobs import ErrorCode, Job, JobStatus
from aijobs.cli import main
from aijobs.store.redis import RedisStore
from aijobs.store.values import Claim, Failure
from tests.helpers import new_job

APP = """
from celery import Celery
print("loaded")
app = Celery("shop", broker={url!r}, backend={url!r})
helper = 3

@app.task(name="shop.ingest", shared=False)
def ingest(path):
    return path
"""
#: What a terminal would obey, and what reorders a line.
HOSTILE = "\x1b[2J\x07\r\u202e\x9b31m"
SAFE = r"\x1b[2J\x07\r\u202e\x9b31m"

_numbers = itertools.count()


@dataclass(frozen=True)
class Shell:
    """A folder with an app in it, and commands typed there."""

    app: str
    store: RedisStore
    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str, answer: str = "") -> tuple[int, str, str]:
        """Exit status, output and error output of `aijobs dead` with these arguments."""
        return self.main("dead", *arguments, answer=answer)

    def main(self, *arguments: str, answer: str = "", app: str | None = None) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        status = main([*arguments, "-A", self.app if app is None else app])
        out, err = self.capture.readouterr()
        return status, out, err.replace("loaded\n", "")

    def bury(self, code: ErrorCode = ErrorCode.EXCEPTION, message: str = "ValueError: bad file", **known: Any) -> str:
        """Makes the record of a failed job."""
        job = new_job(**{"task": "shop.ingest", "queue": "nobody", "arguments_json": '[["a.pdf"], {"n": 1}]', **known})
        self.store.run(self.store.create(job))
        failure = Failure(code, message, "Traceback:\n\tline " + message)
        self.store.run(self.store.finish(Claim(job.id), JobStatus.FAILED, failure=failure))
        return job.id

    def job(self, job_id: str) -> Job | None:
        return self.store.run(self.store.get(job_id))

    def status(self, job_id: str) -> JobStatus | None:
        job = self.job(job_id)
        return job.status if job else None


@pytest.fixture
def shell(
    tmp_path: Path,
    redis_url: str,
    store: RedisStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    # Imported into this process, so each has a name of its own.
    name = f"cli_shop_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(APP.format(url=redis_url))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("CELERY_APP", raising=False)
    return Shell(name, store, capsys, monkeypatch)
