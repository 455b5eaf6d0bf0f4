"""The app under trouble: a task for each way in which jobs behave."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from typing import Any

from celery import Celery, signals

from aijobs import ProgressTask, setup
from tests.chaos.evidence import witnessed

#: The tasks that kill their process have a queue from which only workers take that run tasks in child processes.
_CRASHING = ("crash", "poison", "link", "torn")

app = Celery("chaos", broker=os.environ["CHAOS_URL"], backend=os.environ["CHAOS_URL"])
app.conf.task_routes = {f"tests.chaos.app.{name}": {"queue": "crash"} for name in _CRASHING}
setup(app)


class Interrupted(Exception):
    """What flaky and broken tasks raise."""


@app.task(bind=True)
def quick(self: Any, number: int) -> dict[str, Any]:
    """Does nothing, and is a plain Celery task."""
    with witnessed(self.request) as run:
        return {"value": 2 * number, "token": run.token}


@app.task(base=ProgressTask, bind=True)
def hold(self: Any, seconds: float) -> dict[str, Any]:
    """Works without a word."""
    with witnessed(self.request) as run:
        time.sleep(seconds)
        return {"value": seconds, "token": run.token}


@app.task(base=ProgressTask, bind=True)
def work(self: ProgressTask, steps: int, seconds: float) -> dict[str, Any]:
    """Says at each step how far it is and, in the message, who says so."""
    with witnessed(self.request) as run:
        for step in range(steps):
            self.progress(step, steps, message=run.token)
            time.sleep(seconds)
            run.note("beat")
        return {"value": steps, "token": run.token}


@app.task(base=ProgressTask, bind=True)
def flaky(self: ProgressTask, failures: int, countdown: float) -> dict[str, Any]:
    """Fails so many times before it succeeds."""
    with witnessed(self.request) as run:
        self.progress(self.request.retries, failures, message=run.token)
        if self.request.retries < failures:
            raise self.retry(exc=Interrupted("provider away"), countdown=countdown, max_retries=failures)
        return {"value": failures, "token": run.token}


@app.task(bind=True)
def broken(self: Any) -> None:
    """Fails for good."""
    with witnessed(self.request):
        raise Interrupted("broken input")


@app.task(base=ProgressTask, bind=True)
def crash(self: ProgressTask, how: str, times: int) -> dict[str, Any]:
    """Kills its process in its first runs."""
    with witnessed(self.request) as run:
        self.progress(0, 1, message=run.token)
        if run.count() <= times:
            die(how)
        return {"value": times, "token": run.token}


@app.task(base=ProgressTask, bind=True)
def poison(self: ProgressTask, how: str) -> None:
    """Kills its process whenever it runs."""
    with witnessed(self.request) as run:
        self.progress(0, 1, message=run.token)
        die(how)


@app.task(bind=True, ignore_result=True)
def forget(self: Any, number: int) -> int:
    """Gives a result that nobody wants."""
    with witnessed(self.request):
        return number


@app.task(base=ProgressTask, bind=True)
def link(self: ProgressTask, before: Any) -> dict[str, Any]:
    """One link of a chain."""
    with witnessed(self.request) as run:
        number = before["value"] if isinstance(before, dict) else before
        self.progress(1, 1, message=run.token)
        if self.request.chain and number % 3 == 0 and run.count() == 1:
            # The next link is on its way then, and this one has no end yet.
            die_after_publishing()
        return {"value": number + 1, "token": run.token}


@app.task(base=ProgressTask, bind=True)
def torn(self: ProgressTask, failures: int) -> dict[str, Any]:
    """Retries, but its process dies between the message of the retry and the report of it."""
    with witnessed(self.request) as run:
        self.progress(self.request.retries, failures, message=run.token)
        if self.request.retries < failures:
            if run.count() == 1:
                die_after_publishing()
            raise self.retry(exc=Interrupted("provider away"), countdown=0, max_retries=failures)
        return {"value": failures, "token": run.token}


def die_after_publishing() -> None:
    """Ends this process as soon as it has sent another message."""
    signals.after_task_publish.connect(lambda **_: os._exit(3), weak=False)


def die(how: str) -> None:
    """Ends the process in one of the ways in which processes end."""
    # The core of a process that was meant to crash is of no use.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    match how:
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case _:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
