"""What the team's Celery app says of itself, learned in a process of its own: an import cannot be undone.

    python -m aijobs.compose.inspection '{"app": …, "api": …}'

The answer, one line of JSON on standard output, has the fields of `Facts`, or `problem`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aijobs.errors import ConfigurationError

#: How long the team's modules may take to be imported, seconds.
IMPORT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that jobs go to."""

    name: str
    #: The names of the tasks that go there, as far as the app says.
    tasks: tuple[str, ...] = ()
    #: The longest time limit among them, seconds; None where one has none.
    time_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Celery app says of itself."""

    #: The default queue first.
    queues: tuple[Queue, ...]
    #: Whether there are periodic tasks.
    has_schedule: bool = False
    #: What `beat_scheduler` names.
    scheduler: str = ""
    #: How long a worker that stops lets its jobs run on, seconds; 0 is as long as they take.
    soft_shutdown_seconds: float = 5.0

    @property
    def has_lock(self) -> bool:
        """Whether several schedulers can run at a time, since only the one with the lock does anything."""
        return "redbeat" in self.scheduler.lower()

    @property
    def longest_seconds(self) -> float | None:
        """The longest time limit of any task; None where one has none."""
        limits = [queue.time_limit for queue in self.queues if queue.tasks]
        return None if None in limits else max((one for one in limits if one), default=None)


def inspect(app: str, api: str | None, root: Path) -> Facts:
    """Looks into an app.

    Args:
        app: `module:attribute` of the Celery app.
        api: the same for the API, which is imported to see that it is there.
        root: the folder that the modules are imported from.

    Raises:
        ConfigurationError: the modules cannot be imported, or are not what they should be; the message says why.
    """
    command = [sys.executable, "-m", __name__, json.dumps({"app": app, "api": api})]
    try:
        done = subprocess.run(
            command, cwd=root, stdout=subprocess.PIPE, check=False, timeout=IMPORT_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"Importing {app} takes longer than {IMPORT_SECONDS:g} s. Does a module do its work when it is imported?"
        ) from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise ConfigurationError(f"Importing {app} ended the interpreter (status {done.returncode}).") from None
    if "problem" in answer:
        raise ConfigurationError(answer["problem"])
    return Facts(**answer | {"queues": tuple(_queue(one) for one in answer["queues"])})


def _queue(told: Mapping[str, Any]) -> Queue:
    return Queue(told["name"], tuple(told["tasks"]), told["time_limit"])


def main() -> None:
    """Answers one question, which is the first argument."""
    # What the team's modules print must not get into the answer.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        try:
            found = asdict(examine(**json.loads(sys.argv[1])))
        except ConfigurationError as error:
            found = {"problem": str(error)}
        print(json.dumps(found), file=answer)


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
    if api:
        resolve(api, ASGI_APP)
    return facts


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
    main()
