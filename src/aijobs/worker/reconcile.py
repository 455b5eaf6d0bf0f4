"""Jobs that record and broker disagree about: found by any worker, one at a time, and put right.

A message can be lost between two steps: of a publisher that died after it had made the record, of a consumer that died
after it had taken the message and before it had booked it. And a worker can die whose messages nobody will return, as
it had acknowledged them early.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery, states
from celery.backends.base import DisabledBackend

from aijobs.broker.leases import Lease, consumed, has_leases
from aijobs.broker.presence import list_keys, present
from aijobs.errors import AijobsError, StoreUnavailable
from aijobs.job import ErrorCode, Job, JobStatus
from aijobs.runtime import runtime_of
from aijobs.store.base import JobStore, Operation
from aijobs.store.values import Change, Claim, Failure, Suspect
from aijobs.worker.messages import is_routed
from aijobs.worker.outcome import describe_failure, encode_json
from aijobs.worker.periodic import Periodic
from aijobs.worker.resending import republish

logger = logging.getLogger(__name__)

_LOST_FOR_GOOD = "The job's message was lost, and its arguments, which are no JSON or too large, were not kept."
_ACKNOWLEDGED_EARLY = "The worker that ran the job was lost, and its message had been acknowledged before it ran."

#: How long a look waits for the next one, as a part of the lease; the store has one worker look at a time.
_PART_OF_LEASE = 3


def reconciling(app: Celery) -> Periodic:
    """What looks for lost jobs in a worker, every third of a lease."""
    interval = runtime_of(app).settings.lease_seconds / _PART_OF_LEASE
    return Periodic("aijobs-reconcile", interval, Reconciler(app).look, "Lost jobs are looked for later")


class Reconciler:
    """Looks for lost jobs and has them run after all; of all workers, one does at a time.

    Which jobs wait in a queue it can tell of Redis alone; with other brokers it sees to those that ran in a worker
    which is gone.

    Args:
        app: whose jobs they are.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._runtime = runtime_of(app)
        self._store = self._runtime.store

    def look(self) -> None:
        """One look, when it is time for one.

        Raises:
            StoreUnavailable: the job store does not answer.
            redis.RedisError: the broker does not answer.
        """
        broker = consumed()
        if broker is None and has_leases(self._app):
            # Not connected, or not any more.
            return
        suspects = self._store.run(self._store.suspects(self._runtime.settings.lease_seconds))
        # Another app may have its jobs in the same store, and their messages in a broker of its own.
        suspects = [suspect for suspect in suspects if suspect.task in self._app.tasks]
        if broker is None:
            # What waits cannot be told from what was lost; what ran in a worker that is gone can. Should its message be
            # there after all, one of the two is refused.
            suspects = [suspect for suspect in suspects if suspect.status is JobStatus.RUNNING]
        found = set() if broker is None else _have_message(*broker, suspects)
        for suspect in suspects:
            try:
                self._settle(suspect, suspect.job_id in found)
            except AijobsError as error:
                logger.warning("Job %s may be lost, and is looked at again later: %s", suspect.job_id, error)

    def _settle(self, suspect: Suspect, has_message: bool) -> None:
        if suspect.status is JobStatus.RUNNING and not self._put_back(suspect, has_message):
            return
        if has_message:
            return
        job = self._store.run(self._store.get(suspect.job_id))
        if job is not None and job.status is JobStatus.QUEUED and not is_routed(job):
            self._send_again(job)

    def _put_back(self, suspect: Suspect, has_message: bool) -> bool:
        """Whether a job whose worker is gone waits for its next attempt now."""
        if not self._store.run(self._store.put_back(suspect.job_id)).accepted:
            return False
        if not has_message and not self._app.tasks[suspect.task].acks_late:
            self._fail(suspect.job_id, _ACKNOWLEDGED_EARLY)
            return False
        return True

    def _send_again(self, job: Job) -> None:
        if not self._store.run(self._store.sent_again(job.id, job.rev, self._runtime.settings.lease_seconds)):
            return
        if self._ran_elsewhere(job):
            return
        if job.arguments_json is None:
            self._fail(job.id, _LOST_FOR_GOOD)
        else:
            logger.warning("The message of job %s (%s) was lost; it is published again", job.id, job.task)
            republish(self._app, job)

    def _ran_elsewhere(self, job: Job) -> bool:
        """Whether a worker without aijobs has run the job, as Celery's result tells; the record then says so too."""
        backend: Any = self._app.backend
        if isinstance(backend, DisabledBackend):
            return False
        try:
            meta = backend.get_task_meta(job.id, cache=False)
        except Exception as error:
            raise StoreUnavailable(f"The result backend did not answer: {type(error).__name__}") from error
        if meta["status"] not in states.READY_STATES:
            return False
        end = _end_by_celery(self._store, job.id, meta)
        return self._store.run(end).accepted

    def _fail(self, job_id: str, why: str) -> None:
        logger.warning("Job %s has failed: %s", job_id, why)
        failure = Failure(ErrorCode.WORKER_LOST, why)
        self._store.run(self._store.finish(Claim(job_id), JobStatus.FAILED, failure=failure))


def _have_message(lease: Lease, channel: Any, suspects: Sequence[Suspect]) -> set[str]:
    """Ids of the jobs whose message is somewhere in the broker."""
    keys = list_keys(channel, {suspect.queue for suspect in suspects})
    missing = {suspect.job_id for suspect in suspects}
    # A message that moves may be missed; hardly twice.
    for _ in range(2):
        if missing:
            missing -= present(lease.line, channel.global_keyprefix, keys, missing, channel.unacked_key)
    return {suspect.job_id for suspect in suspects} - missing


def _end_by_celery(store: JobStore, job_id: str, meta: Mapping[str, Any]) -> Operation[Change]:
    if meta["status"] == states.SUCCESS:
        return store.finish(Claim(job_id), JobStatus.SUCCESS, result_json=encode_json(meta["result"]))
    status = JobStatus.REVOKED if meta["status"] == states.REVOKED else JobStatus.FAILED
    failure = describe_failure(meta["result"], meta.get("traceback"))
    return store.finish(Claim(job_id), status, failure=failure)
