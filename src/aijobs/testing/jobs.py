"""`Jobs`: submits jobs to real workers, waits for them, and looks at what they left in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, Task

from aijobs.attach import setup
from aijobs.job import Job, JobEvent, JobStatus, Output
from aijobs.store.base import JobStore
from aijobs.submission import submit

#: How long to wait for what a test wants to see, unless it says otherwise, seconds.
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_SHOWN_EVENTS = 10


class Jobs:
    """The jobs of an app, for tests.

    Args:
        app: whose store is used, as this process knows it.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app

    @property
    def store(self) -> JobStore:
        """Where the records are."""
        return setup(self.app).store

    def submit(self, task: Task[Any, Any], /, *args: Any, **kwargs: Any) -> str:
        """Submits a job and gives its id; `aijobs.submit` does so with an owner, a queue and more."""
        return submit(self.app.tasks[task.name], args, kwargs).id

    def run(self, task: Task[Any, Any], /, *args: Any, **kwargs: Any) -> Job:
        """Submits a job and waits for its end.

        Raises:
            AssertionError: it does not come within a minute; the message says how far the job is.
        """
        return self.wait_for(self.submit(task, *args, **kwargs))

    def wait_for(
        self,
        job: Any,
        until: JobStatus | str | Callable[[Job], object] | None = None,
        *,
        timeout_seconds: float = PATIENCE_SECONDS,
    ) -> Job:
        """Waits for a job.

        Args:
            job: its id; also a `Job`, or what `delay` returned.
            until: a status, or a function of the record; by default the job's end.
            timeout_seconds: how long.

        Returns:
            The record, as soon as it is so.

        Raises:
            AssertionError: it is not so in time, or the job ended without it; the message has the record, the newest
                events, and what the workers of this test wrote last.
        """
        reached, what = _condition(until)
        deadline = time.monotonic() + timeout_seconds
        while not reached(record := self.job(job)):
            if record.finished:
                raise AssertionError(f"The job ended without {what}.\n{self._clues(record)}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{timeout_seconds:g} s passed without {what}.\n{self._clues(record)}")
            time.sleep(_LOOK_SECONDS)
        return record

    def job(self, job: Any) -> Job:
        """The record.

        Raises:
            AssertionError: there is none.
        """
        found = self.store.run(self.store.get(_id(job)))
        if found is None:
            raise AssertionError(f"{self.store.url} has no record of the job {_id(job)}.")
        return found

    def events(self, job: Any) -> Sequence[JobEvent]:
        """The events that are kept of a job, oldest first."""
        return self.store.run(self.store.events(_id(job), limit=100_000, most_bytes=1 << 30))

    def output(self, job: Any) -> Output:
        """What the newest attempt of a job has given out.

        Raises:
            AssertionError: the job has no record.
        """
        found = self.store.run(self.store.output(_id(job)))
        if found is None:
            raise AssertionError(f"{self.store.url} has no record of the job {_id(job)}.")
        return found[1] or Output(found[0].attempt)

    def _clues(self, record: Job) -> str:
        newest = self.events(record)[-_SHOWN_EVENTS:]
        told = [f"  {event.seq} {event.type} {dict(event.data)}" for event in newest]
        error = f", {record.error.code}: {record.error.message}" if record.error else ""
        head = f"{record.task} {record.id}: {record.status}, attempt {record.attempt}{error}. Its newest events:"
        return "\n".join([head, *told])


def _condition(until: JobStatus | str | Callable[[Job], object] | None) -> tuple[Callable[[Job], object], str]:
    if until is None:
        return lambda job: job.finished, "the job's end"
    if callable(until):
        return until, f"what {getattr(until, '__name__', repr(until))} wants"
    status = JobStatus(until)
    return lambda job: job.status is status, f"the status {status}"


def _id(job: Any) -> str:
    return str(getattr(job, "id", job))
