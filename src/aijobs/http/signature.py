"""A task's signature as the model of a request body, and a valid body as the task's arguments.

A body is JSON, or a form when one of the parameters is an `UploadedFile`.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from types import SimpleNamespace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from aijobs.errors import ConfigurationError
from aijobs.files import FileRules, UploadedFile
from aijobs.files.uploaded import mentions_file

#: What annotations raise that name what is not there.
_UNRESOLVABLE = (NameError, AttributeError, TypeError, SyntaxError)


@dataclass(frozen=True, slots=True)
class FileParameter:
    """A parameter that takes a file, or several."""

    rules: FileRules
    #: Whether it takes a list.
    many: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class TaskBody:
    """How a task's arguments travel in a request body."""

    model: type[BaseModel]
    #: Whether a request must have a body.
    required: bool
    #: The one parameter that takes the whole body; None when each field of the body is a parameter.
    whole: str | None = None
    #: Parameters that can only be given by position, in their order.
    positional: Sequence[str] = ()
    #: JSON values of their defaults.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    #: The parameters that take files; when there are any, the body is a form.
    files: Mapping[str, FileParameter] = field(default_factory=dict)

    @property
    def single_file(self) -> str | None:
        """The parameter that takes the one file which each job needs; None when jobs have more or fewer."""
        (name, file), *more = self.files.items() or [("", None)]
        return name if file and file.required and not file.many and not more else None

    def arguments(self, body: BaseModel | None) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named arguments, as JSON values; what the client left out is left to the task's defaults."""
        named = {} if body is None else self._named(body)
        last = max((index for index, name in enumerate(self.positional) if name in named), default=-1)
        return [named.pop(name, self.defaults.get(name)) for name in self.positional[: last + 1]], named

    def _named(self, body: BaseModel) -> dict[str, Any]:
        if self.whole is not None:
            return {self.whole: body.model_dump(mode="json", by_alias=True, round_trip=True)}
        sent = set(body.model_fields_set)
        return body.model_dump(mode="json", by_alias=True, round_trip=True, include=sent)


def task_body(name: str, task: str, run: Callable[..., Any]) -> TaskBody:
    """Makes the body's model.

    Args:
        name: of the model.
        task: the task's name, for error messages.
        run: the task's function, without `self`.

    Raises:
        ConfigurationError: a parameter cannot be a field of a JSON body; the message names task and parameter.
    """
    parameters = [_Parameter(task, one, _module_of(run)) for one in inspect.signature(run).parameters.values()]
    fields = [one for one in parameters if one.kind is not Parameter.VAR_KEYWORD]
    if len(parameters) == 1 and fields and fields[0].is_model:
        return _whole_body(fields[0])
    positional = [one for one in fields if one.kind is Parameter.POSITIONAL_ONLY]
    files = {one.name: one.file for one in fields if one.file is not None}
    if files and not hasattr(run, "__aijobs_adapted__"):
        raise ConfigurationError(
            f"Task {task!r} takes a file ({', '.join(files)}), which only a ProgressTask gets as an UploadedFile. Give "
            "it the base: @celery_app.task(base=ProgressTask)."
        )
    return TaskBody(
        model=_model(name, run, fields, open_ended=len(fields) < len(parameters)),
        required=any(one.required for one in fields),
        positional=[one.name for one in positional],
        defaults={one.name: one.json_default() for one in positional if not one.required},
        files=files,
    )


def result_type(run: Callable[..., Any]) -> Any:
    """The return annotation; Any when there is none, or none that has a JSON schema."""
    annotation = inspect.signature(run).return_annotation
    if annotation is inspect.Signature.empty:
        return Any
    try:
        found = _resolve("return", annotation, _module_of(run))
        TypeAdapter(found).json_schema(mode="serialization")
    except (*_UNRESOLVABLE, PydanticUserError):
        # It would only document, so the task need not do without a route.
        return Any
    return found


