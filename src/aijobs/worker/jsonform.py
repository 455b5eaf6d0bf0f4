"""Values as JSON text and back, by what a function's annotation says they are."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

_CONFIG = ConfigDict(ser_json_inf_nan="constants")


class Form:
    """How values of one type look as JSON text.

    Args:
        kind: the type, as an annotation.

    Raises:
        TypeError: pydantic cannot make such values of JSON.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        try:
            self._adapter: TypeAdapter[Any] = _adapter(kind)
        except PydanticSchemaGenerationError:
            raise TypeError(f"pydantic cannot make a {_name(kind)} of JSON") from None
        except PydanticUserError as error:
            raise TypeError(f"pydantic cannot make a {_name(kind)} of JSON: {error.message}") from None

    def encode(self, value: Any) -> str:
        """A value as JSON text.

        Raises:
            TypeError: JSON cannot hold it.
        """
        try:
            return self._adapter.dump_json(value, by_alias=True, round_trip=True, warnings="none").decode()
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise TypeError(f"JSON cannot hold this {type(value).__name__}: {error}") from error

    def decode(self, text: str) -> Any:
        """The value of JSON text.

        Raises:
            TypeError: it is not of this type.
        """
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            # pydantic's own text repeats the value, which may be private.
            found = "; ".join(one["msg"] for one in error.errors(include_input=False, include_url=False)[:3])
            raise TypeError(f"what JSON holds does not make a {_name(self._kind)}: {found}") from None


def form_of(kind: Any = Any) -> Form:
    """The form of a type, made once where that can be.

    Raises:
        TypeError: pydantic cannot make such values of JSON.
    """
    try:
        hash(kind)
    except TypeError:
        return Form(kind)
    return _known_form(kind)


def kind_of(value: Any) -> Any:
    """The type by which JSON is to become such a value again: that of a model or a dataclass; else JSON says it."""
    told = isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))
    return type(value) if told else Any


def result_kind(function: Callable[..., Any]) -> Any:
    """What a function returns, or its coroutine gives, by its annotation; Any without one.

    Raises:
        TypeError: the annotation names what is not there when the program runs.
    """
    while isinstance(function, functools.partial):
        function = function.func
    target = inspect.unwrap(function)
    if inspect.isclass(target):
        return target
    target = target if hasattr(target, "__code__") else type(target).__call__
    try:
        stub = SimpleNamespace(__annotations__={"return": getattr(target, "__annotations__", {}).get("return", Any)})
        kind = typing.get_type_hints(stub, getattr(target, "__globals__", {}), include_extras=True)["return"]
    except NameError as error:
        raise TypeError(f"its return annotation cannot be read, as {error}; import that at run time as well") from None
    return typing.get_args(kind)[-1] if typing.get_origin(kind) in (Awaitable, Coroutine) else kind


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


_known_form = functools.lru_cache(maxsize=256)(Form)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind, config=_CONFIG)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        # A model has a configuration of its own.
        return TypeAdapter(kind)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
