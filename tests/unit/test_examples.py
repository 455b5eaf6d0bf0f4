"""Examples for OpenAPI: they fit, or there are none."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter, WithJsonSchema, field_validator

from aijobs.http.examples import example


class Colour(Enum):
    RED = "red"


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Endless(BaseModel):
    inner: Endless


class Careful(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def ask_somebody(cls, name: str) -> str:
        raise RuntimeError("nobody is there yet")


class Named(BaseModel):
    name: str = Field(examples=["Ada"])
    colour: Colour = Colour.RED
    nickname: str | None = None
    size: Annotated[int, Field(ge=3, le=4)]


@pytest.mark.parametrize(
    "annotation",
    [
        *(str, int, float, bool, date, datetime, time, timedelta, UUID, AnyUrl, Colour, Named, Tree),
        *(list[int], dict[str, int], tuple[int, str], set[str], Literal["a", "b"], int | str, str | None),
        Annotated[float, Field(gt=0, lt=1)],
        Annotated[int, Field(gt=5)],
        Annotated[int, Field(lt=-5)],
        Annotated[str, Field(min_length=9)],
        Annotated[str, Field(max_length=2)],
        Annotated[list[str], Field(min_length=3)],
    ],
)
def test_an_example_fits(annotation: Any) -> None:
    for mode in ("validation", "serialization"):
        made = example(annotation, mode)
        assert made is not None
        TypeAdapter(annotation).validate_python(made)


@pytest.mark.parametrize(
    "annotation",
    [
        *(Any, None, Endless, IPv4Address),
        Annotated[str, Field(pattern="^a+$")],
        Annotated[int, Field(multiple_of=7)],
        Annotated[int, WithJsonSchema({"type": ["integer", "null"]})],
        Annotated[int, WithJsonSchema({"$ref": "https://example.com/schema"})],
    ],
)
def test_no_example_is_better_than_a_wrong_one(annotation: Any) -> None:
    assert example(annotation, "validation") is None


def test_examples_in_either_spelling() -> None:
    one = Annotated[str, Field(json_schema_extra={"example": "Ada"})]
    odd = Annotated[str, Field(json_schema_extra={"examples": {"first": {"value": "Ada"}}})]
    assert (example(one, "validation"), example(odd, "validation")) == ("Ada", "text")


def test_what_is_named_comes_first() -> None:
    assert example(Named, "validation") == {"name": "Ada", "colour": "red", "size": 3}
    assert example(Named, "serialization") == {"name": "Ada", "colour": "red", "size": 3}


def test_validators_are_left_alone() -> None:
    assert example(Careful, "validation") == {"name": "text"}
