"""What is raised inside a task, or in its place, when its job does not go its usual way."""

from __future__ import annotations

from typing import TypeVar

from celery.exceptions import Ignore

E = TypeVar("E", bound=BaseException)


class JobCancelled(Ignore):
    """Raised inside a task, at a progress call, once somebody asked for its job to be cancelled.

    Let it pass: `finally` blocks run, the job ends as `revoked`. It is one of Celery's task predicates, so
    `autoretry_for=(Exception,)` does not take it for a failure.
    """


class LeaseLost(Ignore):
    """Raised inside a task, at a progress call, when its job is no longer its own.

    The worker was silent for longer than its lease, stopped or cut off from the server, and the job was given to
    another, or ended. Let it pass: whatever this attempt still reports is refused.
    """


class StartRefused(Ignore):
    """Stops a task before it runs: its job is over already, or runs elsewhere."""


class JobPoisoned(Exception):
    """A job took down one worker process after another, and is given up."""


class JobOutOfMemory(RuntimeError):
    """A task ran out of memory. Stands in for `MemoryError`, for which Celery would end the whole worker."""


class TaskAborted(RuntimeError):
    """A task raised what would have ended more than itself, or cancelled its own coroutine."""


def behind(error: BaseException | None, kinds: tuple[type[E], ...]) -> E | None:
    """The first of some kinds among an exception and those that it comes from; libraries wrap what they do not know."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error
