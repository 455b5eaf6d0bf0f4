"""`run_job`: a job from its submission to its end in this process, without a broker, a store or a worker."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from celery import Task, uuid
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded

from aijobs.attach import setup
from aijobs.job import EventType, JobError, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.record import rfc3339
from aijobs.store.values import Failure
from aijobs.testing.jobrun import JobRun, Submitted
from aijobs.testing.journal import Journal, MemoryAttempt, WorkerKilled
from aijobs.testing.travel import Baggage, Catcher, travel
from aijobs.testing.troubles import Kind, Trouble, Watched, active_troubles
from aijobs.testing.verdict import End, Message, SeenTrace, cancelled, judged, lost
from aijobs.worker.attempt import Attempt
from aijobs.worker.attempts import lend_attempt
from aijobs.worker.claims import ATTEMPT, TAKES_MESSAGES
from aijobs.worker.exceptions import JobCancelled, JobPoisoned
from aijobs.worker.hooks import handing_all_to

#: A job that has not ended after so many attempts never will.
MOST_ATTEMPTS = 1_000


def run_job(task: Task[Any, Any], /, *args: Any, **kwargs: Any) -> JobRun:
    """Runs a job of a task to its end, here and now.

    Arguments and result travel as JSON, as between processes. Retries come at once; what they were told to wait is
    noted, not slept. No time limit passes. What the task submits is noted, not run.

        with crash_at("embed", item=31):
            run = run_job(embed_all, texts)
        assert run.attempts == 2

    Args:
        task: of an app, which need not have a broker.
        *args: of the task.
        **kwargs: of the task.

    Returns:
        What came of it; a task that fails is no error here.

    Raises:
        TypeError: `task` is no task, or does not take these arguments.
        kombu.exceptions.EncodeError: an argument is nothing that a message can hold.
        AssertionError: the job did not end after a thousand attempts.
    """
    if not isinstance(task, Task):
        raise TypeError(f"run_job() takes a task, as @app.task returns it, not {task!r}.")
    setup(task.app)
    run = partial(_Run(task.app.tasks[task.name], active_troubles()).to_end, args, kwargs)
    if not _in_event_loop():
        return run()
    # A task may want to run an event loop, and in this thread there is one already.
    with ThreadPoolExecutor(1) as helper:
        return helper.submit(contextvars.copy_context().run, run).result()


class _Run:
    """One job.

    Args:
        task: of the job.
        troubles: that may befall it.
    """

    def __init__(self, task: Any, troubles: Sequence[Trouble]) -> None:
        self._task = task
        self._troubles = troubles
        self._settings = runtime_of(task.app).settings
        self._journal = Journal(uuid(), self._settings.checkpoint_bytes)
        self._submitted: list[Submitted] = []
        self._waits: list[float] = []
        self._errors: list[JobError] = []
        self._number = 0
        self._losses = 0

    def to_end(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobRun:
        """Runs attempt after attempt."""
        with Baggage(self._task.app, self._journal.job_id) as baggage:
            message: Message | None = Message(*self._sent(baggage.packed(args), baggage.packed(kwargs)))
            self._journal.add(EventType.STATUS, attempt=0, status=JobStatus.QUEUED.value)
            while message is not None:
                attempt, end = self._carry_out(message)
                message = end.message
                if message is not None:
                    self._waits.append(end.wait)
            return self._told(attempt, end)

    def _sent(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        if self._task.typing:
            self._task.__header__(*args, **kwargs)
        sent_args, sent_kwargs = travel(self._task.app, [args, kwargs])
        return sent_args, sent_kwargs

    def _carry_out(self, message: Message) -> tuple[MemoryAttempt, End]:
        self._begin()
        attempt = MemoryAttempt(self._journal, self._number)
        end = self._judged(attempt, message)
        self._note(end)
        return attempt, end

    def _begin(self) -> None:
        self._number += 1
        if len(self._waits) >= MOST_ATTEMPTS:
            told = self._errors[-1].message if self._errors else "no error"
            raise AssertionError(f"The job did not end after {MOST_ATTEMPTS} attempts; the last one: {told}")
        if self._waits:
            self._journal.add(EventType.ATTEMPT, attempt=self._number)
        self._journal.add(EventType.STATUS, attempt=self._number, status=JobStatus.RUNNING.value)

    def _judged(self, attempt: MemoryAttempt, message: Message) -> End:
        try:
            with handing_all_to(Catcher(self._task.app, self._submitted, lambda: not attempt.dead)):
                traced = self._trace(self._watched(attempt), message)
        except (WorkerKilled, SystemExit):
            return self._lost(message)
        if attempt.dead:
            return self._lost(message)
        end = judged(self._task, traced, message)
        return cancelled(end.exception) if end.message is not None and self._journal.cancelled else end

    def _trace(self, attempt: Attempt, message: Message) -> Any:
        """Has Celery execute the task, with all that belongs to it: handlers, signals, automatic retries."""
        task, app = self._task, self._task.app
        tracer = build_tracer(task.name, task, app.loader, "test", Info=SeenTrace, eager=True, app=app)
        with lend_attempt(attempt):
            return tracer(self._journal.job_id, message.args, message.kwargs, self._request(attempt, message))

    def _request(self, attempt: Attempt, message: Message) -> dict[str, Any]:
        return {
            **message.headers,
            "id": self._journal.job_id,
            "task": self._task.name,
            "root_id": self._journal.job_id,
            "retries": message.retries,
            "headers": dict(message.headers),
            "is_eager": True,
            TAKES_MESSAGES: True,
            "hostname": "test",
            "delivery_info": {"routing_key": "", "redelivered": message.redelivered},
            "ignore_result": self._task.ignore_result,
            "timelimit": [self._task.time_limit, self._task.soft_time_limit],
            ATTEMPT: attempt,
        }

    def _watched(self, attempt: MemoryAttempt) -> Attempt:
        watched: Attempt = attempt
        for trouble in self._troubles:
            watched = Watched(watched, trouble, partial(self._strike, trouble.kind, attempt))
        return watched

    def _strike(self, kind: Kind, attempt: MemoryAttempt) -> None:
        match kind:
            case Kind.CRASH:
                attempt.die()
            case Kind.TIME_OUT:
                raise SoftTimeLimitExceeded
            case Kind.CANCEL:
                self._journal.cancel(attempt.number)
                raise JobCancelled

    def _lost(self, message: Message) -> End:
        self._losses += 1
        poison = JobPoisoned(f"{self._losses} worker processes were lost with this job; it is not run again.")
        return lost(self._task, message, poison if self._losses >= self._settings.max_deliveries else None)

    def _note(self, end: End) -> None:
        """Adds the event of an attempt's end."""
        if end.failure is not None:
            self._errors.append(self._error(end.failure))
        if not end.counts:
            self._number -= 1
        if end.status is None:
            self._journal.add(EventType.STATUS, attempt=self._number, **self._queued(end))
        else:
            error = {"error": {**self._errors[-1].to_dict(), "code": end.failure.code.value}} if end.failure else {}
            told = error or {"result": self._result(end)}
            self._journal.add(EventType.COMPLETED, attempt=self._number, status=end.status.value, **told)

    @staticmethod
    def _queued(end: End) -> dict[str, Any]:
        told: dict[str, Any] = {"status": JobStatus.QUEUED.value}
        if end.wait:
            told["scheduled_at"] = rfc3339(datetime.now(UTC) + timedelta(seconds=end.wait))
        return told if end.failure is None else {**told, "error_code": end.failure.code.value}

    @staticmethod
    def _result(end: End) -> Any:
        return None if end.result_json is None else json.loads(end.result_json)

    def _error(self, failure: Failure) -> JobError:
        retryable = failure.code.retryable if failure.retryable is None else failure.retryable
        return JobError(failure.code, failure.message, retryable, self._number)

    def _told(self, attempt: MemoryAttempt, end: End) -> JobRun:
        journal = self._journal
        return JobRun(
            task=self._task.name,
            job_id=journal.job_id,
            status=end.status or JobStatus.FAILED,
            result=self._result(end),
            error=None if end.failure is None else self._errors[-1],
            exception=end.exception,
            attempts=self._number,
            waits=tuple(self._waits),
            events=tuple(journal.events),
            output=attempt.output,
            logs=tuple(journal.logs),
            progress=tuple(journal.progress),
            kept={_plain(name): json.loads(text) for name, text in journal.kept.items()},
            errors=tuple(self._errors),
            submitted=tuple(self._submitted),
            traceback=None if end.failure is None else end.failure.traceback,
        )


def _plain(name: str) -> str:
    """What a value is kept by, as the task knows it: a step by its name alone."""
    return str(json.loads(name.removeprefix("step:"))) if name.startswith("step:") else name


def _in_event_loop() -> bool:
    return asyncio._get_running_loop() is not None
