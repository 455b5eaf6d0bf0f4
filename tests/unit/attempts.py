"""Attempts of a job that are carried out in the test's own process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery import Celery

from aijobs import EventType, Progress, ProgressTask
from aijobs.runtime import runtime_of
from aijobs.store.base import JobStore
from aijobs.store.values import Return
from aijobs.worker.attempts import WorkerAttempt, attempt_of_helper, close_attempt
from aijobs.worker.claims import TOKEN
from tests.helpers import claim, new_job


@dataclass
class Attempts:
    """A job whose attempts are carried out in this process, one after the other."""

    task: Any
    store: JobStore
    new: Any = field(default_factory=lambda: new_job(task="embed"))
    attempts: int = 0
    token: str = ""

    def begin(self) -> Any:
        """The next attempt's `self`; the one before is over, as after a crash."""
        self.end()
        self.attempts += 1
        self.token = f"attempt {self.attempts}"
        self.store.run(self.store.requeue(claim(self.new, f"attempt {self.attempts - 1}"), None, why=Return.LOST))
        self.store.run(self.store.start(claim(self.new, self.token)))
        self.task.push_request(id=self.new.id, task="embed", **{TOKEN: self.token})
        self.task.open_attempt()
        return self.task

    def end(self) -> None:
        if self.attempts:
            self.task.pop_request()
            close_attempt(self.token)

    def logged(self) -> list[str]:
        attempt = attempt_of_helper()
        assert isinstance(attempt, WorkerAttempt)
        attempt.reporter.flush()
        events = self.store.run(self.store.events(self.new.id, limit=1_000))
        return [event.data["message"] for event in events if event.type is EventType.LOG]


@pytest.fixture
def task(redis_url: str) -> Any:
    app = Celery("tasks", broker=redis_url, backend=redis_url, set_as_current=False)
    runtime_of(app).settings = runtime_of(app).settings.model_copy(
        update={"store_timeout_seconds": 10, "checkpoint_bytes": 2_000}
    )

    @app.task(base=ProgressTask, bind=True, shared=False, name="embed")
    def embed(self: Any) -> None: ...

    app.finalize()
    return app.tasks["embed"]


@pytest.fixture
def job(task: Any) -> Iterator[Attempts]:
    store = runtime_of(task.app).store
    running = Attempts(task, store)
    store.run(store.create(running.new))
    yield running
    running.end()


def latest() -> Progress:
    attempt = attempt_of_helper()
    assert attempt is not None
    return attempt.latest
