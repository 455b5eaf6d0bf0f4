"""The items of a batch, each read by the rules of its task and refused on its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from aijobs.batches import CUSTOM_ID, BatchItem
from aijobs.http.envelope import Metadata
from aijobs.http.exposure import ExposedTask
from aijobs.http.problems import (
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    MOST_ERRORS,
    TASK_NOT_FOUND,
    Problem,
    ProblemType,
    validation_problem,
)
from aijobs.http.submissions import canonical

#: So many items are read before the event loop has its turn.
AT_ONCE = 20
#: An item with more faults than this is not taken apart.
MOST_FAULTS = 10

_CUSTOM_ID = re.compile(r"^[!-~]{1,64}$", re.ASCII)

CustomId = Annotated[
    str,
    StringConstraints(pattern=_CUSTOM_ID.pattern),
    Field(description="What you call it, unique in the batch: visible ASCII characters.", examples=["chapter-1"]),
]


def _without_custom_id(metadata: Mapping[str, str]) -> Mapping[str, str]:
    if CUSTOM_ID in metadata:
        raise PydanticCustomError("reserved_name", "The name custom_id is taken: the item's own is kept there")
    return metadata


#: One place less than a job has: `custom_id` is kept there as well.
ItemMetadata = Annotated[Metadata, Field(max_length=15), AfterValidator(_without_custom_id)]


class _Item(BaseModel):
    """What all items have in common."""

    model_config = ConfigDict(extra="forbid")

    custom_id: CustomId
    task: str
    input: Any = None
    metadata: ItemMetadata = {}


_ITEM = TypeAdapter(_Item)


@dataclass(frozen=True, slots=True)
class ReadItem:
    """An item that was accepted or refused."""

    #: Whenever it was one at all.
    custom_id: str | None
    #: The job to be, when it was accepted.
    job: BatchItem | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ReadItems:
    """The items of one request, in their order."""

    items: Sequence[ReadItem]
    #: The same for the same content.
    digest: bytes

    def content(self, metadata: Mapping[str, str]) -> bytes:
        """What makes a repeated request the same, with the metadata of the batch."""
        return _text(metadata) + self.digest

    @property
    def jobs(self) -> Sequence[BatchItem]:
        """The jobs of those that were accepted."""
        return [one.job for one in self.items if one.job is not None]

    def refusal(self) -> Problem:
        """The problem of a batch of which nothing was accepted: the faults of all items."""
        problems = [one.problem for one in self.items if one.problem is not None]
        faults = [fault for problem in problems for fault in problem.members["errors"]]
        detail = f"None of the {len(problems)} items was accepted. {problems[0].detail}"
        return Problem(INVALID_REQUEST, detail, members={"errors": faults[:MOST_ERRORS]})


@dataclass(frozen=True, slots=True)
class _Place:
    """An item and where it is in the body."""

    position: int
    item: Any

    def checked(self, type_: TypeAdapter[Any], value: Any, *path: str) -> Any:
        """A value of the item as its type has it.

        Raises:
            Problem: it does not fit.
        """
        try:
            # As FastAPI validates the body of a single job.
            return type_.validate_python(value, from_attributes=True)
        except ValidationError as error:
            if error.error_count() > MOST_FAULTS:
                raise self.problem(path, f"There are more than {MOST_FAULTS} faults", "too_many_faults") from None
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise self._problem([{**one, "loc": (*path, *one["loc"])} for one in faults]) from None

    def problem(self, path: Sequence[str], text: str, fault: str, kind: ProblemType = INVALID_REQUEST) -> Problem:
        """The problem of one fault."""
        found = self._problem([{"loc": tuple(path), "msg": text, "type": fault}])
        return Problem(kind, str(found.detail), members=found.members)

    def _problem(self, faults: Sequence[Mapping[str, Any]]) -> Problem:
        located = [{**one, "loc": ("body", "items", self.position, *one["loc"])} for one in faults]
        return validation_problem(located, {"items": {self.position: self.item}})


class ItemReader:
    """Reads items.

    Args:
        tasks: that have a route.
        max_input_bytes: what an input may have at most, as the body of a single job.
    """

    def __init__(self, tasks: Sequence[ExposedTask], max_input_bytes: int) -> None:
        self._tasks = by_name(tasks)
        self._inputs = {task.name: TypeAdapter(task.body.model) for task in tasks if not task.body.files}
        self._max_input_bytes = max_input_bytes

    async def read(self, given: Sequence[Any]) -> ReadItems:
        """Reads all items of a request; the event loop has its turn in between."""
        found: list[ReadItem] = []
        known: set[str | None] = set()
        digest = hashlib.sha256()
        for position, item in enumerate(given):
            one, content = self._read(_Place(position, item), known)
            found.append(one)
            digest.update(b"%d\n%b" % (len(content), content))
            if position % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        return ReadItems(found, digest.digest())

    def _read(self, place: _Place, known: set[str | None]) -> tuple[ReadItem, bytes]:
        """An item, and what of it has to be the same when the request is repeated."""
        custom_id = _custom_id(place.item)
        is_repeated = custom_id in known
        known.add(custom_id)
        try:
            item: _Item = place.checked(_ITEM, place.item)
            if is_repeated:
                raise place.problem([CUSTOM_ID], "Another item of this batch has the same", "duplicate")
            job, content = self._job(place, item)
        except Problem as problem:
            return ReadItem(custom_id, problem=problem), _text(place.item)
        return ReadItem(custom_id, job), content

    def _job(self, place: _Place, item: _Item) -> tuple[BatchItem, bytes]:
        task = self._task(place, item.task)
        args, kwargs = task.body.arguments(self._input(place, task, item))
        try:
            arguments = canonical(args, kwargs)
        except Problem as problem:
            raise place.problem(["input"], str(problem.detail), "out_of_range") from None
        if len(arguments) > self._max_input_bytes:
            text = f"The input may have {self._max_input_bytes} bytes at most"
            raise place.problem(["input"], text, "too_large", BODY_TOO_LARGE)
        job = BatchItem(item.custom_id, task.name, args, kwargs, item.metadata)
        return job, _text([item.custom_id, task.name, item.metadata]) + arguments

    def _task(self, place: _Place, name: str) -> ExposedTask:
        task = self._tasks.get(name)
        if task is None:
            raise place.problem(["task"], "No task of this name is offered here", "unknown_task", TASK_NOT_FOUND)
        if task.body.files:
            text = f"This task takes files, which a batch cannot carry: send them with POST to {task.segment}"
            raise place.problem(["task"], text, "takes_files")
        return task

    def _input(self, place: _Place, task: ExposedTask, item: _Item) -> BaseModel | None:
        if "input" not in item.model_fields_set:
            if task.body.required:
                raise place.problem(["input"], "Field required", "missing")
            return None
        if item.input is None:
            raise place.problem(["input"], "The input must not be null", "null")
        found: BaseModel = place.checked(self._inputs[task.name], item.input, "input")
        return found


def by_name(tasks: Iterable[ExposedTask]) -> dict[str, ExposedTask]:
    """Tasks by what an item may call them: the path segment, or the name where that is no other's segment."""
    listed = list(tasks)
    return {task.name: task for task in listed} | {task.segment: task for task in listed}


def _custom_id(item: Any) -> str | None:
    given = item.get(CUSTOM_ID) if isinstance(item, dict) else None
    return given if isinstance(given, str) and _CUSTOM_ID.fullmatch(given) else None


def _text(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