class _Parameter:
    """One parameter of a task that becomes a field."""

    def __init__(self, task: str, parameter: Parameter, module: Mapping[str, Any]) -> None:
        self.task = task
        self.name = parameter.name
        self.kind = parameter.kind
        self.default = parameter.default
        if parameter.kind is Parameter.VAR_POSITIONAL:
            raise self._refuse(f"a JSON body has no place for *{self.name}", "Name the parameters")
        self.type = self._type(parameter.annotation, module)
        self.file = self._file()

    @property
    def required(self) -> bool:
        return self.default is Parameter.empty

    @property
    def is_model(self) -> bool:
        bare = typing.get_args(self.type)[0] if typing.get_origin(self.type) is Annotated else self.type
        return inspect.isclass(bare) and issubclass(bare, BaseModel) and self.file is None

    def field(self) -> tuple[Any, Any]:
        """The field's type and properties. Its default is documented only: the task itself has it."""
        if self.required:
            return self.type, Field(alias=self.name)
        shown = self._shown_default()
        extra = {} if shown is None else {"default": shown}
        return self.type, Field(default_factory=_left_out, alias=self.name, json_schema_extra=extra or None)

    def json_default(self) -> Any:
        """The default as a JSON value, for parameters that cannot be left out by name."""
        try:
            return to_jsonable_python(self.default)
        except PydanticSerializationError:
            raise self._refuse("its default is not JSON", "Make it a parameter that has a name") from None

    def _shown_default(self) -> Any:
        try:
            return to_jsonable_python(self.default, inf_nan_mode="null")
        except (PydanticSerializationError, ValueError):
            return None

    def _type(self, annotation: Any, module: Mapping[str, Any]) -> Any:
        try:
            return self._resolved(annotation, module)
        except ConfigurationError:
            # Other fields are taken as they are.
            if self.kind is Parameter.VAR_KEYWORD:
                return Any
            raise

    def _resolved(self, annotation: Any, module: Mapping[str, Any]) -> Any:
        if annotation is Parameter.empty:
            return Any
        try:
            found = _resolve(self.name, annotation, module)
        except _UNRESOLVABLE as error:
            reason = f"its annotation {annotation!r} cannot be resolved ({type(error).__name__}: {error})"
            raise self._refuse(reason, "Import the type at the module's top level") from error
        try:
            TypeAdapter(found).json_schema(mode="validation")
        except PydanticUserError as error:
            reason = f"its annotation {annotation!r} has no JSON schema ({str(error).splitlines()[0]})"
            raise self._refuse(reason, "Annotate it with a type that pydantic knows") from error
        return found

    def _file(self) -> FileParameter | None:
        found = _file_parameter(self.type, required=self.required)
        if found is not None and self.kind is not Parameter.VAR_KEYWORD:
            return found
        if mentions_file(TypeAdapter(self.type)):
            # A key that a client made up must not reach a task.
            raise self._refuse(
                "it holds an UploadedFile within something else",
                "Annotate it with UploadedFile, list[UploadedFile] or one of these with None",
            )
        return None

    def _refuse(self, reason: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(
            f"Task {self.task!r}, parameter {self.name!r}: {reason}, so the task cannot have a route. "
            f"{remedy}, or set expose=False on the task."
        )


def _whole_body(parameter: _Parameter) -> TaskBody:
    positional = [parameter.name] if parameter.kind is Parameter.POSITIONAL_ONLY else []
    return TaskBody(parameter.type, parameter.required, parameter.name, positional)


def _file_parameter(annotation: Any, *, required: bool) -> FileParameter | None:
    """What an annotation says of files; None when it is not about one, or a list of them."""
    rules, many = FileRules(), False
    while annotation is not UploadedFile:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            rules = next((one for one in arguments[1:] if isinstance(one, FileRules)), rules)
            annotation = arguments[0]
        elif origin in (typing.Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
            annotation = next(one for one in arguments if one is not type(None))
        elif origin is list and not many:
            annotation, many = arguments[0], True
        else:
            return None
    return FileParameter(rules, many, required)


def _model(
    name: str, run: Callable[..., Any], parameters: Sequence[_Parameter], *, open_ended: bool
) -> type[BaseModel]:
    # A parameter may be called `json`, `_id` or `model_config`, which no field of a model can be: hence the aliases.
    fields: dict[str, Any] = {f"field_{index}": one.field() for index, one in enumerate(parameters)}
    config = ConfigDict(extra="allow" if open_ended else "forbid", allow_inf_nan=False)
    return create_model(name, __config__=config, __module__=getattr(run, "__module__", __name__), **fields)


def _resolve(name: str, annotation: Any, module: Mapping[str, Any]) -> Any:
    holder = SimpleNamespace(__annotations__={name: annotation})
    return typing.get_type_hints(holder, dict(module), include_extras=True)[name]


def _module_of(run: Callable[..., Any]) -> Mapping[str, Any]:
    """The global names that the function sees."""
    names: Mapping[str, Any] = getattr(inspect.unwrap(run), "__globals__", {})
    return names


def _left_out() -> None:
    return None
