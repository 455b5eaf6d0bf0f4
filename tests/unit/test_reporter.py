"""Output of a running attempt: at once at first, coalesced later, in order, once, and none of it lost."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aijobs import JobCancelled, JobStatus, LeaseLost, LogEntry, Output, Piece, Progress, StoreUnavailable
from aijobs.embedded import EmbeddedServer, start_server
from aijobs.job import EventType
from aijobs.settings import Settings
from aijobs.store.base import JobStore, Operation
from aijobs.store.redis import RedisStore
from aijobs.store.values import Change, Return
from aijobs.worker.flusher import write_together
from aijobs.worker.progress import MOST_WAITING, Reporter
from aijobs.worker.writes import LastWords
from tests.helpers import PATIENT, claim, frozen, new_job, wait_until

#: Seconds; so long that nothing but the first piece is written by itself.
NEVER = 3_600.0
BRIEF = 0.01
#: What a finalizer raises gets nowhere, a connection that is only half there would not be closed, and a handler is not
#: to be interrupted by itself.
_SPARED = ("__del__", "_connect", "disconnect", "interrupt")


_speakers: list[Speaker] = []


@pytest.fixture(autouse=True)
def _all_fall_silent() -> Iterator[None]:
    """The thread that writes outlives a test, and would look for its server."""
    yield
    while _speakers:
        _speakers.pop().reporter.close()


class Speaker:
    """A running job and the reporter of its attempt."""

    def __init__(
        self, store: JobStore, output_interval: float = BRIEF, interval: float = BRIEF, never_waits: bool = False
    ) -> None:
        self.store = store
        self.new = new_job()
        store.run(store.start(claim(self.new)))
        self.reporter = Reporter(store, claim(self.new), interval, output_interval, never_waits=never_waits)
        _speakers.append(self)

    def say(self, *pieces: Any) -> None:
        for piece in pieces:
            self.reporter.emit(Piece(piece) if isinstance(piece, str) else Piece(None, piece))

    def output(self) -> Output:
        found = self.store.run(self.store.output(self.new.id))
        assert found is not None
        return found[1] or Output(0)

    def text(self) -> str:
        return self.output().text

    def events(self, *kinds: EventType) -> list[dict[str, Any]]:
        events = self.store.run(self.store.events(self.new.id, limit=10_000))
        return [dict(event.data) for event in events if event.type in kinds]

    def end(self) -> LastWords:
        last = self.reporter.close()
        finish = self.store.finish(claim(self.new), JobStatus.SUCCESS, progress=last.progress, output=last.output)
        self.store.run(finish)
        return last


class TestWriting:
    def test_the_first_piece_is_written_at_once(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER)
        speaker.say("first", "second")
        assert speaker.text() == "first"

    def test_the_last_piece_is_written_without_another_call(self, store: RedisStore) -> None:
        speaker = Speaker(store)
        speaker.say("a", "b", "c")
        wait_until(lambda: speaker.text() == "abc", "the last piece")

    def test_many_tokens_are_few_events(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER)
        speaker.say(*["token "] * 10_000)
        speaker.end()
        assert speaker.text() == "token " * 10_000
        assert len(speaker.events(EventType.OUTPUT)) <= 3

    def test_what_is_said_stays_in_order(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER)
        speaker.say("a", "b", {"n": 1}, "c")
        speaker.reporter.log(LogEntry("a line", "warning", {"n": 2}))
        speaker.say("d", "e")
        speaker.end()
        assert speaker.events(EventType.OUTPUT, EventType.LOG) == [
            {"attempt": 1, "text": "a"},
            {"attempt": 1, "text": "b"},
            {"attempt": 1, "data": {"n": 1}},
            {"attempt": 1, "text": "c"},
            {"attempt": 1, "level": "warning", "message": "a line", "fields": {"n": 2}},
            {"attempt": 1, "text": "de"},
        ]
        assert speaker.output() == Output(1, (Piece("ab"), Piece(None, {"n": 1}), Piece("cde")))

    def test_empty_text_is_nothing(self, store: RedisStore) -> None:
        speaker = Speaker(store)
        speaker.say("", "", "a", "")
        speaker.end()
        assert len(speaker.events(EventType.OUTPUT)) == 1

    def test_progress_follows_the_output_before_it_and_keeps_its_own_interval(self, store: RedisStore) -> None:
        speaker = Speaker(store, output_interval=0.0, interval=NEVER)
        speaker.say("a")
        speaker.reporter.report(Progress(1, 10))
        speaker.reporter.report(Progress(2, 10))
        speaker.say("b")
        speaker.say("c")
        assert speaker.text() == "abc"
        assert len(speaker.events(EventType.PROGRESS)) == 1
        assert speaker.end().progress is not None
        job = speaker.store.run(speaker.store.get(speaker.new.id))
        assert job is not None
        assert job.progress_detail is not None
        assert job.progress_detail.current == 2

    def test_a_report_takes_waiting_output_with_it(self, store: RedisStore) -> None:
        speaker = Speaker(store, output_interval=NEVER, interval=0.0)
        speaker.say("a", "b")
        speaker.reporter.report(Progress(1, 10))
        assert speaker.text() == "ab"

    def test_progress_that_waits_is_written_though_output_was_due_before(self, store: RedisStore) -> None:
        speaker = Speaker(store, output_interval=0.01, interval=0.1)
        speaker.reporter.report(Progress(1, 10))
        speaker.say("a")
        speaker.reporter.report(Progress(2, 10))
        speaker.say("b")
        wait_until(lambda: len(speaker.events(EventType.PROGRESS)) == 2, "the last report")

    def test_threads_may_speak_together(self, store: RedisStore) -> None:
        speaker = Speaker(store)

        def say(who: int) -> None:
            for number in range(1_000):
                speaker.say({"who": who, "n": number})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(say, range(4)))
        speaker.end()
        pieces = [piece.data for piece in speaker.output().pieces]
        assert len(pieces) == 4_000
        for who in range(4):
            assert [one["n"] for one in pieces if one["who"] == who] == list(range(1_000))

    def test_much_at_once_is_all_written(self, store: RedisStore) -> None:
        speaker = Speaker(RedisStore(store.url, PATIENT.model_copy(update={"output_bytes": 64_000_000})))
        parts = [str(number % 10) * 100_000 for number in range(30)]
        speaker.say(*parts)
        speaker.end()
        assert speaker.text() == "".join(parts)

    def test_many_jobs_are_written_together(self, store: RedisStore) -> None:
        speakers = [Speaker(store, never_waits=True) for _ in range(120)]
        for number in range(3):
            for speaker in speakers:
                speaker.say(f"{number} ")
        wait_until(lambda: all(speaker.text() == "0 1 2 " for speaker in speakers), "the output of all")


class TestEnding:
    def test_what_waits_comes_with_the_end(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER)
        speaker.say("a", "b", "c")
        last = speaker.end()
        assert last.unwritten
        assert speaker.text() == "abc"
        assert [event.type for event in store.run(store.events(speaker.new.id))][-1] is EventType.COMPLETED

    def test_what_was_written_already_is_no_news(self, store: RedisStore) -> None:
        speaker = Speaker(store)
        speaker.say("a")
        assert speaker.end() == LastWords()

    def test_nothing_is_said_after_the_end(self, store: RedisStore) -> None:
        speaker = Speaker(store, 0.0)
        speaker.say("a")
        speaker.end()
        speaker.say("late")
        speaker.reporter.flush()
        assert speaker.text() == "a"

    def test_an_end_in_the_middle_of_a_write_writes_nothing_twice(self, store: RedisStore) -> None:
        for _ in range(30):
            speaker = Speaker(store, 0.0, never_waits=True)
            # The thread is about to write this, or is writing it.
            speaker.say("a", "b")
            speaker.end()
            assert speaker.text() == "ab"
            assert "".join(event["text"] for event in speaker.events(EventType.OUTPUT)) == "ab"


class TestInterruption:
    def test_a_cancelled_job_is_stopped_at_its_next_piece(self, store: RedisStore) -> None:
        speaker = Speaker(store, 0.0)
        speaker.say("a")
        store.run(store.cancel(speaker.new.id))
        with pytest.raises(JobCancelled):
            speaker.say("b")
        with pytest.raises(JobCancelled):
            speaker.say("c")

    def test_the_thread_learns_of_a_cancel(self, store: RedisStore) -> None:
        speaker = Speaker(store)
        speaker.say("a")
        store.run(store.cancel(speaker.new.id))

        def is_stopped() -> bool:
            try:
                speaker.reporter.log(LogEntry("on and on"))
            except JobCancelled:
                return True
            return False

        wait_until(is_stopped, "the cancel")

    def test_what_cleans_up_after_a_cancel_may_speak(self, store: RedisStore) -> None:
        speaker = Speaker(store, 0.0)
        store.run(store.cancel(speaker.new.id))

        def work() -> None:
            try:
                speaker.say("a")
            finally:
                speaker.say("b")

        with pytest.raises(JobCancelled):
            work()
        speaker.end()
        assert speaker.text() == "ab"

    def test_an_attempt_that_lost_its_job_says_nothing_more(self, store: RedisStore) -> None:
        speaker = Speaker(store, 0.0)
        speaker.say("a")
        store.run(store.requeue(claim(speaker.new), None, why=Return.RETURNED))
        store.run(store.start(claim(speaker.new, "second")))
        for _ in range(2):
            with pytest.raises(LeaseLost):
                speaker.say("late")
        assert speaker.reporter.close() == LastWords()
        assert speaker.output() == Output(0)

    def test_an_exception_from_outside_neither_loses_nor_doubles(
        self, store: RedisStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Interrupts come at any instruction, as a signal's handler raises them."""
        # One that comes in a callback of a weak reference gets nowhere.
        monkeypatch.setattr(sys, "unraisablehook", bool)
        speaker = Speaker(store, 0.001)
        said, unsure = self.say_under_fire(speaker, 5_000)
        speaker.end()
        pieces = [piece.data for piece in speaker.output().pieces]
        assert pieces == sorted(set(pieces)), "in order, and none twice"
        assert said <= set(pieces) <= said | unsure, "none lost"
        assert unsure, "there was an interrupt"

    def say_under_fire(self, speaker: Speaker, most: int) -> tuple[set[int], set[int]]:
        class Interrupted(Exception):
            pass

        entry = Speaker.say.__code__

        def interrupt(number: int, frame: Any) -> None:
            while frame is not None and frame.f_code is not entry and frame.f_code.co_name not in _SPARED:
                frame = frame.f_back
            if frame is not None and frame.f_code is entry:
                raise Interrupted

        said, unsure = set[int](), set[int]()
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        try:
            number = 0
            while number < most or not unsure:
                number += 1
                try:
                    speaker.say(number)
                    said.add(number)
                except Interrupted:
                    unsure.add(number)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return said, unsure


