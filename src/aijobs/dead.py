"""Dead letters: failed jobs, to be read, run again or thrown away.

A dead letter is nothing but the record of a failed job. It is kept for `AIJOBS_FAILED_RETENTION_SECONDS`, with its
reason, its arguments, and how earlier runs of it ended.

Each `…_async` is the same for an event loop, and takes the runtime that `setup()` returns.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from celery import Celery

from aijobs._deadsearch import ALL, DeadLetterFilter, Search
from aijobs._procedure import Blocking, Procedure, run, run_async
from aijobs.attach import setup
from aijobs.errors import ArgumentsGone, JobNotFound, NotReplayable, PublishFailed, StoreUnavailable
from aijobs.job import Job, JobStatus
from aijobs.runtime import Runtime
from aijobs.submission import rerun
from aijobs.worker.messages import later_steps

__all__ = [
    "ALL",
    "DeadLetterFilter",
    "ReplayReport",
    "dead_letters",
    "dead_letters_async",
    "purge",
    "purge_async",
    "replay",
    "replay_all",
    "replay_all_async",
    "replay_async",
]

logger = logging.getLogger(__name__)

_LATE = StoreUnavailable("Celery's result backend did not answer in time.")
_STILLBORN = "the job that submitted it was cancelled, with all that it submits"
_REPLAYABLE = frozenset({JobStatus.FAILED, JobStatus.REVOKED})


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the dead letters that matched."""

    matched: int = 0
    #: Sent again, or fit for it when nothing was to be done.
    replayed: int = 0
    #: Why the others were not, by id.
    refused: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: ReplayReport) -> ReplayReport:
        refused = {**self.refused, **other.refused}
        return ReplayReport(self.matched + other.matched, self.replayed + other.replayed, refused)


def dead_letters(app: Celery, where: DeadLetterFilter = ALL, limit: int | None = None) -> Iterator[Job]:
    """Gives the dead letters, those submitted last first; they are fetched as they are asked for.

    Args:
        app: the jobs' Celery app.
        where: which ones.
        limit: how many at most; None is all.

    Raises:
        StoreUnavailable: the job store does not answer.
    """
    store = setup(app).store
    search = Search(store, where, limit)
    while search.goes_on:
        yield from run(store, search.page())


async def dead_letters_async(
    runtime: Runtime, where: DeadLetterFilter = ALL, limit: int | None = None
) -> AsyncIterator[Job]:
    """As `dead_letters`."""
    search = Search(runtime.store, where, limit)
    while search.goes_on:
        for job in await run_async(runtime.store, search.page()):
            yield job


def replay(app: Celery, job_id: str, *, dry_run: bool = False) -> Job:
    """Runs a failed or revoked job again: a new run under the same id, with its arguments and options.

    Attempts, retries and lost deliveries are counted from 0 again, and the job is due at once and does not expire. What
    its attempts kept is there, so a task that keeps something goes on where it was.
    Its events go on counting, `Job.history` keeps how the runs before ended, and its AsyncResult is pending until
    the new run ends. Whether a worker knows the task shows when one takes the job: the caller's app need not know it.

    Args:
        app: the job's Celery app.
        job_id: of the job.
        dry_run: only look whether it can be done.

    Returns:
        The job as it is now.

    Raises:
        JobNotFound: no record has this id.
        NotReplayable: the job is not over, or succeeded, or was submitted by a job that was cancelled with all that it
            submits.
        ArgumentsGone: its record did not keep its arguments.
        StoreUnavailable: the job store does not answer; nothing was sent.
        PublishFailed: the broker did not take the message; the record says so.
    """
    runtime = setup(app)
    return run(runtime.store, _replay(runtime, job_id, dry_run))


async def replay_async(runtime: Runtime, job_id: str, *, dry_run: bool = False) -> Job:
    """As `replay`."""
    return await run_async(runtime.store, _replay(runtime, job_id, dry_run))


def replay_all(
    app: Celery, where: DeadLetterFilter = ALL, *, dry_run: bool = False, limit: int | None = None
) -> ReplayReport:
    """Runs dead letters again, each as `replay` does, and each once, even if it fails again meanwhile.

    Args:
        app: the jobs' Celery app.
        where: which ones.
        dry_run: only count.
        limit: how many at most, those submitted last first; None is all.

    Raises:
        StoreUnavailable: the job store does not answer; what was replayed before that runs, and a second call takes
            the rest.
        PublishFailed: the broker did not take a message; as above, and that job's record says so.
    """
    runtime = setup(app)
    return run(runtime.store, _replay_all(runtime, where, dry_run, limit))


