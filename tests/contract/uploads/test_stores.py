"""Other file stores, and outages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from celery.signals import after_task_publish

from aijobs import Settings, UploadedFile, setup
from aijobs.embedded import start_server
from aijobs.files import open_files
from aijobs.files.folder import FolderStore
from aijobs.http import job_router
from aijobs.runtime import Runtime
from tests.contract.conftest import Api, assert_problem, serving
from tests.helpers import wait_until

from .forms import (
    PDF,
    arguments,
    kept,
    make_celery,
    multipart,
    pdf,
    pdf_part,
    post,
)


def test_a_bucket(runtime: Runtime) -> None:
    vars(runtime)["files"], usual = open_files("memory://bucket/uploads"), runtime.files
    try:
        with serving(runtime, job_router(runtime.app)) as api:
            assert_problem(post(api, "read", pdf(), data={"pages": "many"}), 422)
            file = UploadedFile(**arguments(api, post(api, "read", pdf()))["document"])
        space = file.key.partition("/")[0]
        assert [one.key for one in runtime.files.list(space)] == [file.key]
        with runtime.files.open(file.key) as stored:
            assert stored.read() == PDF
    finally:
        vars(runtime)["files"] = usual


def test_a_store_that_is_down_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    runtime = setup(make_celery("redis://127.0.0.1:1/0"))
    runtime.settings = Settings(files_url=str(tmp_path))
    with serving(runtime, job_router(runtime.app)) as api:
        assert_problem(post(api, "read", pdf()), 503, "store-unavailable")
        assert_problem(post(api, "read/batch", pdf()), 503, "store-unavailable")
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("path", ["read", "read/batch"])
def test_a_store_that_goes_down_while_the_form_arrives(tmp_path: Path, path: str) -> None:
    with start_server(use_environment=False) as server:
        runtime = setup(make_celery(server.url))
        runtime.settings = Settings(files_url=str(tmp_path))
        body = multipart(pdf_part())

        def half_and_half() -> Iterator[bytes]:
            yield body[:100]
            with redis.Redis.from_url(server.url) as client:
                wait_until(lambda: client.exists("aijobs:secret"), "the begin of the request")
            server.stop()
            yield body[100:]

        with serving(runtime, job_router(runtime.app)) as api:
            headers = {"Content-Type": "multipart/form-data; boundary=B"}
            response = api.client.post(f"/jobs/{path}", content=half_and_half(), headers=headers)
        assert_problem(response, 503, "store-unavailable")
    # The store may have made the job before it went, so that is for the sweep.
    assert len(kept(tmp_path)) == 1


def test_a_batch_that_the_broker_does_not_take(runtime: Runtime, tmp_path: Path) -> None:
    cut_off = setup(make_celery(runtime.store_url, broker="redis://127.0.0.1:1/0"))
    cut_off.settings = Settings(files_url=str(tmp_path), store_timeout_seconds=10)
    with serving(cut_off, job_router(cut_off.app)) as api:
        members = assert_problem(post(api, "read/batch", pdf(), pdf()), 422)
        assert [one["type"].rpartition(":")[2] for one in members["jobs"]] == ["publish-failed"] * 2
    # Their records say so, and may be run again.
    assert len(kept(tmp_path)) == 2


def test_a_store_that_goes_down_between_two_jobs_of_a_batch(runtime: Runtime, tmp_path: Path) -> None:
    files = [pdf(filename=f"{name}.pdf") for name in "abc"]
    headers = {"Idempotency-Key": "broken-off"}
    with ExitStack() as stack:
        server = stack.enter_context(start_server(tmp_path / "data", use_environment=False))
        # With a broker of its own, Celery tells of each message that it has sent.
        apart = setup(make_celery(server.url, broker=runtime.store_url))
        apart.settings = Settings(files_url=str(tmp_path / "files"), upload_files=3)
        sent: list[str] = []

        def stop_after_the_second(headers: dict[str, str], **_: object) -> None:
            sent.append(headers["id"])
            if len(sent) == 2:
                server.stop()

        after_task_publish.connect(stop_after_the_second)
        stack.callback(after_task_publish.disconnect, stop_after_the_second)
        api = stack.enter_context(serving(apart, job_router(apart.app)))
        broken = post(api, "read/batch", *files, headers=headers)
        stack.enter_context(start_server(tmp_path / "data", port=server.port, use_environment=False))
        whole = post(api, "read/batch", *files, headers=headers)
    first, again = broken.json(), whole.json()
    assert (broken.status_code, first["accepted"], first["refused"]) == (202, 2, 1)
    assert [one.get("job_id") for one in first["jobs"]] == [*sent[:2], None]
    assert first["jobs"][2]["type"] == "urn:aijobs:problem:store-unavailable"
    # Who sends it again with its key gets the same jobs, and the one that was missing.
    assert (whole.status_code, again["accepted"]) == (202, 3)
    assert [one["job_id"] for one in again["jobs"]] == sent
    assert len(sent) == 3


def test_a_file_store_that_does_not_work(api: Api, runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "unfinished").write_text("a file in the place of a folder")
    vars(runtime)["files"], usual = FolderStore(tmp_path), runtime.files
    try:
        assert_problem(post(api, "read", pdf()), 503, "files-unavailable")
    finally:
        vars(runtime)["files"] = usual
