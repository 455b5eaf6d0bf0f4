"""What /docs shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from fastapi import FastAPI
from openapi_schema_validator import validate as assert_valid
from openapi_spec_validator import validate

from aijobs.http import job_router

from .complete import SECRET
from .conftest import Api
from .processes import APPS


@pytest.fixture(scope="module")
def document(celery_app: Celery) -> dict[str, Any]:
    app = FastAPI()
    app.include_router(job_router(celery_app))
    app.include_router(job_router(celery_app, prefix="/v2/jobs", tasks={"digest": "contract.summarise"}))
    return app.openapi()


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    """The document of an app that has everything on, and at another place everything off."""
    code = "import json, complete; print(json.dumps(complete.app.openapi()))"
    environ = {**os.environ, "TEST_URL": "redis://127.0.0.1:1/0", "AIJOBS_WEBHOOK_SECRETS": SECRET}
    printed = subprocess.run([sys.executable, "-c", code], cwd=APPS, env=environ, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_each_exposed_task_has_a_route_and_no_other(document: dict[str, Any]) -> None:
    submissions = {name for name in operations(document) if name.startswith("post /jobs/") and "{" not in name}
    exposed = ("anything", "embed", "nightly", "summarise")
    assert submissions == {"post /jobs/batches", *(f"post /jobs/{task}" for task in exposed)}


def test_routes_are_in_the_order_in_which_they_are_needed(everything: dict[str, Any]) -> None:
    shown = list(operations(everything))
    first = ["post /jobs/summarise", "get /jobs", "get /jobs/{job_id}", "get /jobs/{job_id}/events"]
    last = ["post /jobs/batches", "get /jobs/dead", "get /jobs/stats", "get /jobs/health"]
    assert sorted([*first, *last], key=shown.index) == [*first, *last]
    assert shown[0].startswith("post ")


def test_names_are_unique_and_stable(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))
    assert {"jobs_submit_embed", "jobs_get", "jobs_list", "jobs_cancel", "v2_jobs_submit_digest"} <= set(ids)
    names = set(document["components"]["schemas"])
    assert {"EmbedRequest", "EmbedJob", "SummariseJob", "JobDocument", "JobProblem"} <= names
    assert not any("__" in name for name in names)


def test_operation_ids_are_unique_whatever_tasks_are_called(celery_app: Celery) -> None:
    segments = ("batch", "batches-2", "batches.2", "batches_2", "batches_2_2")
    app = FastAPI()
    app.include_router(job_router(celery_app, tasks=dict.fromkeys(segments, "contract.plain")))
    found = operations(app.openapi())
    ids = [operation["operationId"] for operation in found.values()]
    assert len(ids) == len(set(ids))
    assert {f"post /jobs/{segment}" for segment in segments} <= found.keys()
    assert found["post /jobs/embed"]["operationId"] == "jobs_submit_embed"


def test_the_body_is_the_signature(document: dict[str, Any]) -> None:
    body = operations(document)["post /jobs/embed"]["requestBody"]
    assert body["required"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/EmbedRequest"}
    embed = schema(document, "EmbedRequest")
    assert embed["required"] == ["texts"]
    assert embed["additionalProperties"] is False
    assert embed["properties"]["texts"]["items"] == {"type": "string"}
    assert embed["properties"]["limit"]["default"] == 10
    assert embed["properties"]["size"]["default"] == "small"
    summarise = operations(document)["post /jobs/summarise"]["requestBody"]["content"]["application/json"]
    assert summarise["schema"] == {"$ref": "#/components/schemas/Document"}
    assert "required" not in operations(document)["post /jobs/nightly"]["requestBody"]


def test_the_result_is_the_return_annotation(document: dict[str, Any]) -> None:
    counts, empty = schema(document, "EmbedJob")["properties"]["result"]["anyOf"]
    assert (counts["additionalProperties"], empty) == ({"type": "integer"}, {"type": "null"})
    assert {"$ref": "#/components/schemas/Summary"} in schema(document, "SummariseJob")["properties"]["result"]["anyOf"]
    assert "type" not in schema(document, "AnythingJob")["properties"]["result"]


def test_the_docstring_is_the_summary(document: dict[str, Any]) -> None:
    embed = operations(document)["post /jobs/embed"]
    assert (embed["summary"], embed["description"]) == ("Embed some texts", "One vector for each.")
    assert operations(document)["post /jobs/summarise"]["summary"] == "Submit summarise"


def test_every_operation_is_described_with_its_problems(document: dict[str, Any]) -> None:
    problem = {"$ref": "#/components/schemas/JobProblem"}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["tags"] == ["jobs"], name
        assert operation["responses"]["default"]["content"]["application/problem+json"]["schema"] == problem, name
        for status, response in operation["responses"].items():
            assert response["description"] != "Successful Response", name
            if status.isdecimal() and int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)
                content = response["content"]["application/problem+json"]
                assert content["schema"] == problem, (name, status)
                if "example" in content:
                    assert content["example"]["status"] == int(status), (name, status)
                    assert_valid(content["example"], {**problem, "components": document["components"]})


def test_answers_are_as_documented(api: Api, document: dict[str, Any]) -> None:
    def check(name: str, value: Any) -> None:
        assert_valid(value, {"$ref": f"#/components/schemas/{name}", "components": document["components"]})

    claim = api.run()
    api.report(claim, 0.5, current=1)
    accepted = api.submit()
    check("EmbedJob", accepted.json())
    assert accepted.json().keys() == set(schema(document, "EmbedJob")["required"])
    for job_id in (claim.job_id, accepted.json()["job_id"]):
        job = api.get(f"/{job_id}").json()
        check("JobDocument", job)
        assert job.keys() == set(schema(document, "JobDocument")["required"])
    check("JobPage", api.get("").json())
    check("JobStats", api.get("/stats").json())
    check("Health", api.get("/health").json())
    check("JobProblem", api.get("/unknown").json())
    check("JobProblem", api.submit("embed", {}).json())


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON bodies of requests and of answers of success."""
    for name, operation in operations(document).items():
        successes = [one for status, one in operation["responses"].items() if status.startswith("2")]
        for one in (operation.get("requestBody", {}), *successes):
            if "application/json" in one.get("content", {}):
                yield name, one["content"]["application/json"]


def test_everything_at_once_is_valid(everything: dict[str, Any]) -> None:
    validate(everything)
    ids = [operation["operationId"] for operation in operations(everything).values()]
    assert len(ids) == len(set(ids))
    assert [one for one in ids if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", one)] == []
    assert [name for name in everything["components"]["schemas"] if "__" in name or "-" in name] == []


def test_every_json_body_has_an_example_that_fits(everything: dict[str, Any]) -> None:
    for name, content in contents(everything):
        # A result of any type has none.
        if "$ref" in content["schema"]:
            assert "example" in content, name
            shape = everything["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            # FastAPI leaves nulls out of its documents, examples included.
            value = {**dict.fromkeys(shape.get("required", ())), **content["example"]}
            assert_valid(value, {**content["schema"], "components": everything["components"]})


def test_every_parameter_is_described(everything: dict[str, Any]) -> None:
    for name, operation in operations(everything).items():
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (name, parameter["name"])


def test_security_schemes_are_those_of_the_app(everything: dict[str, Any]) -> None:
    assert list(everything["components"]["securitySchemes"]) == ["HTTPBearer"]
    for name, operation in operations(everything).items():
        secured = " /jobs" in name and name != "get /jobs/health"
        assert ("security" in operation) is secured, name