async def replay_all_async(
    runtime: Runtime, where: DeadLetterFilter = ALL, *, dry_run: bool = False, limit: int | None = None
) -> ReplayReport:
    """As `replay_all`."""
    return await run_async(runtime.store, _replay_all(runtime, where, dry_run, limit))


def purge(app: Celery, where: DeadLetterFilter = ALL, *, dry_run: bool = False, limit: int | None = None) -> int:
    """Removes dead letters for good: their records with arguments and events, and Celery's results of them.

    Args:
        app: the jobs' Celery app.
        where: which ones.
        dry_run: only count.
        limit: how many at most, those submitted last first; None is all.

    Returns:
        How many were removed.

    Raises:
        StoreUnavailable: the job store does not answer; some may have been removed.
    """
    runtime = setup(app)
    return run(runtime.store, _purge(runtime, where, dry_run, limit))


async def purge_async(
    runtime: Runtime, where: DeadLetterFilter = ALL, *, dry_run: bool = False, limit: int | None = None
) -> int:
    """As `purge`."""
    return await run_async(runtime.store, _purge(runtime, where, dry_run, limit))


def _replay(runtime: Runtime, job_id: str, dry_run: bool) -> Procedure[Job]:
    job = yield runtime.store.get(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return (yield from _replay_found(runtime, job, dry_run))


def _replay_found(runtime: Runtime, job: Job, dry_run: bool) -> Procedure[Job]:
    if job.status not in _REPLAYABLE:
        raise NotReplayable(job.id, f"only a failed or revoked job can, and its status is {job.status}")
    if job.arguments_json is None:
        raise ArgumentsGone(job.id)
    if dry_run:
        return job
    again: Job = yield Blocking(partial(_send, runtime, job), PublishFailed(job.id, "no answer in time"))
    if again.finished:
        raise NotReplayable(job.id, _STILLBORN if again.status is JobStatus.REVOKED else "it ran again meanwhile")
    return again


def _replay_all(runtime: Runtime, where: DeadLetterFilter, dry_run: bool, limit: int | None) -> Procedure[ReplayReport]:
    search = Search(runtime.store, where, limit)
    report = ReplayReport()
    while search.goes_on:
        report += yield from replay_page(runtime, search, dry_run=dry_run)
    return report


def replay_page(runtime: Runtime, search: Search, *, dry_run: bool) -> Procedure[ReplayReport]:
    """The part of `replay_all` that is done with a search's next page."""
    matched, refused = 0, {}
    for job in (yield from search.page()):
        matched += 1
        try:
            if dry_run or (yield from _is_unchanged(runtime, job)):
                yield from _replay_found(runtime, job, dry_run)
            else:
                refused[job.id] = f"Job {job.id!r} changed meanwhile."
        except NotReplayable as error:
            refused[job.id] = str(error)
    return ReplayReport(matched, matched - len(refused), refused)


def _purge(runtime: Runtime, where: DeadLetterFilter, dry_run: bool, limit: int | None) -> Procedure[int]:
    search = Search(runtime.store, where, limit)
    purged = 0
    while search.goes_on:
        purged += yield from purge_page(runtime, search, dry_run=dry_run)
    return purged


def purge_page(runtime: Runtime, search: Search, *, dry_run: bool) -> Procedure[int]:
    """The part of `purge` that is done with a search's next page."""
    purged = 0
    for job in (yield from search.page()):
        if dry_run:
            purged += 1
        elif (yield from _is_unchanged(runtime, job)) and (yield runtime.store.delete(job.id)):
            purged += 1
            yield Blocking(partial(_forget_result, runtime, job.id), _LATE)
    return purged


def _is_unchanged(runtime: Runtime, job: Job) -> Procedure[bool]:
    """Whether a job is still as its page has it; a page may be old when its last job has its turn."""
    now: Job | None = yield runtime.store.get(job.id)
    return now is not None and now.rev == job.rev


def _send(runtime: Runtime, job: Job) -> Job:
    # Afterwards it might be the result of the new run. What follows it in its chain was given its failure for a result.
    for job_id in (job.id, *later_steps(job)):
        _forget_result(runtime, job_id)
    return rerun(runtime, job)


def _forget_result(runtime: Runtime, job_id: str) -> None:
    try:
        runtime.app.backend.forget(job_id)
    except NotImplementedError:
        # A backend without results.
        return
    except Exception as error:  # noqa: BLE001 - each backend has errors of its own
        logger.warning("Celery's result of job %s stays until it expires: %s", job_id, type(error).__name__)
