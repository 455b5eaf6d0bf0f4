"""Records are the same over every result backend, and Celery's own results keep working on top of it.

Each arrangement runs in a process of its own that sends jobs, since an app is bound to one backend.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.helpers import wait_until

from .conftest import APPS, celery_worker

SENDER = Path(__file__).parent / "apps" / "send_to_backends.py"


def arrangement(name: str, server: str, folder: Path) -> dict[str, str]:
    """Broker, result backend and store, by the environment."""
    parts = urlsplit(server)
    database = {n: parts._replace(path=f"/{n}").geturl() for n in (5, 6, 7)}
    folder.mkdir(exist_ok=True)
    backends = {
        "one server": (database[5], database[5], None),
        "databases 5 and 6": (database[5], database[6], None),
        "store apart": (database[5], database[6], database[7]),
        "files": (database[5], f"file://{folder}", database[7]),
        "sqlite": (database[5], f"db+sqlite:///{folder}/results.db", None),
    }
    broker, backend, store = backends[name]
    environ = {"TEST_BROKER_URL": broker, "TEST_BACKEND_URL": backend}
    return environ | ({"AIJOBS_STORE_URL": store} if store else {})


@pytest.mark.parametrize("name", ["one server", "databases 5 and 6", "store apart", "files", "sqlite"])
def test_records_and_results(server_url: str, tmp_path: Path, name: str) -> None:
    environ = {**os.environ, **arrangement(name, server_url, tmp_path / "results")}
    with celery_worker("backends_app", tmp_path / "worker.log", environ, "-c", "2") as (_, log):
        wait_until(lambda: " ready." in log.read_text(), "the worker's start")
        sent = subprocess.run(
            [sys.executable, SENDER], cwd=APPS, env=environ, capture_output=True, text=True, timeout=90, check=False
        )
        assert sent.returncode == 0, sent.stderr + log.read_text()
    found = json.loads(sent.stdout)
    assert found["results"] == {"add": 3, "group": [2, 4, 6], "chain": 10, "chord": 6, "work": 50}
    assert found["failure"] == "ValueError: the text of the error"
    assert found["states"] == {"add": "SUCCESS", "fail": "FAILURE", "quiet": "PENDING"}
    assert found["records"] == {
        "add": ["success", 1, 3],
        "fail": ["failed", 1, None],
        "retry": ["failed", 2, None],
        "work": ["success", 1, 50],
        "quiet": ["success", 1, None],
        "chord": ["success", 1, 6],
    }
    assert found["late_success_refused"]
