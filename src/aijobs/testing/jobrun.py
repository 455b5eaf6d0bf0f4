"""`JobRun`: what came of a job that a test ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aijobs.job import EventType, JobError, JobEvent, JobStatus, LogEntry, Output, Progress

#: Of the traceback and of the output, so much is shown in a failure message, characters.
_SHOWN = 2_000
#: Kinds of events that come in crowds: neighbours of one kind count as one in the timeline.
_CROWDS = frozenset({"progress", "output", "log"})


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that the task submitted, and that was not run."""

    job_id: str
    #: The registered name of its task.
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    #: What `submit` was told beside it.
    owner: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class JobRun:
    """A job from its submission to its end, as its record, its stream and its task's author would know it."""

    #: The registered name of the task.
    task: str
    #: What the task saw as `self.request.id`.
    job_id: str
    status: JobStatus
    #: What the task returned, after its way through JSON; None when it did not succeed.
    result: Any
    #: Why the job failed or was revoked; None after success.
    error: JobError | None
    #: The exception that ended the last attempt, itself; None after success, and when nothing was raised.
    exception: BaseException | None
    #: Starts, as `Job.attempt` counts them.
    attempts: int
    #: Seconds told before each further attempt; nobody slept them. After a crash 0.
    waits: Sequence[float]
    #: What a client that follows the job is sent, in order.
    events: Sequence[JobEvent]
    #: What the last attempt gave out.
    output: Output
    #: What was logged, by all attempts.
    logs: Sequence[LogEntry]
    #: All reports of progress, by all attempts.
    progress: Sequence[Progress]
    #: What the job had kept for further attempts when it ended: results of steps by their names, `checkpoint`, and how
    #: far loops were.
    kept: Mapping[str, Any]
    #: Why each attempt ended that did not succeed.
    errors: Sequence[JobError] = ()
    #: What the task submitted, with `delay`, `apply_async` or `submit`.
    submitted: Sequence[Submitted] = ()
    #: Of the last attempt, as text.
    traceback: str | None = field(default=None)

    @property
    def timeline(self) -> list[str]:
        """The events in a word each, such as `["queued", "running", "progress", "output", "success"]`.

        Statuses are by their name. Progress, output and log lines stand once however many there are in a row, since
        workers collect them.
        """
        return timeline(self.events)

    def assert_success(self) -> Any:
        """Checks that the job succeeded, and gives its result.

        Raises:
            AssertionError: it did not; the message tells what happened, the cause is the task's exception.
        """
        # pytest shows the line of the test instead of this one.
        __tracebackhide__ = True
        if self.status is not JobStatus.SUCCESS:
            raise AssertionError(f"The job was to succeed.\n{self.story()}") from self.exception
        return self.result

    def story(self) -> str:
        """What happened, event by event, and the traceback, for people."""
        lines = [str(self), *(f"  {line}" for line in _lines(self.events))]
        if self.traceback:
            lines += ["", self.traceback[-_SHOWN:].rstrip()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        attempts = f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        why = f": {self.error.code}: {self.error.message}" if self.error else ""
        return f"<JobRun of {self.task}: {self.status} after {attempts}{why}>"


def timeline(events: Sequence[JobEvent]) -> list[str]:
    """Events in a word each; see `JobRun.timeline`."""
    words: list[str] = []
    for word in map(_word, events):
        if word not in _CROWDS or words[-1:] != [word]:
            words.append(word)
    return words


def _word(event: JobEvent) -> str:
    if event.type in (EventType.STATUS, EventType.COMPLETED):
        return "cancel_requested" if event.data.get("cancel_requested") else str(event.data["status"])
    return event.type.value.removeprefix("job.")


def _lines(events: Sequence[JobEvent]) -> Iterator[str]:
    for event in events:
        data = {name: value for name, value in event.data.items() if name not in ("seq", "job_id")}
        yield f"{event.seq:>3} {_word(event)} {_shortened(_told(event.type, data))}".rstrip()


def _told(kind: EventType, data: Mapping[str, Any]) -> str:
    if kind is EventType.PROGRESS:
        data = {name: value for name, value in data["progress_detail"].items() if value is not None}
    return ", ".join(f"{name}={value!r}" for name, value in data.items() if name != "status")


def _shortened(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
