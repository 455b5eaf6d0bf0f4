"""Looks into the team's app, in a process of its own: an import cannot be undone.

    python -m aijobs.compose.probe '{"app": …, "api": …}'

The answer, one line of JSON on standard output, has the fields of `Facts`, or `problem`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aijobs.compose.inspection import Facts, Queue
from aijobs.errors import ConfigurationError

#: How the paths end by which job routes are known.
_HEALTH, _JOB = "/health", "/{job_id}"


def examine(app: str, api: str | None) -> Facts:
    """Imports the modules, here and now, and reads the app's configuration.

    Raises:
        ConfigurationError: as `inspect`.
    """
    from aijobs._targets import ASGI_APP, CELERY_APP, describe, resolve

    sys.path.insert(0, str(Path.cwd()))
    _, celery_app = resolve(app, CELERY_APP)
    try:
        facts = _facts(app, celery_app)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"The configuration of {app} cannot be read: {describe(error)}") from error
    if api is None:
        return facts
    _, asgi = resolve(api, ASGI_APP)
    try:
        return replace(facts, health_path=_health_path(asgi))
    except Exception as error:
        raise ConfigurationError(f"The routes of {api} cannot be listed: {describe(error)}") from error


def _health_path(asgi: Any) -> str | None:
    """Where the job routes say how they are, as far as the API documents it."""
    if not hasattr(asgi, "openapi"):
        return None
    paths = asgi.openapi()["paths"]
    # A path with parameters cannot be asked without knowing some.
    prefixes = (path.removesuffix(_HEALTH) for path in paths if path.endswith(_HEALTH) and "{" not in path)
    return next((f"{prefix}{_HEALTH}" for prefix in prefixes if f"{prefix}{_JOB}" in paths), None)


def _facts(name: str, app: Any) -> Facts:
    app.loader.import_default_modules()
    app.finalize(auto=True)
    _require_aijobs(name, app)
    conf = app.conf
    return Facts(
        tuple(_queues(app)),
        bool(conf.beat_schedule),
        str(conf.beat_scheduler or ""),
        float(conf.worker_soft_shutdown_timeout or 0),
    )


def _require_aijobs(name: str, app: Any) -> None:
    from aijobs.worker.steps import JobsStep

    # The API, which a worker never imports, may attach it; so this is asked before the API is imported.
    if JobsStep not in app.steps["worker"]:
        raise ConfigurationError(
            f"aijobs is not attached to {name}, so its workers would report to no record: give a task the base "
            "ProgressTask, or call aijobs.setup(app) where the app is made."
        )


def _queues(app: Any) -> Iterable[Queue]:
    from aijobs.worker.claims import is_job

    default = str(app.conf.task_default_queue)
    found: dict[str, list[Any]] = {default: []}
    for task in sorted((task for task in app.tasks.values() if is_job(task.name)), key=lambda one: str(one.name)):
        found.setdefault(_queue_of(app, task), []).append(task)
    for declared in app.conf.task_queues or ():
        found.setdefault(str(getattr(declared, "name", declared)), [])
    return [Queue(name, tuple(task.name for task in tasks), _longest(tasks)) for name, tasks in found.items()]


def _queue_of(app: Any, task: Any) -> str:
    route = app.amqp.router.route({"queue": getattr(task, "queue", None)}, task.name)
    queue = route.get("queue")
    return str(getattr(queue, "name", queue) or app.conf.task_default_queue)


def _longest(tasks: Iterable[Any]) -> float | None:
    limits = [task.time_limit or task.app.conf.task_time_limit for task in tasks]
    return None if None in limits else max(limits, default=None)


if __name__ == "__main__":
    from aijobs._targets import answer

    answer(examine)
