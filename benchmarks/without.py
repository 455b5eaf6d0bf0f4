"""Takes one part of aijobs away from an app that is measured; nothing but benchmarks has a use for that."""

from __future__ import annotations

from typing import Any

from celery import Celery

from aijobs import setup
from aijobs.worker import steps
from aijobs.worker.defaults import add_defaults
from aijobs.worker.pulse import Pulse
from aijobs.worker.reconcile import Reconciler
from benchmarks.harness import Part


def setup_without(app: Celery, part: Part) -> None:
    """Does what `aijobs.setup` does, but for one part."""
    if part is Part.RECORD:
        add_defaults(app)
        return
    match part:
        case Part.LEASES:
            app.conf.broker_transport = "redis"
        case Part.REJECTS:
            app.conf.task_reject_on_worker_lost = False
        case Part.THREADS:
            _do_nothing(Pulse, "_run")
            _do_nothing(Reconciler, "_run")
        case Part.INTERRUPTS:
            _do_nothing(steps, "make_interruptible")
    setup(app)


def _do_nothing(owner: Any, name: str) -> None:
    setattr(owner, name, lambda *_: None)
