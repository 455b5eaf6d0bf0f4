"""Dead letters: found, run again by a real worker, thrown away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import chain
from celery.result import AsyncResult

from aijobs import ErrorCode, EventType, Job, JobNotFound, JobStatus, cancel, submit
from aijobs.dead import (
    DeadLetterFilter,
    dead_letters,
    dead_letters_async,
    purge,
    purge_async,
    replay,
    replay_all,
    replay_all_async,
    replay_async,
)
from aijobs.errors import ArgumentsGone, NotReplayable
from aijobs.store.values import Claim, Failure
from tests.helpers import new_job, wait_until

from .conftest import Worker, running_worker

#: More than several pages.
MANY = 160


@pytest.fixture(scope="module")
def worker(server_url: str, folder: Path) -> Iterator[Worker]:
    environ = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    with running_worker("dead_app", folder, environ, "prefork", "-c", "2") as running:
        yield running


@pytest.fixture
def owner() -> str:
    """Whose jobs a test finds, and no others."""
    return str(uuid.uuid4())


class TestReplay:
    def test_the_job_runs_again_under_its_id(self, worker: Worker, marker: str) -> None:
        dead = worker.run("need", marker, kwargs={"word": "read"})
        assert (dead.status, worker.code(dead)) == (JobStatus.FAILED, ErrorCode.EXCEPTION)
        Path(marker).write_text("the file")
        again = replay(worker.app, dead.id)
        assert (again.id, again.rev > dead.rev, again.seq > dead.seq) == (dead.id, True, True)

        job = worker.end(dead.id)
        assert (job.status, job.result, job.attempt, job.error) == (JobStatus.SUCCESS, "read: the file", 1, None)
        (before,) = job.history
        assert (before.status, before.error, before.attempts) == (JobStatus.FAILED, dead.error, 1)
        assert before.completed_at == dead.completed_at
        events = worker.events(dead.id)
        assert [event.seq for event in events] == list(range(1, job.seq + 1))
        assert [event.type for event in events].count(EventType.COMPLETED) == 2
        assert AsyncResult(dead.id, app=worker.app).get(timeout=10) == "read: the file"

    def test_celerys_result_is_pending_until_the_new_end(self, worker: Worker, marker: str, tmp_path: Path) -> None:
        until = tmp_path / "until"
        dead = worker.run("need_and_wait", marker, str(until))
        wait_until(lambda: AsyncResult(dead.id, app=worker.app).failed(), "Celery's own result")
        Path(marker).touch()
        replay(worker.app, dead.id)
        result: AsyncResult[str] = AsyncResult(dead.id, app=worker.app)
        assert not result.ready()
        worker.until(dead.id, lambda job: job.status is JobStatus.RUNNING, "the new start")
        assert not result.ready()
        until.touch()
        assert result.get(timeout=30) == "waited"

    def test_retries_begin_anew(self, worker: Worker, marker: str) -> None:
        dead = worker.run("insist", marker)
        assert (dead.status, dead.attempt, dead.max_attempts) == (JobStatus.FAILED, 2, 2)
        replay(worker.app, dead.id)
        dead = worker.until(dead.id, lambda job: job.finished and len(job.history) == 1, "the second failure")
        assert (dead.attempt, dead.max_attempts, dead.history[0].attempts) == (2, 2, 2)
        Path(marker).touch()
        replay(worker.app, dead.id)
        job = worker.end(dead.id)
        assert (job.status, job.result, job.attempt, len(job.history)) == (JobStatus.SUCCESS, 0, 1, 2)

    def test_options_are_kept_but_times_are_not(self, worker: Worker, marker: str) -> None:
        dead = worker.run(
            "tell", marker, kwargs={"count": 7}, priority=6, headers={"tenant": "ann"}, countdown=0.1, expires=3600
        )
        Path(marker).touch()
        replay(worker.app, dead.id)
        job = worker.end(dead.id)
        assert job.result == {"count": 7, "priority": 6, "tenant": "ann", "expires": None, "eta": None}

    def test_owner_metadata_and_queue_are_kept(self, worker: Worker, marker: str, owner: str) -> None:
        dead = worker.end(submit(worker.module.need, (marker,), owner=owner, metadata={"order": "12"}).id)
        Path(marker).touch()
        replay(worker.app, dead.id)
        job = worker.end(dead.id)
        assert (job.owner, job.metadata, job.queue) == (owner, {"order": "12"}, dead.queue)

    def test_a_chain_goes_on(self, worker: Worker, marker: str, tmp_path: Path) -> None:
        linked = tmp_path / "linked"
        app = worker.module
        first = app.need.s(marker).set(link=app.note.s(str(linked)))
        last: Any = chain(first, app.add.s("then this")).apply_async()
        dead = worker.end(last.parent.id)
        assert dead.status is JobStatus.FAILED
        # The worker records the end of what was to follow a moment after that of the step.
        store = worker.runtime.store
        wait_until(lambda: store.run(store.get(last.id)), "the record of the step that follows")
        worker.end(last.id)
        with pytest.raises(ArgumentsGone, match="replay the step that failed"):
            replay(worker.app, last.id)
        Path(marker).write_text("that")
        replay(worker.app, dead.id)
        assert AsyncResult(last.id, app=worker.app).get(timeout=30) == "done: that, then this"
        wait_until(linked.exists, "the link")

    def test_an_expired_job(self, worker: Worker, marker: str) -> None:
        Path(marker).touch()
        expired = worker.run("need", marker, expires=datetime.now(UTC) - timedelta(seconds=5))
        assert worker.code(expired) is ErrorCode.EXPIRED
        replay(worker.app, expired.id)
        assert worker.end(expired.id).status is JobStatus.SUCCESS

    def test_a_poison_job_has_its_lives_back(self, worker: Worker, marker: str) -> None:
        dead = worker.run("kill", marker)
        assert (worker.code(dead), dead.lost_deliveries) == (ErrorCode.POISON, 3)
        replay(worker.app, dead.id)
        dead = worker.until(dead.id, lambda job: job.finished and len(job.history) == 1, "the second end")
        assert (worker.code(dead), dead.lost_deliveries, dead.attempt) == (ErrorCode.POISON, 3, 3)
        Path(marker).touch()
        replay(worker.app, dead.id)
        job = worker.end(dead.id)
        assert (job.status, job.lost_deliveries, job.attempt) == (JobStatus.SUCCESS, 0, 1)

    def test_a_cancelled_job(self, worker: Worker, marker: str) -> None:
        Path(marker).touch()
        job_id = worker.send("need", marker, countdown=600)
        cancel(worker.app, job_id)
        assert worker.end(job_id).status is JobStatus.REVOKED
        replay(worker.app, job_id)
        assert worker.end(job_id).status is JobStatus.SUCCESS

    def test_what_failed_again_is_replayed_once(self, worker: Worker, owner: str) -> None:
        for number in range(60):
            submit(worker.module.fail, (number,), owner=owner)
        mine = DeadLetterFilter(owner=owner)
        wait_until(lambda: len(list(dead_letters(worker.app, mine))) == 60, "the end of all")
        report = replay_all(worker.app, mine)
        assert (report.matched, report.replayed, report.refused) == (60, 60, {})
        wait_until(lambda: len(list(dead_letters(worker.app, mine))) == 60, "the second end of all")
        assert {len(job.history) for job in dead_letters(worker.app, mine)} == {1}


class TestWithoutWorker:
    """Jobs whose records are written here, of an owner of their own; what is replayed nobody takes."""

    @pytest.fixture(params=["sync", "async"])
    def both(self, request: pytest.FixtureRequest, worker: Worker) -> Colour:
        return Colour(worker, asynchronous=request.param == "async")

    def test_all_pages_are_gone_through(self, worker: Worker, owner: str, both: Colour) -> None:
        ids = [bury(worker, owner, number=number) for number in range(MANY)]
        mine = DeadLetterFilter(owner=owner)
        assert [job.id for job in both.dead_letters(mine)] == ids[::-1]
        assert [job.id for job in both.dead_letters(mine, limit=30)] == ids[:-31:-1]
        assert both.dead_letters(mine, limit=0) == []

        before = both.dead_letters(mine)
        dry = both.replay_all(mine, dry_run=True)
        assert (dry.matched, dry.replayed, dry.refused) == (MANY, MANY, {})
        assert both.purge(mine, dry_run=True) == MANY
        assert both.dead_letters(mine) == before

        assert both.replay_all(mine, limit=60).replayed == 60
        assert [job.id for job in both.dead_letters(mine)] == ids[: MANY - 60][::-1]
        assert both.purge(mine, limit=30) == 30
        assert both.purge(mine) == MANY - 90
        assert both.replay_all(mine).matched == 0
        assert worker.job(ids[-1]).status is JobStatus.QUEUED
        assert worker.runtime.store.run(worker.runtime.store.get(ids[0])) is None

    def test_filters(self, worker: Worker, owner: str, both: Colour) -> None:
        first = bury(worker, owner, task="one", code=ErrorCode.TIME_LIMIT)
        second = bury(worker, owner, task="two")
        third = bury(worker, owner, task="two", code=ErrorCode.POISON)
        made, ended = worker.job(second).created_at, worker.job(second).completed_at
        bury(worker, None)
        unfinished = worker.runtime.store.run(worker.runtime.store.create(new_job(owner=owner))).job
        assert unfinished is not None
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({}, {first, second, third}),
            ({"task": "two"}, {second, third}),
            ({"task": "tw"}, set()),
            ({"code": ErrorCode.TIME_LIMIT}, {first}),
            ({"task": "two", "code": ErrorCode.EXCEPTION}, {second}),
            ({"created_after": made}, {second, third}),
            ({"created_before": made}, {first}),
            ({"failed_after": ended}, {second, third}),
            ({"failed_before": ended}, {first}),
            ({"failed_after": ended, "failed_before": worker.job(third).completed_at}, {second}),
            ({"ids": frozenset({first, third, unfinished.id, "unknown"})}, {first, third}),
            ({"ids": frozenset({first}), "task": "two"}, set()),
        ]
        for where, expected in cases:
            found = both.dead_letters(DeadLetterFilter(**{"owner": owner, **where}))
            assert {job.id for job in found} == expected, where

    def test_what_cannot_be_replayed_is_refused(self, worker: Worker, owner: str, both: Colour) -> None:
        store = worker.runtime.store
        with pytest.raises(JobNotFound):
            both.replay("unknown")
        queued = new_job(owner=owner, queue="nobody", arguments_json="[[], {}]")
        store.run(store.create(queued))
        with pytest.raises(NotReplayable, match="only a failed or revoked job can, and its status is queued"):
            both.replay(queued.id)
        store.run(store.finish(Claim(queued.id), JobStatus.SUCCESS, result_json=b"1"))
        with pytest.raises(NotReplayable, match="its status is success"):
            both.replay(queued.id)

        gone, good = bury(worker, owner, arguments=None), bury(worker, owner)
        with pytest.raises(ArgumentsGone, match="submit it anew"):
            both.replay(gone)
        assert both.replay(good, dry_run=True) == worker.job(good)
        report = both.replay_all(DeadLetterFilter(owner=owner))
        assert (report.matched, report.replayed, list(report.refused)) == (2, 1, [gone])
        assert "its arguments were not kept" in report.refused[gone]
        assert [worker.job(one).status for one in (gone, good)] == [JobStatus.FAILED, JobStatus.QUEUED]

    def test_a_job_whose_parent_was_cancelled_with_its_children(self, worker: Worker, owner: str, both: Colour) -> None:
        parent = new_job(queue="nobody")
        store = worker.runtime.store
        store.run(store.create(parent))
        dead = bury(worker, owner, parent_id=parent.id, options_json=f'{{"parent_id": "{parent.id}"}}')
        cancel(worker.app, parent.id, children=True)
        report = both.replay_all(DeadLetterFilter(owner=owner))
        assert (report.matched, report.replayed) == (1, 0)
        assert "was cancelled, with all that it submits" in report.refused[dead]

    def test_two_at_once_send_each_job_once(self, worker: Worker, owner: str, server_url: str) -> None:
        async def both_at_once() -> None:
            mine = DeadLetterFilter(owner=owner)
            await asyncio.gather(*(replay_all_async(worker.runtime, mine) for _ in range(2)))
            await worker.runtime.store.aclose()

        ids = [bury(worker, owner) for _ in range(40)]
        before = waiting(server_url)
        asyncio.run(both_at_once())
        assert waiting(server_url) == before + 40
        assert {(worker.job(one).status, len(worker.job(one).history)) for one in ids} == {(JobStatus.QUEUED, 1)}

    def test_celerys_result_is_purged_as_well(self, worker: Worker, owner: str, both: Colour) -> None:
        dead = bury(worker, owner)
        worker.app.backend.store_result(dead, ValueError("private"), "FAILURE")
        assert both.purge(DeadLetterFilter(ids=frozenset({dead}))) == 1
        assert AsyncResult(dead, app=worker.app).state == "PENDING"
        assert worker.runtime.store.run(worker.runtime.store.events(dead)) == []


#: Where the broker is not the store's server, record and message are two steps.
ELSEWHERE = """
import asyncio, celery, uuid
from aijobs import JobStatus, PublishFailed, setup
from aijobs.dead import replay, replay_async
from aijobs.store.values import Claim, NewJob
app = celery.Celery("elsewhere", broker="{broker}", backend={backend!r})
app.conf.broker_connection_timeout = 0.2
runtime = setup(app)
store = runtime.store
for colour in ("sync", "async"):
    job_id = str(uuid.uuid4())
    store.run(store.create(NewJob(job_id, "some.task", "celery", arguments_json="[[], {{}}]")))
    store.run(store.finish(Claim(job_id), JobStatus.FAILED))
    try:
        job = replay(app, job_id) if colour == "sync" else asyncio.run(replay_async(runtime, job_id))
        print(job.status, len(job.history))
    except PublishFailed:
        print("not sent")
