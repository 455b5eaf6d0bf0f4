"""Requests made from the OpenAPI document, valid ones and others: every answer is as the document says.

`AIJOBS_FUZZ_CASES=5000` asks for about so many instead of the usual number; `make fuzz` does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import wait_until

from .complete import ADMIN, ALICE, BOB, Complete, operations, request_of
from .processes import APPS

ASKED = int(os.environ.get("AIJOBS_FUZZ_CASES", "0"))
#: Cases of an operation that are drawn at random, beside those that cover its schema one constraint after the other.
FEW = 5
#: That many cases of an operation cover its schema and its place in sequences of requests, at least.
COVERING = 70

#: All checks but these.
EXCLUDED_CHECKS = {"use_after_free": "DELETE cancels a job and keeps its record, for its owner to read"}


@pytest.fixture(scope="module")
def api(complete_api: Complete) -> Complete:
    return complete_api


def strict(document: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """The document without what would excuse any status, and with what streams consist of.

    Args:
        document: changed in place.
        ids: examples, by the name of the parameter.
    """
    for _, _, operation in operations(document):
        operation["responses"].pop("default", None)
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                parameter["example"] = ids[parameter["name"]]
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                if "x-itemSchema" in content:
                    content["itemSchema"] = content.pop("x-itemSchema")
                    del content["schema"]
    return document


def known_ids(api: Complete) -> dict[str, str]:
    """Of a job that has finished, and of a batch."""
    job_id = api.submit("count", {"items": 1})
    wait_until(lambda: api.client.get(f"/jobs/{job_id}/result").status_code == 200, "the end of the job")
    return {"job_id": job_id, "batch_id": api.submit_batch()}


def run(api: Complete, document: Path, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """What schemathesis reports, and what it prints."""
    callers = {"alice": ALICE, "bob": BOB, "admin": ADMIN}
    # Each operation is called by the first of them whom it does not refuse; what is Alice's is nothing to Bob.
    headers = {name: [{"name": "Authorization", "value": one["Authorization"]}] for name, one in callers.items()}
    entries = [{"name": name, "fixedHeaders": fixed} for name, fixed in headers.items()]
    (folder / "callers.json").write_text(json.dumps({"auth": entries}))
    (folder / "schemathesis.toml").write_text('[auth.wfc]\npath = "callers.json"\npeers = ["alice", "bob"]\n')
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "--no-color"),
        *("run", str(document), "--url", api.url, "--exclude-checks", ",".join(EXCLUDED_CHECKS)),
        *("--request-timeout", "20", "--continue-on-failure", "--max-failures", "20", "--warnings", "off"),
        *("--generation-database", "none", "--report", "json", "--report-json-path", str(folder / "report.json")),
        *options,
    ]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(APPS)}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return json.loads((folder / "report.json").read_text()), done.stdout


def test_every_example_is_accepted(api: Complete) -> None:
    ids = known_ids(api)
    for method, path, operation in operations(api.document()):
        response = api.client.request(**request_of(method, path, operation, ids), headers=ADMIN)
        # What has finished cannot be cancelled any more.
        assert response.is_success or response.status_code == 409, (method, path, response.text)


@pytest.mark.timeout(7_200)
def test_every_answer_is_as_documented(api: Complete, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = strict(api.document(), known_ids(api))
    (path := tmp_path / "openapi.json").write_text(json.dumps(document))
    count = len(list(operations(document)))
    each = max(FEW, ASKED // count - COVERING)
    # The same cases each time, unless somebody goes looking for others.
    seed = [] if ASKED else ["--seed", "1"]
    report, printed = run(api, path, tmp_path, "--max-examples", str(each), *seed)
    with capsys.disabled():
        print(f"\n{report['test_cases']['generated']} cases, seed {report['seed']}, {report['running_time']:.0f} s")
    assert (report["failures"], report["errors"]) == ([], []), printed
    assert report["complete"]
    assert report["operations"]["tested"] == count
    assert report["test_cases"]["generated"] >= FEW * count
    assert api.tracebacks() == []
    assert api.client.get("/jobs/health").status_code == 200
