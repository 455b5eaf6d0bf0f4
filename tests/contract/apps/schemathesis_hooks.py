"""What schemathesis is told of decisions that an OpenAPI document cannot express."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.core.parameters import ParameterLocation
from schemathesis.openapi.checks import RejectedPositiveData

#: What is well-formed and refused all the same: a key that was used for another request, a cursor that was not given
#: out for these filters, a file whose name has no extension that is taken.
REFUSED_FOR_ITS_MEANING = {
    f"urn:aijobs:problem:{name}" for name in ("idempotency-conflict", "invalid-cursor", "unsupported-file")
}
#: The type of faults that no schema can name, such as an expiry before the countdown is over.
BEYOND_SCHEMAS = {"value_error"}

#: What pydantic reads as a number, a truth or a time, as in any FastAPI app.
COERCED: dict[str, list[str]] = {
    "integer": ["integer", "number", "string", "boolean"],
    "number": ["number", "string", "boolean"],
    "boolean": ["boolean", "number", "string"],
}
TIMES = {"date-time", "date", "time", "duration"}


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Exception, case: schemathesis.Case[Any], response: schemathesis.Response
) -> bool:
    """Whether a failure is one."""
    if isinstance(failure, RejectedPositiveData | AcceptedNegativeData) and response.status_code == 413:
        # Too much is refused before anybody looks at the rest.
        return False
    if isinstance(failure, RejectedPositiveData):
        return not is_refused_for_its_meaning(response.json())
    return not (isinstance(failure, AcceptedNegativeData) and is_merely_coerced(case))


def is_refused_for_its_meaning(problem: Any) -> bool:
    """Whether a request was refused for what no schema can say."""
    if "jobs" in problem:
        # Of several files each is refused by itself.
        return all(is_refused_for_its_meaning(part) for part in problem["jobs"])
    kinds = {fault["type"] for fault in problem.get("errors", ())}
    # Without any fault, the request as a whole makes no sense.
    senseless = problem["type"] == "urn:aijobs:problem:invalid-request" and kinds <= BEYOND_SCHEMAS
    return senseless or problem["type"] in REFUSED_FOR_ITS_MEANING


def is_merely_coerced(case: schemathesis.Case[Any]) -> bool:
    """Whether a body fits once numbers, truths and times may be written as pydantic takes them."""
    alternative = case.operation.get_body_for_media_type(case.media_type)
    if alternative is None or case.meta is None or not case.meta.is_negative_at(ParameterLocation.BODY):
        return False
    body = json.loads(json.dumps(case.body, default=repr))
    return jsonschema_rs.is_valid(coercing(alternative.optimized_schema), body)


def coercing(schema: Any) -> Any:
    """The schema, with types as pydantic takes them."""
    if isinstance(schema, list):
        return [coercing(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    loose = {name: coercing(value) for name, value in schema.items()}
    if schema.get("format") in TIMES:
        return {name: value for name, value in loose.items() if name not in ("type", "format")}
    if isinstance(kind := schema.get("type"), str) and kind in COERCED:
        loose["type"] = COERCED[kind]
    return loose