class Observed(RedisStore):
    """A store that knows which threads wrote to it."""

    def __init__(self, url: str) -> None:
        super().__init__(url, PATIENT)
        self.writers: set[str] = set()

    def run(self, operation: Operation[Any]) -> Any:
        self.writers.add(threading.current_thread().name)
        return super().run(operation)


class TestEventLoops:
    @pytest.mark.parametrize("on_loop", [True, False])
    def test_who_cannot_wait_leaves_all_writing_to_the_thread(self, redis_url: str, on_loop: bool) -> None:
        store = Observed(redis_url)
        speaker = Speaker(store, 0.0, never_waits=not on_loop)
        store.writers.clear()

        async def say() -> None:
            speaker.say(*"abcdef")
            speaker.reporter.report(Progress(1, 2))

        if on_loop:
            asyncio.run(say())
        else:
            speaker.say(*"abcdef")
            speaker.reporter.report(Progress(1, 2))
        assert threading.current_thread().name not in store.writers
        wait_until(lambda: speaker.text() == "abcdef" and speaker.events(EventType.PROGRESS), "the writes")

    def test_the_thread_of_a_loop_may_wait(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER)

        async def say() -> None:
            await asyncio.to_thread(speaker.say, "a", "b")
            assert speaker.text() == "a"

        asyncio.run(say())

    def test_a_great_burst_is_not_refused(self, store: RedisStore) -> None:
        speaker = Speaker(RedisStore(store.url, PATIENT.model_copy(update={"output_bytes": 64_000_000})))

        async def say() -> None:
            speaker.say(*["x" * 50_000] * 50)

        asyncio.run(say())
        wait_until(lambda: len(speaker.text()) == 2_500_000, "all of it")

    def test_without_end_it_is(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER)

        async def say() -> None:
            for _ in range(1_000):
                speaker.say("x" * 50_000)

        with pytest.raises(StoreUnavailable, match="gives out more than the store takes"):
            asyncio.run(say())


