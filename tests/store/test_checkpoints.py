"""What attempts keep for those after them: when it stays, when it goes, and who may write it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from aijobs import JobStatus
from aijobs.store import JobStore
from aijobs.store.redis import RedisStore
from aijobs.store.values import Change, Claim, Creation, Failure, Keeping, NewJob, Return
from aijobs.worker.claims import new_token
from tests.helpers import claim, new_job

from .story import BROKEN, Story

ENOUGH = 1_000


def keep(story: Story, name: str, value: str, token: str = "first", most: int = ENOUGH) -> Keeping:
    return story.run(story.store.keep(story.claim(token), name, value, most))


def kept(story: Story) -> dict[str, str]:
    found = story.run(story.store.kept(story.new.id))
    return dict(found)


# Writing and reading


def test_what_is_kept_is_read_again(story: Story) -> None:
    assert kept(story) == {}
    story.write("start")
    assert keep(story, "page", "7") == Keeping(Change(True, JobStatus.RUNNING, 1, False), 5)
    assert keep(story, "größe", '"ü"').size == 5 + 7 + 4
    assert kept(story) == {"page": "7", "größe": '"ü"'}


def test_a_name_holds_what_came_last_and_counts_once(story: Story) -> None:
    story.write("start")
    sizes = [keep(story, "page", value).size for value in ("7", "1234", "1234", "8")]
    assert sizes == [5, 8, 8, 5]
    assert kept(story) == {"page": "8"}


def test_what_is_kept_changes_nothing_that_others_see(story: Story) -> None:
    story.write("start")
    before = story.everything()
    keep(story, "page", "7")
    assert story.everything() == before


def test_more_than_may_be_is_refused_and_leaves_what_was_there(story: Story) -> None:
    story.write("start")
    keep(story, "page", "7")
    refused = keep(story, "more", "123456", most=14)
    assert (refused.change.accepted, refused.size) == (True, 15)
    assert kept(story) == {"page": "7"}
    assert keep(story, "more", "12345", most=14).size == 14
    assert keep(story, "page", "77", most=14).size == 15
    assert kept(story) == {"page": "7", "more": "12345"}


# Who may write


def test_an_attempt_that_lost_the_job_keeps_nothing_more(story: Story) -> None:
    story.write("start")
    keep(story, "page", "7")
    story.write("requeue")
    story.write("start", "second")
    assert not keep(story, "page", "8", "first").change.accepted
    assert kept(story) == {"page": "7"}
    assert keep(story, "page", "9", "second").change.accepted
    assert kept(story) == {"page": "9"}


@pytest.mark.parametrize("end", ["fail", "revoke", "succeed"])
def test_nothing_is_kept_of_a_job_that_is_over(story: Story, end: str) -> None:
    story.write("start")
    story.write(end)
    assert not keep(story, "page", "7").change.accepted
    assert kept(story) == {}


def test_a_write_tells_that_the_job_is_to_be_cancelled_and_counts_all_the_same(story: Story) -> None:
    story.write("start")
    story.write("cancel")
    assert keep(story, "page", "7").change == Change(True, JobStatus.RUNNING, 1, True)
    assert kept(story) == {"page": "7"}


def test_an_attempt_whose_start_was_not_written_may_keep_something(story: Story) -> None:
    assert keep(story, "page", "7").change == Change(True, JobStatus.RUNNING, 1, False)
    assert (story.job().status, kept(story)) == ("running", {"page": "7"})


def test_a_job_without_a_record_gets_one(store: JobStore, redis_client: redis.Redis) -> None:
    unknown = new_job()
    answer = store.run(store.keep(claim(unknown), "page", "7", ENOUGH))
    assert answer.change.accepted
    assert store.run(store.kept(unknown.id)) == {"page": "7"}


# How long it stays


@pytest.mark.parametrize(
    "happens",
    [
        lambda story: story.write("requeue"),
        lambda story: story.run(story.store.requeue(story.claim(), BROKEN, why=Return.RETRY)),
        lambda story: story.run(story.store.requeue(story.claim(), None, why=Return.RETURNED)),
        lambda story: story.run(story.store.requeue(story.claim(), BROKEN, why=Return.LOST)),
        lambda story: story.write("fail"),
        lambda story: story.write("revoke"),
        lambda story: story.write("start", "second"),
    ],
    ids=["rejected", "retry", "returned", "lost", "failed", "revoked", "redelivered"],
)
def test_it_outlives_the_attempt(story: Story, happens: Callable[[Story], object]) -> None:
    story.write("start")
    keep(story, "page", "7")
    happens(story)
    assert kept(story) == {"page": "7"}


def test_it_goes_with_success(story: Story, redis_client: redis.Redis) -> None:
    story.write("start")
    keep(story, "page", "7")
    story.write("succeed")
    assert kept(story) == {}
    assert not redis_client.exists(f"aijobs:job:{story.new.id}:kept")


def test_it_goes_with_the_record(story: Story, redis_client: redis.Redis) -> None:
    story.write("start")
    keep(story, "page", "7")
    story.write("fail")
    assert story.run(story.store.delete(story.new.id))
    assert not redis_client.exists(f"aijobs:job:{story.new.id}:kept")


def test_it_lives_as_long_as_the_record(story: Story, redis_client: redis.Redis) -> None:
    key = f"aijobs:job:{story.new.id}"
    story.write("start")
    keep(story, "page", "7")
    for happens in ("report", "cancel", "fail"):
        story.write(happens)
        assert redis_client.pttl(f"{key}:kept") == pytest.approx(redis_client.pttl(key), abs=1_000)


def test_a_replay_goes_on_with_it(story: Story) -> None:
    story.write("start")
    keep(story, "page", "7")
    story.write("fail")
    again = story.store.create(story.new, reopen=True, at_rev=story.job().rev)
    assert story.run(again).outcome is Creation.CREATED
    assert kept(story) == {"page": "7"}
    story.write("start", "second")
    assert keep(story, "more", "1", "second").size == 10


def test_another_run_under_the_same_id_starts_without_it(story: Story) -> None:
    story.write("start")
    keep(story, "page", "7")
    story.write("fail")
    story.run(story.store.create(story.new))
    assert kept(story) == {"page": "7"}, "nothing was created"
    story.run(story.store.create(story.new, reopen=True))
    assert kept(story) == {}


# Tasks that are replaced by another


def replacement(story: Story) -> Claim:
    return claim(story.new, new_token(), replacements=1)


@pytest.mark.parametrize("reported", [True, False])
def test_a_task_that_replaces_another_starts_without_it(story: Story, reported: bool) -> None:
    story.write("start")
    keep(story, "page", "7")
    if reported:
        story.run(story.store.requeue(story.claim(), None, why=Return.REPLACED))
    other = replacement(story)
    assert story.run(story.store.start(other)).accepted
    assert kept(story) == {}
    assert story.run(story.store.keep(other, "page", "1", ENOUGH)).size == 5
    retried = claim(story.new, "later", replacements=1, retries=1)
    story.run(story.store.requeue(other, Failure(BROKEN.code, "again"), why=Return.RETRY))
    assert story.run(story.store.start(retried)).accepted
    assert kept(story) == {"page": "1"}


def test_a_message_made_again_of_the_first_task_starts_without_what_the_other_kept(story: Story) -> None:
    story.write("start")
    other = replacement(story)
    story.run(story.store.start(other))
    story.run(story.store.keep(other, "page", "1", ENOUGH))
    story.run(story.store.requeue(other, None, why=Return.REJECTED))
    assert story.run(story.store.sent_again(story.new.id, story.job().rev, 30))
    story.write("start", "again")
    assert kept(story) == {}


# In the server


def test_many_names_are_counted_without_reading_them(redis_store: RedisStore, redis_client: redis.Redis) -> None:
    new: NewJob = new_job()
    redis_store.run(redis_store.create(new))
    sizes = [redis_store.run(redis_store.keep(claim(new), f"step:{n}", json.dumps(n), 10_000)).size for n in range(300)]
    everything = redis_store.run(redis_store.kept(new.id))
    assert len(everything) == 300
    assert sizes[-1] == sum(len(name) + len(value) for name, value in everything.items())
