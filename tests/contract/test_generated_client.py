"""A client that is generated from the OpenAPI document does all that a client does, typed."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import ModuleType
from typing import Any

import pytest

from tests.helpers import wait_until

from .complete import Complete, operations

PACKAGE = "generated_jobs_client"


@pytest.fixture(scope="module")
def api(complete_api: Complete) -> Complete:
    return complete_api


@pytest.fixture(scope="module")
def package(api: Complete, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The generated client."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(api.document()))
    # Formatting it would need ruff on the PATH.
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    command = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"),
        *("--path", "openapi.json", "--config", "config.json", "--output-path", PACKAGE),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module(PACKAGE)


@pytest.fixture
def client(api: Complete, package: ModuleType) -> Iterator[Any]:
    with package.AuthenticatedClient(api.url, "alice", raise_on_unexpected_status=True) as client:
        yield client


def call(operation: str) -> Callable[..., Any]:
    """The generated function of an operation; it returns status, headers and what the answer was read as."""
    tag = "nothing" if operation.startswith("open_") else "everything"
    found: Callable[..., Any] = importlib.import_module(f"{PACKAGE}.api.{tag}.{operation}").sync_detailed
    return found


def test_each_operation_has_a_function(api: Complete, package: ModuleType) -> None:
    for _, _, operation in operations(api.document()):
        assert callable(call(operation["operationId"]))


def test_the_names_are_those_of_the_api(api: Complete, package: ModuleType) -> None:
    models = {name for name in vars(package.models) if name[0].isupper()}
    assert {"Document", "SummariseJob", "Summary", "JobDocument", "JobPage", "JobProblem", "JobStatus"} <= models
    assert [name for name in models if "Untitled" in name or "__" in name or name.startswith("Response")] == []


def test_submit_get_result_and_list(package: ModuleType, client: Any) -> None:
    models = package.models
    body = models.Document(title="Report", parts=[models.Part(text="a"), models.Part(text="b", page=2)])
    accepted = call("open_submit_summarise")(client=client, body=body)
    assert accepted.status_code == HTTPStatus.ACCEPTED
    assert isinstance(accepted.parsed, models.SummariseJob)
    job_id = accepted.parsed.job_id

    def finished() -> Any:
        job = call("open_get")(job_id, client=client).parsed
        assert isinstance(job, models.JobDocument)
        return job if job.status is models.JobStatus.SUCCESS else None

    assert wait_until(finished, "the end of the job").result == {"title": "Report", "parts": 2}
    assert call("open_result")(job_id, client=client).parsed == {"title": "Report", "parts": 2}
    page = call("open_list")(client=client, status=[models.JobStatus.SUCCESS], limit=100).parsed
    assert isinstance(page, models.JobPage)
    assert job_id in [job.job_id for job in page.jobs]


def test_a_repeated_submission_is_the_same_job(package: ModuleType, client: Any) -> None:
    body = package.models.NothingRequest()
    first, second = (call("open_submit_nothing")(client=client, body=body, idempotency_key="once") for _ in range(2))
    assert isinstance(first.parsed, package.models.NothingJob)
    assert first.parsed.job_id == second.parsed.job_id
    assert second.headers["idempotency-replayed"] == "true"


def test_cancel(package: ModuleType, client: Any) -> None:
    body = package.models.CountRequest(items=100_000, pause=0.05)
    job_id = call("open_submit_count")(client=client, body=body).parsed.job_id
    cancelled = call("open_cancel")(job_id, client=client).parsed
    assert isinstance(cancelled, package.models.JobDocument)
    revoked = package.models.JobStatus.REVOKED
    wait_until(lambda: call("open_get")(job_id, client=client).parsed.status is revoked, "the end of the job")


def test_a_problem_is_typed(package: ModuleType, client: Any) -> None:
    models = package.models
    missing = call("open_get")("no-such-job", client=client).parsed
    assert isinstance(missing, models.JobProblem)
    assert missing.type_ == "urn:aijobs:problem:job-not-found"
    refused = call("open_submit_summarise")(client=client, body=models.Document(title="")).parsed
    assert isinstance(refused, models.JobProblem)
    (fault,) = refused.errors
    assert isinstance(fault, models.RequestFault)
    assert fault.pointer == "#/title"


def test_the_events_are_text(client: Any, package: ModuleType) -> None:
    job_id = call("open_submit_nothing")(client=client, body=package.models.NothingRequest()).parsed.job_id
    assert "event: job." in call("open_events")(job_id, client=client).parsed


def test_output(package: ModuleType, client: Any) -> None:
    models = package.models
    job_id = call("open_submit_count")(client=client, body=models.CountRequest(items=2)).parsed.job_id

    def finished() -> Any:
        found = call("open_output")(job_id, client=client).parsed
        assert isinstance(found, models.JobOutput)
        return found if found.finished else None

    found = wait_until(finished, "the end of the job")
    text, data = found.pieces
    assert (type(text), text.text) == (models.JobTextPiece, "0 1 ")
    assert (type(data), data.data) == (models.JobDataPiece, {"counted": 2})


def test_a_file(package: ModuleType, client: Any) -> None:
    models, file = package.models, package.types.File(io.BytesIO(b"Some text."), "report.txt", "text/plain")
    accepted = call("open_submit_read")(client=client, body=models.OpenSubmitReadBody(document=file, pages=2)).parsed
    assert isinstance(accepted, models.ReadJob)
    read = wait_until(lambda: call("open_get")(accepted.job_id, client=client).parsed.result, "the end of the job")
    assert read == len(b"Some text.")


def test_a_batch(package: ModuleType, client: Any) -> None:
    models = package.models
    document = {"items": [{"custom_id": "a", "task": "nothing", "input": {}}]}
    accepted = call("open_create_batch")(client=client, body=models.OpenBatch.from_dict(document)).parsed
    assert [item.custom_id for item in accepted.items] == ["a"]
    batch = call("open_get_batch")(accepted.batch_id, client=client).parsed
    assert batch.counts.total == 1


def test_what_only_admins_see(api: Complete, package: ModuleType, client: Any) -> None:
    models = package.models
    job_id = call("jobs_submit_nothing")(client=client, body=models.NothingSubmission()).parsed.job_id
    job = call("jobs_get")(job_id, client=client).parsed
    assert isinstance(job, models.AdminJobDocument)
    assert job.owner is package.types.UNSET
    with package.AuthenticatedClient(api.url, "admin") as admin:
        assert call("jobs_get")(job_id, client=admin).parsed.owner == "alice"