class TestOutage:
    @pytest.fixture
    def server(self) -> Iterator[EmbeddedServer]:
        with start_server(use_environment=False) as server:
            yield server

    @pytest.fixture
    def speaker(self, server: EmbeddedServer) -> Speaker:
        return Speaker(RedisStore(server.url, Settings()), 0.0)

    def test_the_task_goes_on_and_nothing_is_lost_or_doubled(
        self, server: EmbeddedServer, speaker: Speaker, caplog: pytest.LogCaptureFixture
    ) -> None:
        with frozen(server):
            speaker.say(*(f"{number} " for number in range(1_000)))
            wait_until(lambda: "wait: The job store at" in caplog.text, "the outage")
            speaker.say("end")
        expected = "".join(f"{number} " for number in range(1_000)) + "end"
        # What was sent while the server stood still is carried out when it goes on, though nobody waits for the answer.
        wait_until(lambda: text_of(speaker) == expected, "the output")
        assert "".join(event["text"] for event in speaker.events(EventType.OUTPUT)) == expected

    def test_a_task_waits_when_too_much_waits_to_be_written(self, server: EmbeddedServer, speaker: Speaker) -> None:
        part = "x" * 65_536
        talking = threading.Thread(target=lambda: speaker.say(*[part] * 48))
        with frozen(server):
            talking.start()
            wait_until(lambda: speaker.reporter._backlog.size >= MOST_WAITING, "too much")
            assert talking.is_alive()
        talking.join()
        assert speaker.reporter._backlog.size <= MOST_WAITING + len(part)
        wait_until(lambda: speaker.reporter._backlog.size == 0, "the rest")

    @pytest.mark.parametrize("never_waits", [True, False])
    def test_what_the_store_logs_may_be_forwarded_too(self, redis_url: str, never_waits: bool) -> None:
        logger = logging.getLogger("tests.talkative")
        logger.setLevel(logging.DEBUG)
        speaker = Speaker(Talkative(redis_url, logger), 0.0, never_waits=never_waits)
        logger.addHandler(handler := Forwarding(speaker))
        try:
            speaker.say(*"abcdef")
            wait_until(lambda: speaker.text() == "abcdef", "the output")
            wait_until(lambda: len(speaker.events(EventType.LOG)) > 2, "the log")
        finally:
            logger.removeHandler(handler)

    @pytest.mark.parametrize("on_loop", [True, False])
    def test_who_cannot_wait_is_told(self, server: EmbeddedServer, on_loop: bool) -> None:
        speaker = Speaker(RedisStore(server.url, Settings()), 0.0, never_waits=not on_loop)

        def say() -> None:
            while True:
                speaker.say("x" * 65_536)

        async def say_on_loop() -> None:
            say()

        with frozen(server), pytest.raises(StoreUnavailable, match="gives out more than the store takes"):
            asyncio.run(say_on_loop()) if on_loop else say()

    def test_a_log_that_is_forwarded_to_the_job_does_not_stop_it(
        self, server: EmbeddedServer, speaker: Speaker
    ) -> None:
        handler = Forwarding(speaker)
        logging.getLogger("aijobs").addHandler(handler)
        try:
            with frozen(server):
                speaker.say("a", "b")
            talking = threading.Thread(target=lambda: speaker.say(*["x" * 65_536] * 20))
            with frozen(server):
                talking.start()
                wait_until(lambda: speaker.reporter._backlog.size >= MOST_WAITING, "too much")
            talking.join()
            wait_until(lambda: speaker.events(EventType.LOG), "the forwarded log")
        finally:
            logging.getLogger("aijobs").removeHandler(handler)

    def test_the_end_of_an_attempt_brings_what_the_outage_kept(self, server: EmbeddedServer, speaker: Speaker) -> None:
        with frozen(server):
            speaker.say("a", "b", "c")
            last = speaker.reporter.close()
        finish = speaker.store.finish(claim(speaker.new), JobStatus.SUCCESS, output=last.output)
        wait_until(lambda: is_done(lambda: speaker.store.run(finish)), "the end")
        assert speaker.text() == "abc"


