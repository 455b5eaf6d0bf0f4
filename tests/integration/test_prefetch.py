"""How many jobs a worker takes ahead, when it is started by Celery's own command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until

from .conftest import Worker, running_worker


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        ([], {}, 2),
        (["--prefetch-multiplier", "3"], {}, 6),
        ([], {"CELERY_WORKER_PREFETCH_MULTIPLIER": "5"}, 10),
    ],
    ids=["default", "command-line", "environment"],
)
def test_a_worker_takes_no_jobs_ahead_unless_it_is_told_to(
    server_url: str, tmp_path: Path, options: list[str], environ: Mapping[str, str], expected: int
) -> None:
    urls = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    with running_worker("prefetch_app", tmp_path, {**urls, **environ}, "prefork", "-c", "2", *options) as worker:
        assert wait_until(lambda: stats(worker), "the worker's answer")["prefetch_count"] == expected


def stats(worker: Worker) -> dict[str, Any]:
    """What the worker says of itself; empty while it does not."""
    answers: dict[str, dict[str, Any]] = worker.app.control.inspect(timeout=2.0).stats() or {}
    return next(iter(answers.values()), {})
