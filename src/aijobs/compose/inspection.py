"""What the team's app says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aijobs._vitals import HEALTH_PATH
from aijobs.errors import ConfigurationError

#: How long the team's modules may take to be imported, seconds.
IMPORT_SECONDS = 120.0

#: The module that looks, in a process of its own, since an import cannot be undone.
_PROBE = "aijobs.compose.probe"


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
    #: The path of the API's route for its health; None where there is none.
    health_path: str | None = HEALTH_PATH

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
    command = [sys.executable, "-m", _PROBE, json.dumps({"app": app, "api": api})]
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
