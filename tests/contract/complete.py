"""The API of `apps/complete.py` in a process of its own, with a worker that runs its jobs."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from .conftest import DEADLINE_SECONDS
from .processes import api_process, process, until_logged

#: Callers whom the API knows.
ALICE = {"Authorization": "Bearer alice"}
BOB = {"Authorization": "Bearer bob"}
ADMIN = {"Authorization": "Bearer admin"}

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()

#: What operations want that no schema requires.
NEEDED: dict[str, dict[str, Any]] = {
    "DELETE /jobs/dead": {"params": {"all": "true"}},
    "POST /jobs/dead/retry": {"json": {"all": True}},
}

WORKER = ("celery", "-A", "complete:celery_app", "worker", "-P", "threads", "-c", "4", "-l", "INFO")


@dataclass(frozen=True)
class Complete:
    """An API with everything on at `/jobs` and with everything off at `/open`.

    Attributes:
        url: of the API.
        client: that is Alice.
        log: of the API.
    """

    url: str
    client: httpx.Client
    log: Path

    def tracebacks(self) -> list[str]:
        """The API's unexpected errors, without uvicorn's own: it answers broken HTTP while the app may do so too."""
        found = self.log.read_text().split("Traceback (most recent call last)")[1:]
        return [trace for trace in found if "h11._util.LocalProtocolError" not in trace]

    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        found: dict[str, Any] = self.client.get("/openapi.json").json()
        return found

    def submit(self, task: str = "nothing", body: Any = None, prefix: str = "/jobs") -> str:
        """The id of a new job."""
        response = self.client.post(f"{prefix}/{task}", json={} if body is None else body)
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    def submit_batch(self) -> str:
        """The id of a new batch."""
        items = [{"custom_id": str(number), "task": "nothing", "input": {}} for number in range(3)]
        response = self.client.post("/jobs/batches", json={"items": items})
        assert response.status_code == 202, response.text
        return str(response.json()["batch_id"])


@contextmanager
def complete(
    url: str, folder: Path, *, worker: bool = True, environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Complete]:
    """Runs API and worker over a store."""
    environ = {**environ, "TEST_URL": url, "AIJOBS_FILES_URL": str(folder / "files"), "AIJOBS_WEBHOOK_SECRETS": SECRET}
    with ExitStack() as stack:
        if worker:
            running = stack.enter_context(process(folder / "worker.log", environ, *WORKER))
            until_logged(folder / "worker.log", " ready.", running)
        address, _ = stack.enter_context(api_process(environ, folder / "api.log", "complete:app"))
        client = stack.enter_context(httpx.Client(base_url=address, timeout=DEADLINE_SECONDS, headers=ALICE))
        yield Complete(address, client, folder / "api.log")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def request_of(method: str, path: str, operation: dict[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """A well-formed request of an operation, from what the document gives as example.

    Args:
        method: of HTTP.
        path: with its parameters.
        operation: of the document.
        ids: by the name of the parameter.
    """
    content = operation.get("requestBody", {}).get("content", {})
    body: dict[str, Any] = {}
    if "application/json" in content:
        body["json"] = content["application/json"]["example"]
    elif "multipart/form-data" in content:
        fields = content["multipart/form-data"]["schema"]["properties"]
        body["files"] = {name: ("report.txt", b"Some text.") for name, one in fields.items() if "binary" in str(one)}
    return {"method": method, "url": path.format_map(ids), **body, **NEEDED.get(f"{method} {path}", {})}
