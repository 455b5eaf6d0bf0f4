"""One API for the tests of a module, and the proof that no file is left of what it refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs import Settings, setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.runtime import Runtime
from tests.contract.conftest import Api, serving
from tests.helpers import wait_until

from .forms import (
    FILE_BYTES,
    UPLOAD_BYTES,
    UPLOAD_FILES,
    kept,
    make_celery,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def runtime(server: EmbeddedServer, databases: Iterator[int], folder: Path) -> Runtime:
    runtime = setup(make_celery(server.url.removesuffix("0") + str(next(databases))))
    runtime.settings = Settings(
        files_url=str(folder),
        file_bytes=FILE_BYTES,
        upload_bytes=UPLOAD_BYTES,
        upload_files=UPLOAD_FILES,
        store_timeout_seconds=10,
    )
    return runtime


@pytest.fixture(scope="module")
def api(runtime: Runtime) -> Iterator[Api]:
    with serving(runtime, job_router(runtime.app, client_fields=["metadata"])) as api:
        yield api


@pytest.fixture(autouse=True)
def _no_stray_files(api: Api, folder: Path) -> Iterator[None]:
    """Whatever a test does, each file that stays is one of a job's arguments."""
    before = kept(folder)
    yield

    def strays() -> set[Path]:
        return {path for path in kept(folder) - before if not _belongs_to_a_job(api, path)}

    wait_until(lambda: not strays(), "the removal of files that no job has")


def _belongs_to_a_job(api: Api, path: Path) -> bool:
    job_id = path.name.split(".")[1] if path.name.count(".") == 2 else ""
    job = api.runtime.store.run(api.runtime.store.get(job_id)) if job_id else None
    return job is not None and path.name in (job.arguments_json or "")
