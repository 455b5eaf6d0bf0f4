"""Arguments become what the signature says, results become JSON, and nothing private is repeated."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from aijobs.worker.arguments import adapt, dump_models


class Colour(Enum):
    RED = "red"


class Page(BaseModel):
    number: int
    text: str = ""


@dataclasses.dataclass
class Box:
    width: int


class Foreign:
    """A class that pydantic knows nothing of."""


def adapted(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a task's `run` is after its class was adapted; `function` has no `self`."""
    task_class: Any = type("Work", (), {"run": staticmethod(function)})
    adapt(task_class)
    run: Callable[..., Any] = task_class.run
    return run


def takes(annotation: Any) -> Callable[..., Any]:
    """An adapted task with one parameter, which gives back what arrives."""

    def run(value):  # type: ignore[no-untyped-def]
        return [value]

    run.__annotations__ = {"value": annotation}
    task = adapted(run)
    return lambda value: task(value)[0]


@pytest.mark.parametrize(
    ("annotation", "travels", "arrives"),
    [
        (Page, {"number": 1}, Page(number=1)),
        (list[Page], [{"number": 1}, {"number": 2, "text": "b"}], [Page(number=1), Page(number=2, text="b")]),
        (dict[str, Page], {"a": {"number": 1}}, {"a": Page(number=1)}),
        (Page | None, {"number": 1}, Page(number=1)),
        (Page | None, None, None),
        (datetime, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (date | None, "2026-01-02", date(2026, 1, 2)),
        (timedelta, 90, timedelta(seconds=90)),
        (uuid.UUID, "00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        (Decimal, "1.50", Decimal("1.50")),
        (Path, "a/b", Path("a/b")),
        (Colour, "red", Colour.RED),
        (list[Colour], ["red"], [Colour.RED]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 1], {1}),
        (Box, {"width": 3}, Box(3)),
        (Annotated[int, Field(ge=1)], 1, 1),
        (Annotated[str, {"unhashable": "metadata"}], "a", "a"),
    ],
    ids=str,
)
def test_json_becomes_what_is_annotated(annotation: Any, travels: Any, arrives: Any) -> None:
    # Models among the results are dumped, so look at what arrived inside.
    seen: list[Any] = []

    def run(value):  # type: ignore[no-untyped-def]
        seen.append(value)

    run.__annotations__ = {"value": annotation}
    adapted(run)(travels)
    assert seen == [arrives]
    assert type(seen[0]) is type(arrives)


@pytest.mark.parametrize(
    "annotation",
    [int, str, float, bool, Any, list, dict, object, int | None, list[int], dict[str, Any], Literal["a", 1], Foreign],
    ids=str,
)
def test_plain_annotations_take_what_travels_as_it_is(annotation: Any) -> None:
    for value in (1, "1", None, [1], {"a": 1}, 1.5):
        assert takes(annotation)(value) == value


def test_values_that_are_right_already_pass() -> None:
    page, stamp = Page(number=1), datetime(2026, 1, 2, tzinfo=UTC)
    seen: list[Any] = []

    def run(a: Page, b: datetime) -> None:
        seen.extend([a, b])

    adapted(run)(page, b=stamp)
    assert seen[0] is page
    assert seen[1] is stamp


def test_every_argument_of_a_star_is_what_is_annotated() -> None:
    seen: list[Any] = []

    def run(*days: date, **pages: Page) -> None:
        seen.extend([days, pages])

    adapted(run)("2026-01-02", "2026-01-03", a={"number": 1})
    assert seen == [(date(2026, 1, 2), date(2026, 1, 3)), {"a": Page(number=1)}]


def test_defaults_stay_as_they_are() -> None:
    def run(page: Page | None = None, colour: Colour = Colour.RED) -> list[str]:
        return [repr(page), colour.name]

    assert adapted(run)() == ["None", "RED"]


@pytest.mark.parametrize(
    ("annotation", "value", "reason"),
    [
        (Page, {"number": "private"}, "valid integer"),
        (Page, "private", "valid dictionary"),
        (datetime, "private", "valid datetime"),
        (Colour, "private", "Input should be 'red'"),
        (list[Page], [{"number": 1}, {"text": "private"}], "Field required"),
        (Annotated[int, Field(ge=10)], 1, "greater than or equal to 10"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_but_not_repeated(annotation: Any, value: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=f"^argument 'value' of the task .*{reason}") as caught:
        takes(annotation)(value)
    assert "private" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_call_that_does_not_fit_says_what_python_says() -> None:
    def run(page: Page) -> None: ...

    with pytest.raises(TypeError, match="missing a required argument: 'page'"):
        adapted(run)()


def unresolvable(value: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def note(value: "what to look for") -> None: ...  # type: ignore[valid-type]  # noqa: F722


@pytest.mark.parametrize("function", [unresolvable, note, lambda value: value])
def test_a_task_whose_annotations_mean_nothing_stays_as_it_is(function: Callable[..., Any]) -> None:
    assert adapted(function) is function


def test_a_model_that_is_returned_becomes_json() -> None:
    def run(stamp: datetime) -> Page:
        return Page(number=stamp.day, text=f"{stamp:%B}")

    assert adapted(run)("2026-01-02T00:00:00Z") == {"number": 2, "text": "January"}


def test_a_bound_task_keeps_its_self() -> None:
    class Bound:
        name = "bound"

        def run(self, page: Page) -> list[Any]:
            return [self.name, page.number]

    adapt(Bound)
    bound: Any = Bound()
    assert bound.run({"number": 3}) == ["bound", 3]


def test_adapting_twice_is_adapting_once() -> None:
    class Work:
        def run(self, page: Page) -> int:
            return page.number

    adapt(Work)
    once = Work.run
    adapt(Work)
    assert Work.run is once


def test_a_task_without_a_run_of_its_own_is_left_alone() -> None:
    class Parent:
        def run(self, page: Page) -> None: ...

    class Child(Parent): ...

    adapt(Child)
    assert "run" not in Child.__dict__


def test_the_signature_stays_for_those_who_look() -> None:
    def run(page: Page, n: int = 1) -> Page:
        """Docs."""
        return page

    task = adapted(run)
    assert task.__wrapped__ is run  # type: ignore[attr-defined]
    assert (task.__name__, task.__doc__) == ("run", "Docs.")


@pytest.mark.parametrize(
    ("value", "dumped"),
    [
        (Page(number=1), {"number": 1, "text": ""}),
        ([Page(number=1), 2], [{"number": 1, "text": ""}, 2]),
        ((Page(number=1),), ({"number": 1, "text": ""},)),
        ({"a": {"b": Page(number=1)}}, {"a": {"b": {"number": 1, "text": ""}}}),
        (None, None),
        ("text", "text"),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
    ids=str,
)
def test_models_travel_as_json(value: Any, dumped: Any) -> None:
    assert dump_models(value) == dumped


def test_a_models_own_kinds_travel_as_json_too() -> None:
    class Order(BaseModel):
        when: datetime
        colour: Colour

    order = Order(when=datetime(2026, 1, 1, tzinfo=UTC), colour=Colour.RED)
    assert dump_models([order]) == [{"when": "2026-01-01T00:00:00Z", "colour": "red"}]
