"""What a worker does again and again, and whether it sweeps files at all."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from aijobs import ConfigurationError, ProgressTask, Settings, StoreUnavailable, UploadedFile, setup
from aijobs.runtime import Runtime
from aijobs.worker.filesweep import file_sweeper
from aijobs.worker.periodic import Periodic
from tests.helpers import wait_until


def test_what_goes_wrong_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    calls = itertools.count(1)
    made: list[int] = []

    def act() -> None:
        made.append(next(calls))
        if len(made) == 1:
            raise StoreUnavailable("away")
        if len(made) == 2:
            raise LookupError("a mistake")

    periodic = Periodic("test", 0.01, act, "It is done later")
    periodic.start()
    wait_until(lambda: len(made) >= 4, "the calls after the mistakes")
    periodic.stop()
    levels = [(record.levelno, record.message) for record in caplog.records]
    assert levels == [(logging.WARNING, "It is done later: away"), (logging.ERROR, "It is done later")]


def app_of(*, takes_files: bool) -> Celery:
    app = Celery("sweep", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0", set_as_current=False)
    setup(app)
    annotation: Any = UploadedFile if takes_files else str

    def task(document: Any) -> None: ...

    task.__annotations__["document"] = annotation
    app.task(base=ProgressTask, shared=False, name="sweep.task")(task)
    app.finalize()
    return app


def test_a_worker_without_files_sweeps_nothing() -> None:
    assert file_sweeper(Runtime(app_of(takes_files=False), Settings())) is None


@pytest.mark.parametrize("takes_files", [False, True])
def test_a_worker_names_where_files_are(tmp_path: Path, caplog: pytest.LogCaptureFixture, takes_files: bool) -> None:
    with caplog.at_level(logging.INFO, "aijobs"):
        runtime = Runtime(app_of(takes_files=takes_files), Settings(files_url=str(tmp_path)))
        assert file_sweeper(runtime) is not None
    assert f"aijobs keeps uploaded files in {tmp_path}" in caplog.text


def test_a_worker_whose_files_cannot_be_kept_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="AIJOBS_FILES_URL"):
        file_sweeper(Runtime(app_of(takes_files=True), Settings(files_url=str(tmp_path / "file"))))
