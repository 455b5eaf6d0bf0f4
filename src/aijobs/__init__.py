"""aijobs turns a Celery app into a production job API for AI backends.

    app.include_router(job_router(celery_app))

Names are loaded on first use, so a worker does not import FastAPI.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aijobs.attach import setup
    from aijobs.cancellation import cancel
    from aijobs.errors import (
        AijobsError,
        ArgumentsGone,
        ConfigurationError,
        FileGone,
        FirstJobGone,
        IdempotencyConflict,
        InvalidWebhook,
        JobNotFound,
        NotReplayable,
        PublishFailed,
        StoreUnavailable,
    )
    from aijobs.files.rules import FileRules
    from aijobs.files.uploaded import UploadedFile
    from aijobs.http import JobRouter, job_router
    from aijobs.job import (
        ErrorCode,
        EventType,
        Job,
        JobError,
        JobEvent,
        JobStatus,
        LogEntry,
        Output,
        PastRun,
        Piece,
        Progress,
        Webhook,
    )
    from aijobs.presets import AGENT, DOCUMENT, EMBEDDING_BATCH, LLM_CALL, REPORT, TRANSIENT, Preset
    from aijobs.settings import Settings
    from aijobs.submission import submit
    from aijobs.worker.exceptions import JobCancelled, LeaseLost
    from aijobs.worker.task import ProgressTask

_HOMES = {
    "aijobs.errors": (
        "AijobsError",
        "ArgumentsGone",
        "ConfigurationError",
        "FileGone",
        "FirstJobGone",
        "IdempotencyConflict",
        "InvalidWebhook",
        "JobNotFound",
        "NotReplayable",
        "PublishFailed",
        "StoreUnavailable",
    ),
    "aijobs.files.rules": ("FileRules",),
    "aijobs.files.uploaded": ("UploadedFile",),
    "aijobs.http": ("JobRouter", "job_router"),
    "aijobs.job": (
        "ErrorCode",
        "EventType",
        "Job",
        "JobError",
        "JobEvent",
        "JobStatus",
        "LogEntry",
        "Output",
        "PastRun",
        "Piece",
        "Progress",
        "Webhook",
    ),
    "aijobs.presets": ("AGENT", "DOCUMENT", "EMBEDDING_BATCH", "LLM_CALL", "REPORT", "TRANSIENT", "Preset"),
    "aijobs.settings": ("Settings",),
    "aijobs.attach": ("setup",),
    "aijobs.cancellation": ("cancel",),
    "aijobs.submission": ("submit",),
    "aijobs.worker.exceptions": ("JobCancelled", "LeaseLost"),
    "aijobs.worker.task": ("ProgressTask",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
