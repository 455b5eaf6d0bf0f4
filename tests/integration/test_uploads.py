"""Files on their way through real processes: from a client or a script to a worker, and out of the store again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import chain

from aijobs import FileGone, JobStatus, Settings, StoreUnavailable, UploadedFile, submit
from aijobs.dead import replay
from aijobs.files.keys import job_of, new_key, space_of
from aijobs.runtime import Runtime
from aijobs.worker.filesweep import GRACE_SECONDS, sweep
from tests.helpers import wait_until

from .conftest import APPS, Worker, running_worker, stop

TEXT = b"a man a plan a canal"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads") / "files"


@pytest.fixture(scope="module")
def environ(server_url: str, files: Path) -> Mapping[str, str]:
    url = server_url.rpartition("/")[0] + "/9"
    return {"TEST_BROKER_URL": url, "TEST_BACKEND_URL": url, "AIJOBS_FILES_URL": str(files)}


@pytest.fixture(scope="module", params=["prefork", "threads"])
def worker(request: pytest.FixtureRequest, environ: Mapping[str, str], folder: Path, files: Path) -> Iterator[Worker]:
    with running_worker("uploads_app", folder, environ, request.param, "-c", "2") as running:
        running.runtime.settings = Settings(files_url=str(files), store_timeout_seconds=10)
        yield running


@pytest.fixture(scope="module")
def client(environ: Mapping[str, str], folder: Path) -> Iterator[httpx.Client]:
    log = folder / "api.log"
    command = [sys.executable, "-m", "uvicorn", "uploads_app:api", "--factory", "--port", "0", "--log-level", "info"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=APPS,
            env={**os.environ, **environ},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "running on" in log.read_text() or process.poll() is not None, "the start of the API")
        address = next(word for word in log.read_text().split() if word.startswith("http://"))
        with httpx.Client(base_url=address, timeout=60) as client:
            yield client
    finally:
        stop(process)


def kept(files: Path) -> list[str]:
    return sorted(job_of(str(path.relative_to(files))) for path in files.glob("*/*/*.*"))


def test_a_worker_reads_what_a_client_has_sent(worker: Worker, client: httpx.Client) -> None:
    sent = client.post("/jobs/count", files={"document": ("../a.txt", TEXT)}, data={"word": "a"})
    assert sent.status_code == 202, sent.text
    result = worker.end(sent.json()["job_id"]).result
    assert result == {"words": 3, "sizes": [len(TEXT)] * 3, "name": "a.txt"}


def test_a_client_may_wait_for_the_result(worker: Worker, client: httpx.Client) -> None:
    waiting = {"Prefer": "wait=30"}
    answer = client.post("/jobs/count", files={"document": ("a.txt", TEXT)}, data={"word": "a"}, headers=waiting)
    assert answer.status_code == 200, answer.text
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json()["result"]["words"] == 3


def test_several_files(worker: Worker, client: httpx.Client) -> None:
    parts = [("parts", (f"{name}.txt", name.encode())) for name in "xyz"]
    sent = client.post("/jobs/join", files=parts)
    assert worker.end(sent.json()["job_id"]).result == "xyz"


def test_a_large_file(worker: Worker, client: httpx.Client) -> None:
    content = b"a " * 10_000_000
    sent = client.post("/jobs/count", files={"document": ("a.txt", content)})
    assert worker.end(sent.json()["job_id"]).result["words"] == 10_000_000


def test_a_job_for_each_file(worker: Worker, client: httpx.Client) -> None:
    sent = client.post("/jobs/count/batch", files=[("document", (f"{n}.txt", b"a " * n)) for n in (1, 2)]).json()
    assert [worker.end(job["job_id"]).result["words"] for job in sent["jobs"]] == [1, 2]


def test_a_script_sends_a_file_of_its_own(worker: Worker, tmp_path: Path, files: Path) -> None:
    source = tmp_path / "own.txt"
    source.write_bytes(TEXT)
    job_id = worker.send("count", UploadedFile.from_path(source), word="plan")
    source.unlink()
    assert worker.end(job_id).result["words"] == 3
    assert job_id in kept(files)


def test_submit_takes_files_too(worker: Worker, files: Path) -> None:
    def again() -> str:
        parts = [UploadedFile.from_bytes(b"1", "1.txt"), UploadedFile.from_bytes(b"2", "2.txt")]
        return submit(worker.module.join, (parts,), idempotency_key="two parts").id

    job_id = again()
    assert worker.end(job_id).result == "12"
    assert again() == job_id


def test_a_file_that_is_handed_on_belongs_to_both_jobs(worker: Worker, files: Path) -> None:
    first = worker.run("hand_on", UploadedFile.from_bytes(TEXT, "a.txt"))
    second = worker.end(first.result)
    assert second.result["words"] == 3
    assert {first.id, second.id} <= set(kept(files))


def test_a_retry_reads_the_same_file(worker: Worker) -> None:
    job = worker.run("second_try", UploadedFile.from_bytes(TEXT, "a.txt"))
    assert (job.status, job.attempt, job.result) == (JobStatus.SUCCESS, 2, TEXT.decode())


def test_a_failed_job_is_replayed_with_its_file(worker: Worker, marker: str) -> None:
    failed = worker.run("fail_once", UploadedFile.from_bytes(TEXT, "a.txt"), marker)
    assert failed.status is JobStatus.FAILED
    replay(worker.app, failed.id)
    again = worker.until(failed.id, lambda job: job.status is JobStatus.SUCCESS, "the second run")
    assert again.result == TEXT.decode()


def test_a_later_step_of_a_chain_says_what_it_cannot_take(worker: Worker) -> None:
    steps = chain(worker.module.join.si([]), worker.module.join.si([UploadedFile.from_bytes(b"x", "x.txt")]))
    with pytest.raises(Exception, match="not to a later step of a chain"):
        steps.apply_async()


# --- the sweep -------------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(worker: Worker, tmp_path: Path) -> Runtime:
    """The worker's store, and files that no worker sweeps."""
    runtime = Runtime(worker.app, worker.runtime.settings.model_copy(update={"files_url": str(tmp_path / "swept")}))
    runtime.files.prepare()
    return runtime


