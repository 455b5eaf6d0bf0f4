"""The form of a task that takes files: text fields as the values of parameters, and files beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from aijobs.http.envelope import ClientFields, Sent
from aijobs.http.exposure import ExposedTask
from aijobs.http.problems import INVALID_REQUEST, Problem, validation_problem
from aijobs.http.submissions import MOST_FAULTS

_STRUCTURES = frozenset({"array", "object"})
_FREE_TEXT = "text"


class TaskForm:
    """The form of one task.

    Args:
        task: that takes files.
        client_fields: what clients may send besides.
    """

    def __init__(self, task: ExposedTask, client_fields: ClientFields) -> None:
        self.task = task
        self._files = task.body.files
        self._adapter: TypeAdapter[Any] = TypeAdapter(client_fields.beside(task))
        whole = self._adapter.json_schema(mode="validation")
        schema = _inlined(whole, whole.get("$defs", {}))
        self._required = schema.get("required", [])
        self._takes_more = schema.get("additionalProperties", True)
        self._schemas: Mapping[str, Any] = schema["properties"]
        self._types = {name: frozenset(_types(one)) for name, one in self._schemas.items()}

    def read(self, fields: Mapping[str, str], files: Mapping[str, Any]) -> Sent:
        """What was sent, as the task's model has it.

        Args:
            fields: as they were sent.
            files: an `UploadedFile` for each parameter that got one, or a list of them.

        Raises:
            Problem: a field is not valid, or a file is missing.
        """
        values = {**dict(self._values(fields)), **files}
        try:
            sent = self._adapter.validate_python(values)
        except ValidationError as error:
            raise _problem(error, values) from None
        return sent if isinstance(sent, Sent) else Sent(sent)

    def comparable(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with files as their digests: what is the same when a submission is repeated."""
        positional = zip(self.task.body.positional, args, strict=False)
        named = {name: self._digests(name, value) for name, value in kwargs.items()}
        return [self._digests(*pair) for pair in positional], named

    def schema(self, *, batch: bool = False) -> dict[str, Any]:
        """The form as OpenAPI describes the content of a request.

        Args:
            batch: whether its one file may be there several times.
        """
        files = {name: _file_schema(many=file.many or batch) for name, file in self._files.items()}
        structured = [name for name in self._schemas if name not in files and self._types[name] & _STRUCTURES]
        return {
            "schema": {
                "type": "object",
                "properties": {**self._schemas, **files},
                "required": self._required,
                "additionalProperties": self._takes_more,
            },
            "encoding": {name: {"contentType": "application/json"} for name in structured},
        }

    def _values(self, fields: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        for name, text in fields.items():
            types = self._types.get(name, frozenset())
            # A form sends what was not filled in as empty text.
            if text or not types or _FREE_TEXT in types:
                yield name, text if not types or "string" in types else _value(name, types, text)

    def _digests(self, name: str, value: Any) -> Any:
        if name not in self._files or value is None:
            return value
        return [one["sha256"] for one in value] if isinstance(value, list) else value["sha256"]


def _value(name: str, types: frozenset[str], text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        if types & _STRUCTURES:
            fault = {"loc": ("body", name), "msg": "The field should hold JSON", "type": "json_invalid"}
            raise validation_problem([fault], {name: text}) from None
        # The model says best what it wants instead.
        return text


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    """The JSON types that a schema takes, and whether it takes any text; none when it takes anything."""
    for name in ("anyOf", "oneOf", "allOf"):
        for branch in schema.get(name, ()):
            yield from _types(branch)
    given = schema.get("type", ())
    yield from [given] if isinstance(given, str) else given
    if given == "string" and not schema.keys() & {"format", "enum", "const"}:
        yield _FREE_TEXT
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    yield from ("string" if isinstance(value, str) else "number" for value in values)


def _inlined(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...] = ()) -> Any:
    """A schema without references, since a request body in OpenAPI has no definitions of its own.

    A schema that holds itself ends in any value.
    """
    if isinstance(schema, list):
        return [_inlined(one, definitions, within) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _inlined(one, definitions, within) for key, one in schema.items() if key not in _REFERRING}
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if not name or name in within:
        return rest
    return {**_inlined(definitions[name], definitions, (*within, name)), **rest}


#: A discriminator maps values to references; what it chooses from says the same.
_REFERRING = frozenset({"$ref", "$defs", "discriminator"})


def _file_schema(*, many: bool) -> dict[str, Any]:
    one = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    return {"type": "array", "items": one, "minItems": 1} if many else one


def _problem(error: ValidationError, values: Mapping[str, Any]) -> Problem:
    if error.error_count() > MOST_FAULTS:
        # Taking all of them apart would block the event loop for seconds.
        return Problem(INVALID_REQUEST, f"The form has more than {MOST_FAULTS} faults.")
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return validation_problem([{**one, "loc": ("body", *one["loc"])} for one in faults], dict(values))
