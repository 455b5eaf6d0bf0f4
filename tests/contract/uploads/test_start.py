"""What OpenAPI says of forms, and which tasks cannot have one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery
from fastapi import FastAPI
from openapi_spec_validator import validate
from pydantic import BaseModel

from aijobs import ConfigurationError, ProgressTask, UploadedFile
from aijobs.http import job_router
from tests.contract.conftest import Api

from .forms import make_celery


def test_openapi_shows_file_pickers(api: Api) -> None:
    document = api.client.get("/openapi.json").json()
    validate(document)
    paths = document["paths"]
    form = paths["/jobs/read"]["post"]["requestBody"]["content"]["multipart/form-data"]
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    properties = form["schema"]["properties"]
    assert properties["document"] == file
    assert form["schema"]["required"] == ["document"]
    assert properties["title"]["type"] == "string"
    assert properties["tags"]["items"] == {"type": "string"}
    assert "$ref" not in json.dumps(form)
    assert set(form["encoding"]) == {"tags", "options", "metadata"}
    batch = paths["/jobs/read/batch"]["post"]
    assert batch["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["document"]["items"] == file
    assert {"408", "413", "415", "422", "503"} <= set(batch["responses"])
    assert "/jobs/merge/batch" not in paths


def test_openapi_says_what_admins_see_of_a_batch() -> None:
    router = job_router(make_celery("redis://127.0.0.1:1/0"), admin=lambda: True)
    app = FastAPI()
    app.include_router(router)
    document = app.openapi()
    validate(document)
    answer = document["paths"]["/jobs/read/batch"]["post"]["responses"]["202"]["content"]["application/json"]
    name = answer["schema"]["$ref"].rpartition("/")[2]
    jobs = document["components"]["schemas"][name]["properties"]["jobs"]["items"]["anyOf"]
    assert [one["$ref"].rpartition("/")[2] for one in jobs] == ["AdminJobDocument", "JobProblem"]
    assert "JobDocument" not in document["components"]["schemas"]


def nested(document: dict[str, UploadedFile]) -> None: ...
def one_of_several(document: UploadedFile | str) -> None: ...
def in_others(**others: UploadedFile) -> None: ...


class Holder(BaseModel):
    inside: UploadedFile


def in_a_model(holder: Holder) -> None: ...


@pytest.mark.parametrize("run", [nested, one_of_several, in_others, in_a_model])
def test_files_within_something_else_are_refused_at_the_start(run: Any) -> None:
    app = Celery("refused", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.task(base=ProgressTask, shared=False, name="refused.task")(run)
    with pytest.raises(ConfigurationError, match=r"Task 'refused.task', parameter .*UploadedFile within something"):
        job_router(app)


@pytest.mark.parametrize("module", ["python_multipart", "magic"])
def test_what_is_not_installed_is_named(module: str) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from tests.contract.uploads.forms import make_celery\n"
        "from aijobs.http import job_router\n"
        "job_router(make_celery('redis://127.0.0.1:1/0'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "ConfigurationError" in done.stderr
    assert module in done.stderr.splitlines()[-1]
    assert "pip install 'aijobs[uploads]'" in done.stderr.splitlines()[-1]


def test_a_plain_task_does_not_get_files() -> None:
    app = Celery("plain", broker="redis://127.0.0.1:1/0", set_as_current=False)

    @app.task(shared=False, name="plain.task")
    def plain(document: UploadedFile) -> None: ...

    with pytest.raises(ConfigurationError, match="base=ProgressTask"):
        job_router(app, tasks=["plain.task"])
