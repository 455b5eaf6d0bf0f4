"""Tests of tasks: in milliseconds without a server, and with real workers that are killed.

    run = run_job(embed, ["one", "two"])
    assert run.result == 2

Names are loaded on first use. The pytest fixtures are in `aijobs.testing.plugin`, which pytest finds by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aijobs.testing.answers import (
        bad_request,
        disconnected,
        overloaded,
        rate_limited,
        server_error,
        tokens,
        unauthorized,
        vectors,
    )
    from aijobs.testing.jobrun import JobRun, Submitted
    from aijobs.testing.jobs import Jobs
    from aijobs.testing.run import run_job
    from aijobs.testing.script import ProviderScript, ScriptEnded, scripted
    from aijobs.testing.servers import start_test_server
    from aijobs.testing.troubles import Trouble, cancel_at, crash_after, crash_at, time_out_at
    from aijobs.testing.workers import Worker, start_worker

_HOMES = {
    "aijobs.testing.answers": (
        "bad_request",
        "disconnected",
        "overloaded",
        "rate_limited",
        "server_error",
        "tokens",
        "unauthorized",
        "vectors",
    ),
    "aijobs.testing.jobrun": ("JobRun", "Submitted"),
    "aijobs.testing.jobs": ("Jobs",),
    "aijobs.testing.run": ("run_job",),
    "aijobs.testing.script": ("ProviderScript", "ScriptEnded", "scripted"),
    "aijobs.testing.servers": ("start_test_server",),
    "aijobs.testing.troubles": ("Trouble", "cancel_at", "crash_after", "crash_at", "time_out_at"),
    "aijobs.testing.workers": ("Worker", "start_worker"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "JobRun",
    "Jobs",
    "ProviderScript",
    "ScriptEnded",
    "Submitted",
    "Trouble",
    "Worker",
    "bad_request",
    "cancel_at",
    "crash_after",
    "crash_at",
    "disconnected",
    "overloaded",
    "rate_limited",
    "run_job",
    "scripted",
    "server_error",
    "start_test_server",
    "start_worker",
    "time_out_at",
    "tokens",
    "unauthorized",
    "vectors",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