"""


@pytest.mark.parametrize("backend", [None, "cache+memory://", "redis://127.0.0.1:1/0"])
@pytest.mark.parametrize(
    ("broker", "shown"),
    [
        ("memory://", "queued 1"),
        ("redis://127.0.0.1:1/0", "not sent"),
    ],
)
def test_another_broker_and_other_backends(server_url: str, broker: str, backend: str | None, shown: str) -> None:
    code = ELSEWHERE.format(broker=broker, backend=backend)
    environ = {**os.environ, "AIJOBS_STORE_URL": server_url, "AIJOBS_STORE_TIMEOUT_SECONDS": "10"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr
    assert ("stays until it expires: ConnectionError" in done.stderr) is (backend == "redis://127.0.0.1:1/0")
    assert done.stdout.splitlines() == [shown, shown]


class Colour:
    """The functions in one of the two colours."""

    def __init__(self, worker: Worker, *, asynchronous: bool) -> None:
        self._worker = worker
        self._asynchronous = asynchronous

    def dead_letters(self, where: DeadLetterFilter, **options: Any) -> list[Job]:
        async def collect() -> list[Job]:
            return [job async for job in dead_letters_async(self._worker.runtime, where, **options)]

        return self._run(collect()) if self._asynchronous else list(dead_letters(self._worker.app, where, **options))

    def replay(self, *args: Any, **options: Any) -> Any:
        return self._call(replay, replay_async, *args, **options)

    def replay_all(self, *args: Any, **options: Any) -> Any:
        return self._call(replay_all, replay_all_async, *args, **options)

    def purge(self, *args: Any, **options: Any) -> Any:
        return self._call(purge, purge_async, *args, **options)

    def _call(self, sync: Any, asynchronous: Any, *args: Any, **options: Any) -> Any:
        if self._asynchronous:
            return self._run(asynchronous(self._worker.runtime, *args, **options))
        return sync(self._worker.app, *args, **options)

    def _run(self, coroutine: Any) -> Any:
        with asyncio.Runner() as runner:
            try:
                return runner.run(coroutine)
            finally:
                runner.run(self._worker.runtime.store.aclose())


def waiting(server_url: str) -> int:
    """How many messages wait in the queue that nobody takes from, whatever their priority."""
    with redis.Redis.from_url(server_url) as client:
        found: Any = client.keys("nobody*")
        return sum(int(client.llen(key)) for key in found)


def bury(
    worker: Worker,
    owner: str | None,
    *,
    task: str = "dead_app.fail",
    number: int = 0,
    code: ErrorCode = ErrorCode.EXCEPTION,
    arguments: str | None = "",
    **known: Any,
) -> str:
    """Makes the record of a job that failed, of a queue that nobody takes from."""
    store = worker.runtime.store
    given = f"[[{number}], {{}}]" if arguments == "" else arguments
    job = new_job(task=task, owner=owner, queue="nobody", arguments_json=given, **known)
    store.run(store.create(job))
    store.run(store.finish(Claim(job.id), JobStatus.FAILED, failure=Failure(code, f"ValueError: no {number}")))
    return job.id
