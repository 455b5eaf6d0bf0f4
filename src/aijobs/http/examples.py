"""Examples for OpenAPI: from what a schema gives as examples and defaults, and otherwise what fits its types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

#: A schema that refers to itself is left after so many steps.
_DEEPEST = 12

_TEXTS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "password": "text",
    "path": "text",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "5d0c6d1c-6cb0-4f0e-8a4b-0b6f3f3c9f6e",
}

#: What asks for more than a value of the right type.
_TOO_HARD = {"allOf", "contains", "if", "minProperties", "multipleOf", "not", "pattern", "propertyNames"}

_JSON = "application/json"

_Schema = Mapping[str, Any]

#: A schema that a team wrote by hand may refer to anything.
_UNKNOWN: _Schema = {"type": "unknown"}


def add_examples(route: APIRoute) -> None:
    """Gives a route's JSON, in both directions, examples in OpenAPI.

    Args:
        route: before it is included anywhere.
    """
    body = route.body_field
    if body is not None and getattr(body.field_info, "media_type", None) == _JSON:
        sent = _content(example(body.field_info.annotation, "validation"))
        route.openapi_extra = {**(route.openapi_extra or {}), **({"requestBody": sent} if sent else {})}
    success = route.status_code or 200
    answered = {success: {"model": route.response_model}, **route.responses}
    shown = {
        status: {**response, **_content(example(response.get("model", route.response_model), "serialization"))}
        for status, response in answered.items()
        if str(status).startswith("2") and _is_json(response) and (status == success or "model" in response)
    }
    if success in shown:
        shown[success].pop("model", None)
    route.responses = {**route.responses, **shown}


def example(annotation: Any, mode: JsonSchemaMode) -> Any:
    """A JSON value of a type; None when none can be made.

    Args:
        annotation: what pydantic makes a JSON schema of.
        mode: whether the value is read or written.
    """
    if annotation is None or annotation is Any:
        return None
    # Most answers are of the same few models; other annotations need not have a hash.
    return _known(annotation, mode) if isinstance(annotation, type) else _made(annotation, mode)


def _made(annotation: Any, mode: JsonSchemaMode) -> Any:
    # The value is not tried out: a team's validators may do anything, and this is the start of an app.
    schema = TypeAdapter(annotation).json_schema(mode=mode, ref_template="{model}")
    try:
        return _value(schema, schema.get("$defs", {}), 0)
    except _NoExample:
        return None


_known = lru_cache(maxsize=256)(_made)


class _NoExample(Exception):
    """Nothing simple fits the schema."""


def _content(value: Any) -> dict[str, Any]:
    return {} if value is None else {"content": {_JSON: {"example": value}}}


def _is_json(response: _Schema) -> bool:
    return not response.get("content") or _JSON in response["content"]


def _value(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> Any:
    if depth > _DEEPEST:
        raise _NoExample
    for given in _given(schema):
        return given
    if "$ref" in schema:
        return _value(models.get(schema["$ref"], _UNKNOWN), models, depth + 1)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _option(options, models, depth + 1)
    kind = schema.get("type", "anything")
    if not isinstance(kind, str) or kind not in _MAKERS or schema.keys() & _TOO_HARD:
        raise _NoExample
    return _MAKERS[kind](schema, models, depth + 1)


def _given(schema: _Schema) -> Iterator[Any]:
    """What the schema itself names, the best first."""
    examples = schema.get("examples", ())
    several = examples if isinstance(examples, list) else ()
    single = (schema.get(name) for name in ("example", "const", "default"))
    yield from (one for one in (*several, *single, *schema.get("enum", ())) if one is not None)


def _option(options: Sequence[_Schema], models: Mapping[str, _Schema], depth: int) -> Any:
    # FastAPI leaves every null out of its document, and an example without the member would be wrong.
    return _value(next((one for one in options if one.get("type") != "null"), options[0]), models, depth)


def _object(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        name: _value(member, models, depth)
        for name, member in schema.get("properties", {}).items()
        if name in required or any(True for _ in _given(member))
    }


def _array(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> list[Any]:
    parts = schema.get("prefixItems") or [schema.get("items", {})] * max(1, schema.get("minItems", 1))
    return [_value(part, models, depth) for part in parts]


def _text(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> str:
    if "format" in schema:
        return str(_first(text for name, text in _TEXTS.items() if name == schema["format"]))
    return "text".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength")]


def _number(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> float:
    return float(_first(_between(schema)))


def _integer(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> int:
    return int(_first(one for one in _between(schema) if one == int(one)))


def _between(schema: _Schema) -> Iterator[float]:
    """Numbers within a schema's bounds, simple ones first."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2))
    for one in (1, low, low + 1, high, high - 1, (low + high) / 2):
        above = one >= schema.get("minimum", one) and one > schema.get("exclusiveMinimum", one - 1)
        below = one <= schema.get("maximum", one) and one < schema.get("exclusiveMaximum", one + 1)
        if above and below:
            yield one


def _first(candidates: Iterable[Any]) -> Any:
    for one in candidates:
        return one
    raise _NoExample


def _null(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> None:
    return None


def _anything(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> dict[str, Any]:
    return {}


def _true(schema: _Schema, models: Mapping[str, _Schema], depth: int) -> bool:
    return True


_MAKERS: dict[str, Callable[[_Schema, Mapping[str, _Schema], int], Any]] = {
    "anything": _anything,
    "array": _array,
    "boolean": _true,
    "integer": _integer,
    "null": _null,
    "number": _number,
    "object": _object,
    "string": _text,
}
