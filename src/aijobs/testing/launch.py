"""A Celery worker for a test: says when it takes jobs, and kills itself where it is told.

    python -m aijobs.testing.launch ORDERS CELERY-ARGUMENTS…

`ORDERS` is JSON with `ready`, a path to touch, and `crash`, which is null or as `workers.py` writes it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from celery import signals
from typing_extensions import override

from aijobs.testing.troubles import Kind, Point, Trouble, Watched
from aijobs.worker.claims import ATTEMPT


def main() -> None:
    """Runs the worker until it is stopped."""
    from celery.__main__ import main as run_celery

    orders = json.loads(sys.argv[1])
    announce, watch = partial(_announce, Path(orders["ready"])), partial(_watch, orders["crash"])
    signals.worker_ready.connect(announce, weak=False)
    if orders["crash"]:
        # The app's own receivers come first, and open the attempt.
        signals.worker_init.connect(watch, weak=False)
    sys.argv = ["celery", *sys.argv[2:]]
    run_celery()


class _RememberedTrouble(Trouble):
    """What happens so often, whichever process it happens to, and also after a restart."""

    marks: Path

    @override
    def happens(self) -> bool:
        for number in range(self.times):
            try:
                (self.marks / f"crash-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def _announce(ready: Path, **_: Any) -> None:
    ready.touch()


def _watch(crash: Mapping[str, Any], **_: Any) -> None:
    trouble = _RememberedTrouble(Kind.CRASH, Point(**crash["point"]), crash["times"])
    trouble.marks = Path(crash["marks"])
    signals.task_prerun.connect(partial(_watch_attempt, trouble), weak=False)


def _watch_attempt(trouble: Trouble, task: Any = None, **_: Any) -> None:
    attempt = getattr(task.request, ATTEMPT, None)
    if attempt is not None:
        setattr(task.request, ATTEMPT, Watched(attempt, trouble, _kill_worker))


def _kill_worker() -> None:
    # The group is the worker with its pool, and nothing else: see `aijobs._process`.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
