"""Which tasks have a route, and what it is called."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, Task

from aijobs.errors import ConfigurationError
from aijobs.http.signature import TaskBody, result_type, task_body
from aijobs.worker.task import ProgressTask

#: `tasks=` of `job_router`: tasks or names, or a mapping of path segments to them.
Tasks = Iterable[Task[..., Any] | str] | Mapping[str, Task[..., Any] | str]

#: Path segments that belong to the API itself.
RESERVED = frozenset({"batches", "dead", "events", "health", "stats", "webhooks"})

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.~-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExposedTask:
    """A task that clients may submit."""

    #: Its place in the path.
    segment: str
    #: Its registered name.
    name: str
    #: Unique among the tasks of a router and fit for identifiers, e.g. `IngestDocuments`.
    title: str
    #: Where it is defined.
    module: str
    body: TaskBody
    #: Annotation of the result.
    result: Any
    #: First line of the docstring.
    summary: str
    #: The rest of it.
    description: str


def expose_tasks(celery_app: Celery, tasks: Tasks | None) -> list[ExposedTask]:
    """The tasks of an app that have a route, in the order of their segments.

    Args:
        celery_app: whose task modules are imported first.
        tasks: exposed beside those whose base is `ProgressTask`; a mapping also sets path segments.

    Raises:
        ConfigurationError: a task is unknown, two want the same path, or a signature is no request body.
    """
    celery_app.loader.import_default_modules()
    celery_app.finalize()
    segments = _segments(celery_app, tasks)
    return [_exposed(celery_app, *pair) for pair in zip(segments, _titles(segments), segments.values(), strict=True)]


def _segments(celery_app: Celery, tasks: Tasks | None) -> dict[str, str]:
    """The registered name of the task at each path segment."""
    chosen = list(_chosen(celery_app, tasks))
    named = {name for _, name in chosen}
    found: dict[str, str] = {}
    for segment, name in [*chosen, *((_last_part(name), name) for name in _progress_tasks(celery_app) - named)]:
        _check_segment(segment, name)
        if found.setdefault(segment, name) != name:
            raise ConfigurationError(
                f"Tasks {found[segment]!r} and {name!r} would both be at the path segment {segment!r}. "
                f"Give one another: job_router(celery_app, tasks={{'other-{segment}': {name!r}}})."
            )
    return dict(sorted(found.items()))


def _chosen(celery_app: Celery, tasks: Tasks | None) -> Iterator[tuple[str, str]]:
    if isinstance(tasks, str):
        raise ConfigurationError(f"job_router(tasks={tasks!r}): give a list of tasks or names, or a mapping.")
    if isinstance(tasks, Mapping):
        yield from ((segment, _registered(celery_app, task)) for segment, task in tasks.items())
    else:
        for task in tasks or ():
            name = _registered(celery_app, task)
            yield _last_part(name), name


def _progress_tasks(celery_app: Celery) -> set[str]:
    return {name for name, task in celery_app.tasks.items() if isinstance(task, ProgressTask) and task.expose}


def _registered(celery_app: Celery, task: Task[..., Any] | str) -> str:
    name = task if isinstance(task, str) else task.name
    if name in celery_app.tasks:
        return str(name)
    close = difflib.get_close_matches(str(name), celery_app.tasks, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else " Is its module among the app's `include`?"
    raise ConfigurationError(f"job_router(tasks=…): the Celery app has no task {name!r}.{hint}")


def _check_segment(segment: str, name: str) -> None:
    if segment in RESERVED:
        problem = f"{segment!r} is a path of the API itself"
    elif not _SEGMENT.fullmatch(segment):
        problem = f"{segment!r} is no path segment (letters, digits and _ . ~ - only)"
    else:
        return
    raise ConfigurationError(
        f"Task {name!r}: {problem}. Choose another: job_router(celery_app, tasks={{'my-task': {name!r}}})."
    )


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def _titles(segments: Iterable[str]) -> list[str]:
    """Names for models, made from the segments: the same at each start, and none twice."""
    found: list[str] = []
    for segment in segments:
        title = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", segment)) or "Task"
        found.append(title if title not in found else f"{title}{len(found)}")
    return found


def _exposed(celery_app: Celery, segment: str, title: str, name: str) -> ExposedTask:
    task = celery_app.tasks[name]
    summary, description = _docstring(task)
    return ExposedTask(
        segment,
        name,
        title,
        task.run.__module__,
        task_body(f"{title}Request", name, task.run),
        result_type(task.run),
        summary or f"Submit {segment}",
        description,
    )


def _docstring(task: Task[..., Any]) -> tuple[str, str]:
    # Not inherited ones: those speak of Celery's task class.
    text = type(task).__doc__ or task.run.__doc__ or ""
    summary, _, rest = inspect.cleandoc(text).partition("\n")
    return summary.strip().rstrip("."), rest.strip()
