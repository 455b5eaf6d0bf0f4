"""Arguments and results between JSON, which travels, and what a task's signature says."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, uuid
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from aijobs.errors import ConfigurationError
from aijobs.files.keys import extension_of, job_of, new_key, space_of
from aijobs.files.uploaded import UploadedFile, mentions_file
from aijobs.runtime import runtime_of
from aijobs.worker.coroutines import mark, run_coroutine, runs_coroutine

#: Annotations whose values JSON carries as they are.
_PLAIN = (Any, str, int, float, bool, None, type(None), list, dict, object, inspect.Parameter.empty)


def adapt(task_class: type) -> None:
    """Makes a task's `run` take JSON for each parameter annotated with something else, and give JSON for models.

    A task whose annotations are all plain, or cannot be resolved, stays as it is; but a coroutine function becomes a
    plain one that runs the coroutine.

    Raises:
        ConfigurationError: the task is an asynchronous generator.
    """
    run = task_class.__dict__.get("run")
    function = run.__func__ if isinstance(run, staticmethod) else run
    if inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"The task {getattr(task_class, 'name', function.__name__)!r} is an asynchronous generator (`async def` "
            "with `yield`), whose items nobody would take: return a value, and give out what comes before it with "
            "self.emit()."
        )
    if not inspect.isfunction(function) or hasattr(function, "__aijobs_adapted__"):
        return
    adapted = _adapted(function)
    if adapted is None and inspect.iscoroutinefunction(function):
        adapted = runs_coroutine(function)
    if adapted is not None:
        task_class.run = staticmethod(adapted) if isinstance(run, staticmethod) else adapted  # type: ignore[attr-defined]


class FileOwner:
    """Gives the files among a job's arguments to that job, so that they stay as long as its record.

    Args:
        app: of the task.
        job_id: None until it is chosen.
    """

    def __init__(self, app: Celery, job_id: str | None) -> None:
        self.job_id = job_id
        self._runtime = runtime_of(app)

    def own(self, file: UploadedFile) -> UploadedFile:
        """The file as the job has it: stored now when it was not, copied when it is another job's.

        Raises:
            StoreUnavailable: the job store does not answer.
            FileGone: it is another job's, and not there any more.
            OSError: the file store does not work.
        """
        self.job_id = self.job_id or uuid()
        if file.is_stored and job_of(file.key) == self.job_id:
            return file
        store = self._runtime.store
        key = new_key(space_of(store.run(store.secret())), self.job_id, extension_of(file.name))
        return file.stored_as(self._runtime.files, key)


def dump_models(value: Any, owner: FileOwner | None = None) -> Any:
    """Arguments with the pydantic models among them as JSON values.

    Args:
        value: the arguments, or a result.
        owner: of the files among them.
    """
    if isinstance(value, UploadedFile) and owner is not None:
        return owner.own(value).model_dump(mode="json")
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return type(value)(dump_models(item, owner) for item in value) if type(value) in (list, tuple) else value
    if type(value) is dict:
        return {name: dump_models(item, owner) for name, item in value.items()}
    return value


def takes_files(task: Any) -> bool:
    """Whether a task has a parameter for uploaded files."""
    return bool(getattr(task.run, "__aijobs_takes_files__", False))


def _adapted(function: Callable[..., Any]) -> Callable[..., Any] | None:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None
    signature = inspect.signature(function)
    annotated = {
        name: _whole(parameter, hints[name])
        for name, parameter in signature.parameters.items()
        if not _is_plain(hints.get(name))
    }
    adapters = {name: adapter for name, hint in annotated.items() if (adapter := _adapter(hint)) is not None}
    gives_model = not _is_plain(hints.get("return"))
    if not adapters and not gives_model:
        return None

    is_coroutine = inspect.iscoroutinefunction(function)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, adapter in adapters.items():
            if name in bound.arguments:
                bound.arguments[name] = _validate(name, adapter, bound.arguments[name])
        given = function(*bound.args, **bound.kwargs)
        return dump_models(run_coroutine(given) if is_coroutine else given)

    run.__aijobs_adapted__ = True  # type: ignore[attr-defined]
    run.__aijobs_takes_files__ = any(map(mentions_file, adapters.values()))  # type: ignore[attr-defined]
    return mark(run) if is_coroutine else run


def _whole(parameter: inspect.Parameter, hint: Any) -> Any:
    """What a parameter holds: the annotation of `*args` and `**kwargs` is that of each of their values."""
    match parameter.kind:
        case inspect.Parameter.VAR_POSITIONAL:
            return tuple[hint, ...]
        case inspect.Parameter.VAR_KEYWORD:
            return dict[str, hint]
        case _:
            return hint


def _is_plain(annotation: Any) -> bool:
    # An annotation need not be hashable.
    if any(annotation is plain for plain in _PLAIN):
        return True
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, list, dict):
        return all(map(_is_plain, typing.get_args(annotation)))
    return origin is typing.Literal


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None


def _validate(name: str, adapter: TypeAdapter[Any], value: Any) -> Any:
    if not isinstance(value, str | int | float | list | Mapping | tuple | None):
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        # pydantic's own text repeats what was given, which may be private.
        found = "; ".join(one["msg"] for one in error.errors(include_input=False, include_url=False))
        raise TypeError(f"argument {name!r} of the task is not what its annotation says: {found}") from None