class Forwarding(logging.Handler):
    """Writes what is logged into the events of a job."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__()
        self.speaker = speaker

    def emit(self, record: logging.LogRecord) -> None:
        self.speaker.reporter.log(LogEntry(record.getMessage(), record.levelname.lower()))


class Talkative(RedisStore):
    """A store that logs each exchange while it makes it."""

    def __init__(self, url: str, logger: logging.Logger) -> None:
        super().__init__(url, PATIENT)
        self.logger = logger

    def run(self, operation: Operation[Any]) -> Any:
        if threading.current_thread() is threading.main_thread():
            self.logger.debug("one operation")
        return super().run(operation)

    def run_all(self, operations: Sequence[Operation[Any]]) -> Any:
        self.logger.debug("%d operations", len(operations))
        return super().run_all(operations)


class Failing:
    """What the thread that writes is not to suffer from."""

    def __init__(self, store: JobStore) -> None:
        self.store = store

    def begin(self) -> Operation[Change]:
        raise RuntimeError("It has nothing to write after all.")

    def end(self, outcome: Change | StoreUnavailable) -> None: ...


class TestTheThread:
    @pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
    def test_who_fails_holds_up_nobody(self, store: RedisStore) -> None:
        speaker = Speaker(store, NEVER, never_waits=True)
        speaker.reporter.emit(Piece("a"))
        write_together([speaker.reporter, Failing(store)])
        assert speaker.text() == "a"
        speaker.reporter.emit(Piece("b"))
        write_together([Failing(store), speaker.reporter])
        assert speaker.text() == "ab"

    def test_a_report_that_cannot_be_written_does_not_end_all_writing(self, store: RedisStore) -> None:
        speaker = Speaker(store, 0.0, 0.0, never_waits=True)
        speaker.reporter.report(Progress(1, "ten"))  # type: ignore[arg-type]
        wait_until(lambda: speaker.reporter._planned == math.inf, "the attempt to write it")
        speaker.reporter.report(Progress(1, 10))
        speaker.say("a")
        wait_until(lambda: speaker.text() == "a", "what came after it")

    def test_it_hears_of_no_cancel_through_a_log_that_is_forwarded(self, store: RedisStore) -> None:
        logger = logging.getLogger("tests.talkative")
        logger.setLevel(logging.DEBUG)
        talkative = Talkative(store.url, logger)
        cancelled, other = Speaker(talkative, 0.0, never_waits=True), Speaker(talkative, 0.0, never_waits=True)
        other.store = store
        store.run(store.cancel(cancelled.new.id))
        cancelled.say("a")
        wait_until(lambda: cancelled.reporter._interruption is JobCancelled, "the cancel")
        logger.addHandler(handler := Forwarding(cancelled))
        try:
            other.say("b")
            wait_until(lambda: other.text() == "b", "the output of the other job")
        finally:
            logger.removeHandler(handler)


def text_of(speaker: Speaker) -> str | None:
    try:
        return speaker.text()
    except StoreUnavailable:
        return None


def is_done(call: Callable[[], Any]) -> bool:
    try:
        call()
    except StoreUnavailable:
        return False
    return True


def test_a_forked_process_has_a_thread_of_its_own(store: RedisStore) -> None:
    before = Speaker(store)
    before.say("a", "b")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            speaker = Speaker(RedisStore(store.url, PATIENT), never_waits=True)
            speaker.say("a", "b")
            wait_until(lambda: speaker.text() == "ab", "the output of the child")
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait_until(lambda: before.text() == "ab", "the output of the parent")
