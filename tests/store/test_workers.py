"""Workers: who is alive, what it runs, and what it learns of that."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

import pytest

from aijobs import ErrorCode, EventType, JobStatus
from aijobs.store import JobStore
from aijobs.store.values import Beat, Change, Claim, Failure, Return, Standing
from tests.helpers import Run, claim, new_job, wait_until

from .conftest import MakeStore
from .story import Story

_numbers = count(1)


def token(session: str = "alive") -> str:
    return f"{session}.{next(_numbers):x}"


def beat(*running: tuple[str, str], session: str = "alive") -> Beat:
    return Beat(session, f"{session}@host", '{"pid": 7}', running)


def test_a_worker_is_alive_until_it_leaves(run: Run, store: JobStore) -> None:
    for session in ("one", "two", "one"):
        run(store.beat(beat(session=session)))
    workers = run(store.stats([])).workers
    assert workers.keys() == {"one@host", "two@host"}
    assert all(0 <= seconds < 15 for seconds in workers.values())
    run(store.leave("one"))
    assert run(store.stats([])).workers.keys() == {"two@host"}
    (left,) = run(store.workers())
    assert (left.session, left.name, left.facts, left.jobs) == ("two", "two@host", {"pid": 7}, [])


def test_a_silent_worker_is_gone_after_its_lease(make_store: MakeStore) -> None:
    store = make_store(lease_seconds=0.3)
    store.run(store.beat(beat()))
    assert store.run(store.workers())
    wait_until(lambda: not store.run(store.stats([])).workers and not store.run(store.workers()), "the worker's death")


def test_a_worker_whose_task_holds_the_interpreter_is_kept_alive(make_store: MakeStore) -> None:
    store = make_store(lease_seconds=0.3)
    new, mine = new_job(), token()
    store.run(store.create(new))
    store.run(store.start(claim(new, mine)))
    store.run(store.beat(beat((new.id, mine))))
    ends = datetime.now(UTC).timestamp() + 1
    while datetime.now(UTC).timestamp() < ends:
        store.run(store.stay_alive("alive"))
        (worker,) = store.run(store.workers())
        assert [job.id for job in worker.jobs] == [new.id]


def test_a_worker_that_never_said_what_it_runs_is_not_kept_alive(run: Run, store: JobStore) -> None:
    run(store.stay_alive("unknown"))
    assert run(store.workers()) == []


def test_workers_are_shown_with_what_they_run(story: Story) -> None:
    mine = token()
    other = new_job()
    story.run(story.store.create(other))
    story.write("start", mine)
    story.run(story.store.beat(beat((story.new.id, mine), (other.id, token()))))
    (worker,) = story.run(story.store.workers())
    (job,) = worker.jobs
    assert (job.id, job.status, job.attempt, job.started_at) == (story.new.id, "running", 1, story.job().started_at)


def test_a_beat_tells_how_its_jobs_stand(story: Story) -> None:
    mine = token()
    running = (story.new.id, mine)

    def standing() -> Standing:
        (answer,) = story.run(story.store.beat(beat(running)))
        return answer

    assert standing() is Standing.HELD
    story.write("start", mine)
    assert standing() is Standing.HELD
    story.write("cancel")
    assert standing() is Standing.CANCEL
    story.write("revoke", mine)
    assert standing() is Standing.HELD


def test_a_beat_tells_of_a_job_that_another_has(story: Story) -> None:
    old = token("gone")
    story.write("start", old)
    story.write("start", token())
    assert story.run(story.store.beat(beat((story.new.id, old)))) == [Standing.LOST]
    story.write("fail", "")
    assert story.run(story.store.beat(beat((story.new.id, old)))) == [Standing.LOST]


def test_a_beat_of_unknown_jobs_leaves_them_alone(run: Run, store: JobStore) -> None:
    assert run(store.beat(beat(("unknown", token())))) == [Standing.HELD]


def test_a_job_that_runs_in_a_living_worker_is_not_started_elsewhere(story: Story) -> None:
    first = token()
    story.write("start", first)
    story.run(story.store.beat(beat((story.new.id, first))))
    before = story.everything()
    assert story.write("start", token("another")) == Change(False, JobStatus.RUNNING, 1, False)
    assert not story.run(story.store.put_back(story.new.id)).accepted
    assert story.everything() == before
    assert story.write("report", first).accepted


def test_a_job_that_began_since_the_last_beat_counts_as_running(story: Story) -> None:
    story.run(story.store.beat(beat()))
    story.write("start", token())
    assert not story.write("start", token("another")).accepted


@pytest.mark.parametrize("how", ["start", "put back"])
def test_a_job_is_taken_from_a_worker_that_is_gone(story: Story, how: str) -> None:
    first = token()
    story.write("start", first)
    story.run(story.store.beat(beat((story.new.id, first))))
    story.run(story.store.leave("alive"))
    if how == "put back":
        assert story.run(story.store.put_back(story.new.id)) == Change(True, JobStatus.QUEUED, 1, False)
        assert story.events()[-1].data["error_code"] == "worker_lost"
    assert story.write("start", token("another")) == Change(True, JobStatus.RUNNING, 2, False)
    job = story.job()
    assert job.error is not None
    assert (job.lost_deliveries, job.error.code, job.error.attempt) == (1, ErrorCode.WORKER_LOST, 1)
    assert not story.write("report", first).accepted
    assert not story.write("succeed", first).accepted


def test_a_lost_job_whose_cancel_was_asked_for_is_revoked(story: Story) -> None:
    story.write("start", token("gone"))
    story.write("cancel")
    assert story.run(story.store.put_back(story.new.id)) == Change(True, JobStatus.REVOKED, 1, True)
    assert story.job().error is not None


@pytest.mark.parametrize("status", ["queued", "finished", "unknown"])
def test_only_a_running_job_is_put_back(story: Story, status: str) -> None:
    if status == "finished":
        story.write("fail", "")
    before = story.everything()
    job_id = "unknown" if status == "unknown" else story.new.id
    assert not story.run(story.store.put_back(job_id)).accepted
    assert story.everything() == before


def test_a_returned_attempt_does_not_count(run: Run, store: JobStore) -> None:
    new = new_job(max_attempts=2)
    run(store.create(new))
    mine = claim(new, "first", max_attempts=2)
    run(store.start(mine))
    assert run(store.requeue(mine, None, why=Return.RETURNED)) == Change(True, JobStatus.QUEUED, 0, False)
    again = claim(new, "second", max_attempts=2)
    assert run(store.requeue(again, None, why=Return.RETURNED)).status is JobStatus.QUEUED
    assert run(store.start(again)).attempt == 1
    job = run(store.get(new.id))
    assert job is not None
    assert (job.max_attempts, job.lost_deliveries) == (2, 0)
    types = [event.type for event in run(store.events(new.id))]
    assert types.count(EventType.ATTEMPT) == 1


def test_a_lost_attempt_takes_none_from_the_task(run: Run, store: JobStore) -> None:
    new = new_job(max_attempts=2)
    run(store.create(new))
    mine = claim(new, "first", max_attempts=2)
    run(store.start(mine))
    lost = Failure(ErrorCode.WORKER_LOST, "The process was lost.")
    assert run(store.requeue(mine, lost, why=Return.LOST)) == Change(True, JobStatus.QUEUED, 1, False)
    for at_most in (3, 3):
        job = run(store.get(new.id))
        assert job is not None
        assert (job.max_attempts, job.lost_deliveries) == (at_most, 1)
        run(store.start(claim(new, "second", max_attempts=2)))


def test_a_retry_that_comes_before_it_is_reported_takes_over(story: Story) -> None:
    first = token()
    story.write("start", first)
    story.run(story.store.beat(beat((story.new.id, first))))
    retry = story.claim(token("another"), retries=1)
    assert story.run(story.store.start(retry)) == Change(True, JobStatus.RUNNING, 2, False)
    assert not story.run(story.store.requeue(story.claim(first), None)).accepted
    assert story.job().lost_deliveries == 0
    assert not story.write("start", token("third")).accepted


def test_an_older_message_does_not_run_once_a_later_one_is_under_way(story: Story) -> None:
    story.write("start", token("gone"))
    story.run(story.store.requeue(Claim(story.new.id), None, why=Return.RETRY))
    assert story.write("start", token()) == Change(False, JobStatus.QUEUED, 1, False)
    assert story.run(story.store.start(story.claim(token(), retries=1))).accepted


def test_what_replaces_a_task_comes_after_its_retries(story: Story) -> None:
    story.run(story.store.start(story.claim("first", retries=5)))
    story.run(story.store.requeue(story.claim("first"), None, why=Return.REPLACED))
    assert not story.run(story.store.start(story.claim("second", retries=6))).accepted
    assert story.run(story.store.start(story.claim("third", replacements=1))).accepted


def test_a_message_made_again_from_the_record_is_run(run: Run, store: JobStore) -> None:
    new = new_job()
    run(store.create(new))
    run(store.start(claim(new, retries=2)))
    run(store.requeue(claim(new), None))
    (suspect,) = wait_until(lambda: run(store.suspects(0.05)), "suspicion")
    run(store.sent_again(new.id, suspect.rev, 60))
    assert run(store.start(claim(new, "second"))).accepted


def test_what_is_long_queued_or_without_a_worker_is_suspect(make_store: MakeStore) -> None:
    store = make_store()
    waits, runs, held, due = (new_job(queue=f"q{number}") for number in range(4))
    later = datetime(2100, 1, 1, tzinfo=UTC)
    for new in (waits, runs, held):
        store.run(store.create(new))
    store.run(store.create(new_job(due.id, queue="q3", scheduled_at=later)))
    mine = token()
    store.run(store.start(claim(runs, token("gone"))))
    store.run(store.start(claim(held, mine)))
    store.run(store.beat(beat((held.id, mine))))

    found = wait_until(lambda: store.run(store.suspects(0.3)), "the end of the grace")
    assert {(one.job_id, one.task, one.queue, one.status) for one in found} == {
        (waits.id, "embed", "q0", JobStatus.QUEUED),
        (runs.id, "embed", "q1", JobStatus.RUNNING),
    }


def test_one_looks_at_a_time(run: Run, store: JobStore) -> None:
    run(store.create(new_job()))
    wait_until(lambda: run(store.suspects(0.9)), "the first look")
    assert run(store.suspects(0.9)) == []
    wait_until(lambda: run(store.suspects(0.9)), "the next look")


def test_many_jobs_are_looked_at_in_turn(run: Run, store: JobStore) -> None:
    ids = set()
    for _ in range(7):
        new = new_job()
        ids.add(new.id)
        run(store.create(new))
    seen: set[str] = set()

    def all_seen() -> bool:
        found = run(store.suspects(0.05, limit=3))
        assert len(found) <= 3
        seen.update(one.job_id for one in found)
        return seen == ids

    wait_until(all_seen, "the look at every job")


def test_a_job_that_was_sent_again_is_left_alone_for_a_while(run: Run, store: JobStore) -> None:
    new = new_job()
    run(store.create(new))
    (suspect,) = wait_until(lambda: run(store.suspects(0.05)), "suspicion")
    assert not run(store.sent_again(new.id, suspect.rev + 1, 60))
    assert run(store.sent_again(new.id, suspect.rev, 60))
    other = new_job()
    run(store.create(other))
    found = wait_until(lambda: run(store.suspects(0.05)), "suspicion of the other")
    assert [one.job_id for one in found] == [other.id]
    run(store.start(Claim(new.id, "mine")))
    assert not run(store.sent_again(new.id, suspect.rev, 60))
