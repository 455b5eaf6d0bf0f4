"""What /docs shows."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from fastapi import FastAPI
from openapi_schema_validator import validate as assert_valid
from openapi_spec_validator import validate

from aijobs.http import job_router

from .conftest import Api


@pytest.fixture(scope="module")
def document(celery_app: Celery) -> dict[str, Any]:
    app = FastAPI()
    app.include_router(job_router(celery_app))
    app.include_router(job_router(celery_app, prefix="/v2/jobs", tasks={"digest": "contract.summarise"}))
    return app.openapi()


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
    assert submissions == {f"post /jobs/{task}" for task in ("anything", "embed", "nightly", "summarise")}


def test_names_are_unique_and_stable(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(ids) == len(set(ids))
    assert {"jobs_submit_embed", "jobs_get", "jobs_list", "jobs_cancel", "v2_jobs_submit_digest"} <= set(ids)
    names = set(document["components"]["schemas"])
    assert {"EmbedRequest", "EmbedJob", "SummariseJob", "JobDocument", "JobProblem"} <= names
    assert not any("__" in name for name in names)


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
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/JobProblem"}}}
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["tags"] == ["jobs"], name
        assert operation["responses"]["default"]["content"] == problem, name
        for status, response in operation["responses"].items():
            assert response["description"] != "Successful Response", name
            if status.isdecimal() and int(status) >= 400:
                assert response["content"] == problem, (name, status)


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