def keep(runtime: Runtime, job_id: str, secret: bytes | None = None) -> str:
    store = runtime.store
    key = new_key(space_of(store.run(store.secret()) if secret is None else secret), job_id, ".txt")
    runtime.files.put(key, [b"content"])
    return key


def swept(runtime: Runtime, grace: float = -1.0) -> int:
    """A sweep at once, whoever had the last turn."""
    import redis

    with redis.Redis.from_url(runtime.store_url) as server:
        server.delete(f"{runtime.settings.key_prefix}:turn:files")
    return sweep(runtime, grace)


def test_files_go_with_the_record(worker: Worker, runtime: Runtime) -> None:
    job_id = worker.run("join", []).id
    mine, others = keep(runtime, job_id), keep(runtime, "a job that was never there")
    assert swept(runtime) == 1
    assert runtime.files.exists(mine)
    assert not runtime.files.exists(others)
    assert runtime.store.run(runtime.store.delete(job_id))
    assert swept(runtime) == 1
    assert not runtime.files.exists(mine)


def test_a_file_whose_job_is_about_to_be_submitted_stays(runtime: Runtime) -> None:
    key = keep(runtime, "not submitted yet")
    assert swept(runtime, GRACE_SECONDS) == 0
    assert runtime.files.exists(key)


def test_one_worker_sweeps_at_a_time(runtime: Runtime) -> None:
    keep(runtime, "gone")
    assert swept(runtime) == 1
    key = keep(runtime, "gone as well")
    assert sweep(runtime, -1.0) == 0
    assert runtime.files.exists(key)


def test_files_of_another_store_in_the_same_folder_are_left_alone(runtime: Runtime) -> None:
    key = keep(runtime, "of another app", secret=b"another")
    assert swept(runtime) == 0
    assert runtime.files.exists(key)


def test_a_store_that_does_not_answer_loses_no_files(runtime: Runtime, worker: Worker) -> None:
    key = keep(runtime, "gone")
    down = Runtime(worker.app, runtime.settings.model_copy(update={"store_url": "redis://127.0.0.1:1/0"}))
    with pytest.raises(StoreUnavailable):
        sweep(down, -1.0)
    assert runtime.files.exists(key)


def test_more_files_than_are_asked_about_at_once(runtime: Runtime, worker: Worker) -> None:
    job_id = worker.run("join", []).id
    mine = {keep(runtime, job_id) for _ in range(20)}
    for number in range(1_010):
        keep(runtime, f"gone-{number}")
    assert swept(runtime) == 1_010
    store = runtime.store
    assert {file.key for file in runtime.files.list(space_of(store.run(store.secret())))} == mine


def test_a_task_whose_file_is_gone_says_so(worker: Worker) -> None:
    key = new_key(space_of(b"secret"), "gone", ".txt")
    handle: dict[str, Any] = {"key": key, "name": "a.txt", "size": 1, "content_type": "text/plain", "sha256": "0" * 64}
    job = worker.run("count", handle)
    assert job.error is not None
    assert FileGone.__name__ in job.error.message
    assert "AIJOBS_FILES_URL" in job.error.message
