"""What webhooks are to be told: kept with the change that makes it happen, given out, begun once, and settled."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aijobs import EventType, InvalidWebhook, Job, JobStatus, Webhook
from aijobs.settings import Settings
from aijobs.store import JobStore
from aijobs.store.deliveries import Announcement, Delivery, DeliveryOutcome, DueAnnouncement
from aijobs.store.values import Claim, Failure, NewJob, Return
from aijobs.store.webhooks import LOG_LENGTH
from tests.helpers import Run, claim, new_job, wait_until

from .conftest import MakeStore
from .story import BROKEN

OWN = "https://own.example/hook?token=hidden"
APP = "https://app.example/hook"
COMPLETED = Webhook(OWN)
EVERYTHING = Webhook(OWN, ("job.status", "job.attempt", "job.completed"))


def due(store: JobStore, run: Run) -> list[DueAnnouncement]:
    return [*run(store.take_announcements(100, 60))]


def begin(store: JobStore, run: Run, one: DueAnnouncement, busy: float = 60) -> Announcement:
    announcement = run(store.begin_delivery(one, APP, busy))
    assert announcement is not None
    return announcement


def attempt(
    number: int = 1, outcome: DeliveryOutcome = DeliveryOutcome.DELIVERED, wait: float | None = None, **known: Any
) -> Delivery:
    now = datetime.now(UTC)
    following = None if wait is None else now + timedelta(seconds=wait)
    return Delivery(1, EventType.COMPLETED, number, now, 0.25, outcome, next_attempt_at=following, **known)


def with_app_webhook(make_store: MakeStore, *events: str) -> JobStore:
    settings = Settings.from_env({"AIJOBS_WEBHOOK_URL": APP, "AIJOBS_WEBHOOK_SECRETS": "s"})
    known = {name: getattr(settings, name) for name in ("webhook_url", "webhook_secrets")}
    return make_store(**known, webhook_events=events or ("job.completed",))


#: Every way in which a job comes to an end, by which process ever.
ENDS: dict[str, Callable[[JobStore, Run, NewJob], Any]] = {
    "success": lambda store, run, job: run(store.finish(claim(job), JobStatus.SUCCESS, result_json=b"1")),
    "failure": lambda store, run, job: run(store.finish(claim(job), JobStatus.FAILED, failure=BROKEN)),
    "end by a bystander": lambda store, run, job: run(store.finish(Claim(job.id), JobStatus.FAILED, failure=BROKEN)),
    "cancel while queued": lambda store, run, job: run(store.cancel(job.id)),
    "cancel, then a retry": lambda store, run, job: _cancel_then(
        store, run, job, store.requeue(claim(job), None, why=Return.RETRY)
    ),
    "cancel, then a lost worker": lambda store, run, job: _cancel_then(store, run, job, store.put_back(job.id)),
}


def _cancel_then(store: JobStore, run: Run, job: NewJob, operation: Any) -> None:
    run(store.start(claim(job)))
    run(store.cancel(job.id))
    wait_until(lambda: run(operation).status is JobStatus.REVOKED, "the end")


@pytest.mark.parametrize("how", ENDS)
def test_no_end_is_forgotten(make_store: MakeStore, how: str) -> None:
    store = make_store(lease_seconds=0.01)
    job = new_job(webhook=COMPLETED)
    store.run(store.create(job))
    assert due(store, store.run) == []
    ENDS[how](store, store.run, job)
    (one,) = due(store, store.run)
    announcement = begin(store, store.run, one)
    record = store.run(store.get(job.id))
    assert record is not None
    assert one == DueAnnouncement(job.id, record.seq)
    assert announcement.type is EventType.COMPLETED
    assert (announcement.status, announcement.rev) == (record.status, record.rev)
    assert announcement.at == record.completed_at


def test_what_a_cancelled_job_submits_is_told_of_as_well(store: JobStore, run: Run) -> None:
    parent, child = new_job(), new_job(webhook=COMPLETED)
    run(store.create(parent))
    run(store.children(parent.id))
    run(store.create(NewJob(child.id, child.task, parent_id=parent.id, webhook=COMPLETED)))
    assert [one.job_id for one in due(store, run)] == [child.id]


def test_only_the_events_that_were_asked_for_are_told(store: JobStore, run: Run) -> None:
    job = new_job(webhook=EVERYTHING)
    run(store.create(job))
    run(store.start(claim(job)))
    run(store.requeue(claim(job), BROKEN))
    run(store.start(claim(job, "second", retries=1)))
    run(store.finish(claim(job, "second"), JobStatus.SUCCESS))
    told = [(one.seq, begin(store, run, one)) for one in due(store, run)]
    assert [
        (seq, what.type, what.status, what.job_attempt) for seq, what in sorted(told, key=lambda pair: pair[0])
    ] == [
        (1, "job.status", "queued", 0),
        (2, "job.status", "running", 1),
        (3, "job.status", "queued", 1),
        (4, "job.attempt", "running", 2),
        (5, "job.status", "running", 2),
        (6, "job.completed", "success", 2),
    ]
    quiet = new_job()
    run(store.create(quiet))
    run(store.cancel(quiet.id))
    assert due(store, run) == []


def test_an_announcement_is_what_the_job_was_when_it_happened(store: JobStore, run: Run) -> None:
    job = new_job(webhook=Webhook(OWN, ["job.status"]), batch_id="b", metadata={"k": "v"})
    run(store.create(job))
    run(store.cancel(job.id))
    run(store.delete(job.id))
    (one,) = due(store, run)
    announcement = begin(store, run, one)
    at, begun_at = announcement.at, announcement.begun_at
    assert at < begun_at
    assert announcement == Announcement(
        EventType.STATUS, at, "embed", JobStatus.QUEUED, 0, 1, 1, begun_at, "b", {"k": "v"}, OWN
    )
    assert "hidden" not in repr(announcement)


def test_the_record_keeps_its_webhook_and_does_not_show_the_address(store: JobStore, run: Run) -> None:
    job = run(store.create(new_job(webhook=EVERYTHING))).job
    assert isinstance(job, Job)
    assert job.webhook == Webhook(OWN, ("job.status", "job.attempt", "job.completed"))
    assert "hidden" not in repr(job)


def test_the_apps_webhook_is_told_of_every_other_job(make_store: MakeStore) -> None:
    store = with_app_webhook(make_store)
    created, own, adopted = new_job(), new_job(webhook=COMPLETED), new_job()
    for job in (created, own):
        store.run(store.create(job))
    for job in (created, own, adopted):
        store.run(store.start(claim(job)))
        store.run(store.finish(claim(job), JobStatus.SUCCESS))
    told = {one.job_id: begin(store, store.run, one).url for one in due(store, store.run)}
    assert told == {created.id: None, own.id: OWN, adopted.id: None}


ADOPTIONS: dict[str, Callable[[JobStore, Claim], Any]] = {
    "start": lambda store, who: store.start(who),
    "report": lambda store, who: store.report(who, None),
    "requeue": lambda store, who: store.requeue(who, BROKEN),
    "finish": lambda store, who: store.finish(who, JobStatus.FAILED, failure=BROKEN),
}


@pytest.mark.parametrize("how", ADOPTIONS)
def test_a_record_that_a_worker_makes_is_told_of_from_its_beginning(make_store: MakeStore, how: str) -> None:
    store = with_app_webhook(make_store, "job.status", "job.completed")
    job = new_job()
    store.run(ADOPTIONS[how](store, claim(job)))
    assert DueAnnouncement(job.id, 1) in due(store, store.run)


def test_what_was_taken_is_left_alone_and_longer_each_time(store: JobStore, run: Run, redis_client: Any) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    waits = []
    for _ in range(9):
        assert len(run(store.take_announcements(100, 60))) == 1
        assert due(store, run) == []
        ((member, moment),) = redis_client.zrange("aijobs:webhooks:due", 0, -1, withscores=True)
        waits.append(round(moment / 1e6 - datetime.now(UTC).timestamp(), -1))
        redis_client.zadd("aijobs:webhooks:due", {member: 0})
    assert waits == [60, 120, 240, 480, 960, 1920, 3840, 3840, 3840]


def test_taking_is_bounded_and_forgets_what_has_expired(store: JobStore, run: Run, redis_client: Any) -> None:
    jobs = [new_job(webhook=COMPLETED) for _ in range(5)]
    for job in jobs:
        run(store.create(job))
        run(store.cancel(job.id))
    assert len(run(store.take_announcements(2, 60))) == 2
    redis_client.delete(f"aijobs:webhook:{jobs[2].id}:2")
    assert {one.job_id for one in due(store, run)} == {jobs[3].id, jobs[4].id}
    assert redis_client.zcard("aijobs:webhooks:due") == 4


def test_an_attempt_begins_once_at_a_time(store: JobStore, run: Run) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    (one,) = due(store, run)
    assert begin(store, run, one).attempt == 1
    assert run(store.begin_delivery(one, APP, 60)) is None


def test_an_attempt_of_a_lost_worker_is_made_again(store: JobStore, run: Run) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    (one,) = due(store, run)
    begin(store, run, one, busy=0.01)
    assert wait_until(lambda: due(store, run), "the event's return") == [one]
    assert begin(store, run, one).attempt == 2
    assert not run(store.settle_delivery(one, APP, attempt(1))), "the first attempt has the event no longer"
    assert run(store.settle_delivery(one, APP, attempt(2)))


def test_attempts_that_never_end_come_ever_more_seldom(store: JobStore, run: Run, redis_client: Any) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    (one,) = due(store, run)
    waits = []
    for number in range(1, 11):
        assert begin(store, run, one, busy=30).attempt == number
        if number == 9:
            assert run(store.settle_delivery(one, APP, attempt(number, DeliveryOutcome.RETRYING, wait=0)))
            continue
        ((_, moment),) = redis_client.zrange("aijobs:webhooks:due", 0, -1, withscores=True)
        waits.append(round(moment / 1e6 - datetime.now(UTC).timestamp(), -1))
        redis_client.hdel(f"aijobs:webhook:{job.id}:2", "next")
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 1920, 30]


def test_a_settled_event_is_gone(store: JobStore, run: Run, redis_client: Any) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    (one,) = due(store, run)
    begin(store, run, one)
    ended = attempt(status_code=204)
    assert run(store.settle_delivery(one, APP, ended))
    assert not run(store.settle_delivery(one, APP, ended))
    assert run(store.begin_delivery(one, APP, 60)) is None
    assert run(store.deliveries(job.id)) == [ended]
    assert redis_client.keys("aijobs:webhook*") == []
    left = redis_client.pttl(f"aijobs:job:{job.id}:webhooks")
    assert 0 < left <= redis_client.pttl(f"aijobs:job:{job.id}") + 1_000


def test_an_event_that_is_tried_again_waits_for_its_time(store: JobStore, run: Run) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    (one,) = due(store, run)
    begin(store, run, one)
    failed = attempt(1, DeliveryOutcome.RETRYING, wait=3_600, error="timeout")
    assert run(store.settle_delivery(one, APP, failed))
    assert not run(store.settle_delivery(one, APP, failed)), "it is in the log already"
    assert due(store, run) == []
    assert run(store.begin_delivery(one, APP, 60)) is None
    assert run(store.deliveries(job.id)) == [failed]


def test_the_log_is_bounded_and_goes_with_the_job(store: JobStore, run: Run, redis_client: Any) -> None:
    job = new_job(webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    (one,) = due(store, run)
    for number in range(1, LOG_LENGTH + 4):
        assert begin(store, run, one).attempt == number
        assert run(store.settle_delivery(one, APP, attempt(number, DeliveryOutcome.RETRYING, wait=0)))
    assert [entry.attempt for entry in run(store.deliveries(job.id))] == list(range(4, LOG_LENGTH + 4))
    run(store.delete(job.id))
    assert run(store.deliveries(job.id)) == []


def test_a_jobs_own_address_is_switched_off_for_this_job(store: JobStore, run: Run) -> None:
    gone, other = (new_job(webhook=EVERYTHING) for _ in range(2))
    for job in (gone, other):
        run(store.create(job))
        run(store.cancel(job.id))
    first = DueAnnouncement(gone.id, 1)
    assert not begin(store, run, first).switched_off
    run(store.settle_delivery(first, APP, attempt(outcome=DeliveryOutcome.GONE, status_code=410), 60))
    assert begin(store, run, DueAnnouncement(gone.id, 2)).switched_off
    assert not begin(store, run, DueAnnouncement(other.id, 1)).switched_off
    assert not run(store.enable_webhook(OWN))


def test_the_apps_address_is_switched_off_for_all_until_it_is_switched_on(make_store: MakeStore) -> None:
    store = with_app_webhook(make_store)
    run = store.run
    jobs = [new_job() for _ in range(4)]
    for job in jobs:
        run(store.create(job))
        run(store.cancel(job.id))
    first, second, third, fourth = (DueAnnouncement(job.id, 2) for job in jobs)
    begin(store, run, first)
    run(store.settle_delivery(first, APP, attempt(outcome=DeliveryOutcome.GONE, status_code=410), 60))
    assert begin(store, run, second).switched_off
    elsewhere = run(store.begin_delivery(third, "https://another.example", 60))
    assert elsewhere is not None
    assert not elsewhere.switched_off
    assert run(store.enable_webhook(APP))
    assert not run(store.enable_webhook(APP))
    assert not begin(store, run, fourth).switched_off


def test_odd_ids_are_told_of_like_others(store: JobStore, run: Run) -> None:
    job = new_job(f"odd\n7:{uuid.uuid4()} é", webhook=COMPLETED)
    run(store.create(job))
    run(store.cancel(job.id))
    assert due(store, run) == [DueAnnouncement(job.id, 2)]


def test_a_replay_goes_on_counting_its_events(store: JobStore, run: Run) -> None:
    job = new_job(webhook=COMPLETED)
    for reopen in (False, True):
        run(store.create(job, reopen=reopen))
        run(store.finish(Claim(job.id), JobStatus.FAILED, failure=Failure(BROKEN.code, "no")))
    assert due(store, run) == [DueAnnouncement(job.id, 2), DueAnnouncement(job.id, 4)]


@pytest.mark.parametrize("events", [(), ("job.progress",), ("job.completed", "job.output"), "job.completed"])
def test_progress_is_never_told(events: Any) -> None:
    with pytest.raises(InvalidWebhook, match=r"job\.status, job\.attempt, job\.completed"):
        Webhook(OWN, events)
