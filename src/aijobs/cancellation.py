"""Cancelling jobs."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery, states
from celery.exceptions import TaskRevokedError

from aijobs._procedure import Procedure, run, run_async
from aijobs.attach import setup
from aijobs.errors import JobNotFound
from aijobs.runtime import Runtime
from aijobs.store.base import Operation
from aijobs.store.values import Change, ResultWrite
from aijobs.worker.backend import JobBackendMixin


def cancel(app: Celery, job_id: str, *, children: bool = False) -> Change:
    """Cancels a job: a queued one is revoked at once, a running one is told to stop and does so within a second or so.

    Args:
        app: the job's Celery app.
        job_id: of the job; with `children` also of a Celery group or a batch.
        children: cancel what the job submitted as well, and all that those submitted: subtasks, the rest of a chain,
            the members of a group. What it submits from now on is never run.

    Returns:
        What became of the job itself. It is not accepted when the job was over already.

    Raises:
        JobNotFound: no record has this id.
        StoreUnavailable: the job store does not answer.
    """
    runtime = setup(app)
    change = run(runtime.store, _cancel_all(runtime, job_id, children))
    if change is None:
        raise JobNotFound(job_id)
    return change


async def cancel_async(runtime: Runtime, job_id: str, *, children: bool = False) -> Change | None:
    """As `cancel`, without blocking the event loop; None when no record has this id."""
    return await run_async(runtime.store, _cancel_all(runtime, job_id, children))


def _cancel_all(runtime: Runtime, job_id: str, children: bool) -> Procedure[Change | None]:
    """Cancels a job, then its children, then theirs; None when nothing has this id."""
    change: Change = yield cancelling(runtime, job_id)
    family = [job_id]
    batch: Sequence[str] | None = (yield runtime.store.cancel_batch(job_id)) if children else None
    for ancestor in family if children else ():
        young: Sequence[str] = yield runtime.store.children(ancestor)
        for child in young:
            if child not in family:
                family.append(child)
                yield cancelling(runtime, child)
    return None if change.status is None and batch is None and family == [job_id] else change


def cancelling(runtime: Runtime, job_id: str) -> Operation[Change]:
    """Cancels one job, and ends the wait of those who wait for its Celery result."""
    return runtime.store.cancel(job_id, _revoked_result(runtime, job_id))


def _revoked_result(runtime: Runtime, job_id: str) -> ResultWrite | None:
    """What Celery's own result of a job revoked while queued is, for those who wait on its AsyncResult."""
    backend = runtime.app.backend
    if not isinstance(backend, JobBackendMixin):
        return None
    revoked = backend.encode_result(TaskRevokedError("revoked"), states.REVOKED)
    return backend.result_write(job_id, revoked, states.REVOKED, None, None)
