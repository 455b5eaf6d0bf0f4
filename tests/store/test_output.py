"""What attempts give out: in order, once, from the attempt that has the job, and kept as long as it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from aijobs import EventType, JobStatus, Output, Piece
from aijobs.store.base import JobStore
from aijobs.store.redis import RedisStore
from aijobs.store.values import Change, NewJob, OutputEntry, OutputWrite, ProgressWrite, Return
from tests.helpers import Run, claim, new_job, wait_until

from .conftest import MakeStore
from .story import HALF, Story

#: The least that may be set.
LEAST_BYTES = 65_536


def text(value: str) -> OutputEntry:
    return OutputEntry(EventType.OUTPUT, json.dumps({"text": value}, separators=(",", ":")).encode())


def data(value: Any) -> OutputEntry:
    return OutputEntry(EventType.OUTPUT, json.dumps({"data": value}, separators=(",", ":")).encode())


def line(message: str) -> OutputEntry:
    return OutputEntry(EventType.LOG, json.dumps({"level": "info", "message": message, "fields": {}}).encode())


def says(*entries: OutputEntry, before: int = 0) -> OutputWrite:
    return OutputWrite(before, entries)


@pytest.fixture
def story(run: Run, store: JobStore) -> Story:
    story = Story(run, store)
    story.write("start")
    return story


def write(story: Story, *entries: OutputEntry, before: int = 0, token: str = "first") -> Change:
    return story.run(story.store.report(story.claim(token), None, None, says(*entries, before=before)))


def output(story: Story) -> Output | None:
    found = story.run(story.store.output(story.new.id))
    assert found is not None
    assert found[0] == story.job(), "both are of one moment"
    return found[1]


def given_out(story: Story) -> list[tuple[EventType, dict[str, Any]]]:
    kinds = (EventType.OUTPUT, EventType.LOG, EventType.PROGRESS)
    return [(event.type, dict(event.data)) for event in story.events() if event.type in kinds]


def all_text(story: Story) -> str:
    found = output(story)
    return "" if found is None else found.text


class TestWriting:
    def test_each_entry_is_an_event_and_pieces_are_kept(self, story: Story) -> None:
        write(story, text("Hel"), text('lo "✓"\n'), line("a line"), data({"n": [1]}), text("!"))
        assert given_out(story) == [
            (EventType.OUTPUT, {"attempt": 1, "text": "Hel"}),
            (EventType.OUTPUT, {"attempt": 1, "text": 'lo "✓"\n'}),
            (EventType.LOG, {"attempt": 1, "level": "info", "message": "a line", "fields": {}}),
            (EventType.OUTPUT, {"attempt": 1, "data": {"n": [1]}}),
            (EventType.OUTPUT, {"attempt": 1, "text": "!"}),
        ]
        assert output(story) == Output(1, (Piece('Hello "✓"\n'), Piece(None, {"n": [1]}), Piece("!")))

    def test_output_comes_before_the_progress_that_is_written_with_it(self, story: Story) -> None:
        story.run(story.store.report(story.claim(), HALF, None, says(text("a"))))
        assert [kind for kind, _ in given_out(story)] == [EventType.OUTPUT, EventType.PROGRESS]

    def test_output_leaves_the_record_as_it_was(self, story: Story) -> None:
        before = story.job()
        write(story, text("a"), data(1), line("b"))
        after = story.job()
        assert (after.rev, after.expires_at, after.seq) == (before.rev, before.expires_at, before.seq + 3)

    def test_a_record_that_is_given_output_lives_on(self, story: Story, redis_client: redis.Redis) -> None:
        before = story.job()
        redis_client.pexpire(f"aijobs:job:{before.id}", 60_000)
        write(story, text("a"))
        after = story.job()
        assert after.rev == before.rev + 1
        assert after.expires_at > before.expires_at
        write(story, text("b"), before=1)
        assert story.job().rev == after.rev

    def test_without_output_there_is_none(self, story: Story) -> None:
        assert output(story) is None
        write(story, line("only a log"))
        assert output(story) is None

    def test_without_a_record_there_is_nothing(self, run: Run, store: JobStore) -> None:
        assert run(store.output("unknown")) is None

    def test_a_queued_job_shows_its_place(self, run: Run, store: JobStore) -> None:
        waiting = [new_job(), new_job()]
        for new in waiting:
            run(store.create(new))
        found = run(store.output(waiting[1].id))
        assert found is not None
        assert found[0].queue_position == 2

    def test_data_that_looks_like_text_is_data(self, story: Story) -> None:
        pieces: list[Any] = [{"text": "a"}, '{"text":"', None, [], "x"]
        write(story, text('{"text":"'), *map(data, pieces), text('"}'))
        found = output(story)
        assert found is not None
        assert found.pieces == (Piece('{"text":"'), *(Piece(None, one) for one in pieces), Piece('"}'))


class TestRepetition:
    def test_a_write_that_got_no_answer_is_written_once(self, story: Story) -> None:
        write(story, text("a"), data(1))
        before = story.everything()
        assert write(story, text("a"), data(1)).accepted
        assert story.everything() == before
        assert output(story) == Output(1, (Piece("a"), Piece(None, 1)))

    def test_more_may_come_with_the_repetition(self, story: Story) -> None:
        write(story, text("a"))
        write(story, text("a"), line("b"), text("c"))
        write(story, line("b"), text("c"), text("d"), before=1)
        assert [event["text"] for kind, event in given_out(story) if kind is EventType.OUTPUT] == ["a", "c", "d"]
        assert all_text(story) == "acd"

    def test_a_store_that_lost_writes_goes_on(self, story: Story) -> None:
        write(story, text("a"))
        write(story, text("z"), before=7)
        write(story, text("z"), before=7)
        assert all_text(story) == "az"

    @pytest.mark.parametrize("end", ["finish", "requeue"])
    def test_the_end_writes_what_is_left(self, story: Story, end: str) -> None:
        write(story, text("a"))
        rest = says(text("a"), text("b"))
        if end == "finish":
            story.run(story.store.finish(story.claim(), JobStatus.FAILED, output=rest))
        else:
            story.run(story.store.requeue(story.claim(), None, output=rest))
        assert output(story) == Output(1, (Piece("ab"),))
        assert story.events()[-1].type in (EventType.COMPLETED, EventType.STATUS)
        assert [event["text"] for _, event in given_out(story)] == ["a", "b"]

    def test_an_end_that_is_repeated_writes_it_once(self, story: Story) -> None:
        for _ in range(2):
            story.run(story.store.finish(story.claim(), JobStatus.SUCCESS, output=says(text("a"))))
        assert all_text(story) == "a"


class TestAttempts:
    def test_a_new_attempt_voids_what_was_given_out(self, story: Story) -> None:
        write(story, text("first "), text("try"))
        story.write("requeue")
        assert output(story) == Output(1, (Piece("first try"),))
        story.write("start", "second")
        assert output(story) is None
        write(story, text("again"), token="second")
        assert output(story) == Output(2, (Piece("again"),))

    def test_an_attempt_that_does_not_count_starts_anew_too(self, story: Story) -> None:
        write(story, text("first"))
        story.run(story.store.requeue(story.claim(), None, why=Return.RETURNED))
        assert output(story) == Output(1, (Piece("first"),))
        story.write("start", "second")
        write(story, text("again"), token="second")
        assert output(story) == Output(1, (Piece("again"),))
        kinds = [event.type for event in story.events()]
        assert kinds.index(EventType.ATTEMPT) > kinds.index(EventType.OUTPUT)

    def test_a_lost_attempt_is_refused(self, story: Story) -> None:
        write(story, text("a"))
        story.write("start", "second")
        before = story.everything()
        assert not write(story, text("late"), before=1).accepted
        assert not story.run(story.store.requeue(story.claim(), None, output=says(text("late")))).accepted
        assert story.everything() == before
        assert output(story) is None

    def test_a_finished_job_takes_none(self, story: Story) -> None:
        story.write("succeed")
        before = story.everything()
        assert not write(story, text("late")).accepted
        assert story.everything() == before

    def test_an_attempt_whose_start_was_not_written_begins_with_its_output(self, run: Run, store: JobStore) -> None:
        for number, end in enumerate((JobStatus.SUCCESS, JobStatus.FAILED)):
            new = new_job(f"unknown-{number}")
            run(store.finish(claim(new), end, output=says(text("a"))))
            found = run(store.output(new.id))
            assert found is not None
            assert (found[0].attempt, found[1]) == (1, Output(1, (Piece("a"),)))

    def test_a_new_run_begins_without(self, story: Story) -> None:
        write(story, text("a"))
        story.write("fail")
        assert all_text(story) == "a"
        story.run(story.store.create(story.new, reopen=True))
        assert output(story) is None
        story.write("start", "second")
        write(story, text("b"), token="second")
        assert output(story) == Output(1, (Piece("b"),))


class TestBounds:
    def bounded(self, make_store: MakeStore) -> tuple[JobStore, NewJob]:
        store, new = make_store(output_bytes=LEAST_BYTES), new_job()
        store.run(store.start(claim(new)))
        return store, new

    def found(self, store: JobStore, new: NewJob) -> Output:
        found = store.run(store.output(new.id))
        assert found is not None
        assert found[1] is not None
        return found[1]

    def say(self, store: JobStore, new: NewJob, before: int, *entries: OutputEntry) -> None:
        store.run(store.report(claim(new), None, None, says(*entries, before=before)))

    def test_the_oldest_goes_first(self, make_store: MakeStore) -> None:
        store, new = self.bounded(make_store)
        numbers = [f"{number:>9}" for number in range(12_000)]
        for place in range(0, len(numbers), 400):
            self.say(store, new, place, *map(text, numbers[place : place + 400]))
        found = self.found(store, new)
        assert found.truncated
        assert "".join(numbers).endswith(found.text)
        assert LEAST_BYTES - 5_000 < len(found.text) <= LEAST_BYTES

    def test_what_fits_is_whole(self, make_store: MakeStore) -> None:
        store, new = self.bounded(make_store)
        for place in range(60):
            self.say(store, new, place, text("x" * 1_000))
        assert self.found(store, new) == Output(1, (Piece("x" * 60_000),))

    def test_the_newest_piece_stays_however_long_it_is(self, make_store: MakeStore) -> None:
        store, new = self.bounded(make_store)
        for place in range(3):
            self.say(store, new, place, data(str(place) * 64_900))
        assert self.found(store, new) == Output(1, (Piece(None, "2" * 64_900),), truncated=True)

    def test_short_texts_take_little_room(self, make_store: MakeStore, redis_client: redis.Redis) -> None:
        store, new = self.bounded(make_store)
        for place in range(0, 10_000, 500):
            self.say(store, new, place, *[text("token")] * 500)
        lines: Any = redis_client.llen(f"aijobs:job:{new.id}:output")
        assert lines <= 15
        assert self.found(store, new) == Output(1, (Piece("token" * 10_000),))

    def test_the_count_of_bytes_is_right(self, make_store: MakeStore, redis_client: redis.Redis) -> None:
        store, new = self.bounded(make_store)
        entries = [
            text("é\n" * 700),
            data([1, 2]),
            text("a"),
            text("b" * 4_000),
            text("c"),
            line("no output"),
            text("d"),
        ]
        for place, entry in enumerate(entries * 9):
            self.say(store, new, place, entry)
        key = f"aijobs:job:{new.id}"
        lines: Any = redis_client.lrange(f"{key}:output", 0, -1)
        assert sum(map(len, lines)) == int(redis_client.hget(key, "output_bytes") or 0)

    def test_a_new_attempt_is_not_truncated(self, make_store: MakeStore) -> None:
        store, new = self.bounded(make_store)
        for place in range(2):
            self.say(store, new, place, text(str(place) * 64_000))
        assert self.found(store, new).truncated
        store.run(store.start(claim(new, "second")))
        store.run(store.report(claim(new, "second"), None, None, says(text("a"))))
        assert self.found(store, new) == Output(2, (Piece("a"),))


class TestRetention:
    def test_it_leaves_with_the_record(self, make_store: MakeStore, redis_client: redis.Redis) -> None:
        store, new = make_store(retention_seconds=0.05), new_job()
        store.run(store.start(claim(new)))
        store.run(store.finish(claim(new), JobStatus.SUCCESS, output=says(text("a"))))
        wait_until(lambda: store.run(store.output(new.id)) is None, "the end of the retention")
        wait_until(lambda: not redis_client.exists(f"aijobs:job:{new.id}:output"), "the end of the output")

    def test_each_change_renews_it(self, redis_store: RedisStore, redis_client: redis.Redis) -> None:
        new = new_job()
        redis_store.run(redis_store.start(claim(new)))
        redis_store.run(redis_store.report(claim(new), None, None, says(text("a"))))
        key = f"aijobs:job:{new.id}"
        assert redis_client.pttl(f"{key}:output") == pytest.approx(redis_client.pttl(key), abs=1_000)
        redis_client.expire(f"{key}:output", 60)
        redis_store.run(redis_store.report(claim(new), ProgressWrite(0.5, "{}")))
        assert redis_client.pttl(f"{key}:output") == pytest.approx(redis_client.pttl(key), abs=1_000)

    def test_it_is_deleted_with_the_record(self, story: Story, redis_client: redis.Redis) -> None:
        write(story, text("a"))
        story.write("succeed")
        assert story.run(story.store.delete(story.new.id))
        assert not list(redis_client.scan_iter(f"aijobs:job:{story.new.id}*"))


class TestTogether:
    def test_each_operation_has_its_own_answer(self, store: JobStore) -> None:
        jobs = [new_job() for _ in range(20)]
        changes = store.run_all([store.start(claim(new)) for new in jobs])
        assert changes == [Change(True, JobStatus.RUNNING, 1, False)] * 20
        found: Sequence[Any] = store.run_all([store.get(new.id) for new in jobs])
        assert [job.id for job in found] == [new.id for new in jobs]

    def test_scripts_that_the_server_forgot_are_sent_again(self, store: JobStore, redis_client: redis.Redis) -> None:
        new = new_job()
        redis_client.script_flush()
        changes = store.run_all([store.start(claim(new)), store.start(claim(new)), store.report(claim(new), HALF)])
        assert [getattr(change, "accepted", None) for change in changes] == [True, True, True]

    def test_what_goes_wrong_with_one_concerns_no_other(self, store: JobStore, redis_client: redis.Redis) -> None:
        broken, fine = new_job(), new_job()
        redis_client.set(f"aijobs:job:{broken.id}", "not a record", ex=60)
        answers = store.run_all([store.start(claim(broken)), store.start(claim(fine))])
        assert "WRONGTYPE" in str(answers[0])
        assert answers[1] == Change(True, JobStatus.RUNNING, 1, False)

    def test_nothing_is_nothing(self, store: JobStore) -> None:
        assert store.run_all([]) == []
