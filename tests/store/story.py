"""One job and all that can happen to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aijobs import ErrorCode, Job, JobEvent, JobStatus
from aijobs.store.base import JobStore, Operation
from aijobs.store.values import Change, Claim, Failure, NewJob, ProgressWrite, Return
from tests.helpers import Run, claim, new_job

BROKEN = Failure(ErrorCode.EXCEPTION, "ValueError: no", "Traceback: …")
HALF = ProgressWrite(0.5, '{"current": 1, "total": 2, "unit": "pages"}')

#: Every way to write onto a job, by name.
WRITES: dict[str, Callable[[JobStore, Claim], Operation[Change]]] = {
    "start": lambda store, who: store.start(who),
    "report": lambda store, who: store.report(who, HALF),
    "ask": lambda store, who: store.report(who, None),
    "requeue": lambda store, who: store.requeue(who, BROKEN, why=Return.REJECTED),
    "succeed": lambda store, who: store.finish(who, JobStatus.SUCCESS, result_json=b"1", progress=HALF),
    "fail": lambda store, who: store.finish(who, JobStatus.FAILED, failure=BROKEN),
    "revoke": lambda store, who: store.finish(who, JobStatus.REVOKED),
    "cancel": lambda store, who: store.cancel(who.job_id),
}


class Story:
    """One job and what happens to it."""

    def __init__(self, run: Run, store: JobStore) -> None:
        self.run = run
        self.store = store
        self.new: NewJob = new_job(max_attempts=3)
        run(store.create(self.new))

    def claim(self, token: str = "first", **known: Any) -> Claim:
        return claim(self.new, token, **known)

    def write(self, name: str, token: str = "first") -> Change:
        return self.run(WRITES[name](self.store, self.claim(token)))

    def job(self) -> Job:
        job = self.run(self.store.get(self.new.id))
        assert job is not None
        return job

    def events(self) -> Sequence[JobEvent]:
        return self.run(self.store.events(self.new.id))

    def everything(self) -> tuple[Job, Sequence[JobEvent], bytes | None]:
        return self.job(), self.events(), self.run(self.store.get_result(self.new.id))
