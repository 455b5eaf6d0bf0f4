"""Jobs and what they belong to: their children, their groups and batches, the runs before, their end."""

from __future__ import annotations

import pytest
import redis

from aijobs import ErrorCode, JobStatus
from aijobs.store import JobStore
from aijobs.store.values import Creation, Failure, Message, NewJob
from tests.helpers import Run, claim, lasting_keys, new_job, wait_until

from .conftest import MakeStore
from .story import Story


def create(run: Run, store: JobStore, new: NewJob) -> str:
    assert run(store.create(new)).outcome is Creation.CREATED
    return new.id


def test_children_are_known_by_parent_group_and_batch(run: Run, store: JobStore) -> None:
    parent = create(run, store, new_job())
    child = create(run, store, new_job(parent_id=parent, group_id="g"))
    sibling = create(run, store, new_job(parent_id=parent, batch_id="b:1"))
    create(run, store, new_job())
    assert run(store.children(parent)) == [child, sibling]
    assert run(store.children("g")) == [child]
    assert run(store.children("b:1")) == [sibling]
    assert run(store.children("unknown")) == []
    found = run(store.get(child))
    assert found is not None
    assert (found.parent_id, found.group_id) == (parent, "g")


def test_what_is_born_to_a_cancelled_family_never_runs(run: Run, store: JobStore, redis_client: redis.Redis) -> None:
    parent = create(run, store, new_job())
    run(store.cancel(parent))
    assert run(store.get(create(run, store, new_job(parent_id=parent)))).status == "queued"  # type: ignore[union-attr]
    run(store.children(parent))
    late = new_job(parent_id=parent)
    reply = run(store.create(late, Message("list", b"message", 0)))
    assert reply.job is not None
    assert (reply.job.status, reply.job.cancel_requested_at) == (JobStatus.REVOKED, reply.job.completed_at)
    assert redis_client.llen("list") == 0
    assert not run(store.start(claim(late))).accepted


def test_children_leave_no_lasting_keys(run: Run, store: JobStore, redis_url: str) -> None:
    create(run, store, new_job(parent_id="p", group_id="g"))
    run(store.suspects(1))
    assert lasting_keys(redis_url) == []


def test_a_new_run_remembers_the_runs_before(story: Story) -> None:
    story.write("start", "first")
    story.run(story.store.finish(story.claim("first"), JobStatus.FAILED, failure=Failure(ErrorCode.POISON, "gave up")))
    ended = story.job()
    story.run(story.store.create(story.new, reopen=True))
    job = story.job()
    assert (job.status, job.attempt, job.error, job.lost_deliveries) == ("queued", 0, None, 0)
    assert job.seq > ended.seq
    (run,) = job.history
    assert (run.status, run.error, run.attempts, run.completed_at) == ("failed", ended.error, 1, ended.completed_at)
    story.write("start", "second")
    story.write("succeed", "second")
    story.run(story.store.create(story.new, reopen=True))
    assert [(run.status, run.error and run.error.code) for run in story.job().history] == [
        ("failed", "poison"),
        ("success", None),
    ]


def test_a_job_runs_anew_only_as_it_was_seen(story: Story) -> None:
    story.write("start")
    story.write("fail")
    seen = story.job().rev
    outcomes = [story.run(story.store.create(story.new, reopen=True, at_rev=seen)).outcome]
    story.write("start", "second")
    story.write("succeed", "second")
    outcomes += [story.run(story.store.create(story.new, reopen=True, at_rev=rev)).outcome for rev in (seen, 0)]
    assert outcomes == [Creation.CREATED, Creation.EXISTS, Creation.EXISTS]
    assert story.job().status == "success"


def test_only_so_many_runs_are_remembered(story: Story) -> None:
    for number in range(25):
        story.write("start", f"token {number}")
        story.write("fail", f"token {number}")
        story.run(story.store.create(story.new, reopen=True))
    assert len(story.job().history) == 20


def test_a_failed_job_is_kept_for_longer(make_store: MakeStore) -> None:
    store = make_store(retention_seconds=60, failed_retention_seconds=600)
    kept = {}
    for status in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.REVOKED):
        new = new_job()
        store.run(store.create(new))
        store.run(store.finish(claim(new), status))
        job = store.run(store.get(new.id))
        assert job is not None
        assert job.completed_at is not None
        kept[status] = (job.expires_at - job.completed_at).total_seconds()
    assert kept == {JobStatus.SUCCESS: 60, JobStatus.FAILED: 600, JobStatus.REVOKED: 60}


def test_a_finished_job_can_be_deleted_with_all_it_left(run: Run, store: JobStore, redis_client: redis.Redis) -> None:
    new = new_job(owner="ann", batch_id="b")
    run(store.create(new))
    assert not run(store.delete(new.id))
    run(store.start(claim(new)))
    assert not run(store.delete(new.id))
    run(store.finish(claim(new), JobStatus.FAILED))
    assert run(store.delete(new.id))
    assert run(store.get(new.id)) is None
    assert not run(store.delete(new.id))
    for index in redis_client.scan_iter("aijobs:*", _type="zset"):
        assert new.id.encode() not in redis_client.zrange(index, 0, -1)
    assert not redis_client.keys(f"aijobs:job:{new.id}*")
    assert run(store.stats([])).statuses[JobStatus.FAILED] == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_record_keeps_the_rest_of_the_message(run: Run, store: JobStore, again: bool) -> None:
    new = new_job(options_json='{"retries": 1}', arguments_json="[[1], {}]")
    run(store.create(new))
    if again:
        run(store.finish(claim(new), JobStatus.FAILED))
        run(store.create(new, reopen=True))
    job = wait_until(lambda: run(store.get(new.id)), "the job")
    assert (job.options_json, job.arguments_json) == ('{"retries": 1}', "[[1], {}]")
