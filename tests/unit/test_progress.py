"""Reports: the first at once, the last always, few in between, and none that keeps the task waiting."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aijobs import Job, JobCancelled, JobStatus, Progress
from aijobs.embedded import start_server
from aijobs.job import EventType
from aijobs.settings import Settings
from aijobs.store import JobStore
from aijobs.store.redis import RedisStore
from aijobs.store.values import Claim, NewJob, Return
from aijobs.worker.attempt import Attempt
from aijobs.worker.attempts import WorkerAttempt, attempt_of_helper, close_attempt, enter_job, open_attempt
from aijobs.worker.exceptions import LeaseLost
from aijobs.worker.progress import Reporter
from aijobs.worker.writes import LastWords
from tests.helpers import claim, new_job, wait_until

#: Seconds; so long that nothing but the first report is written by itself.
NEVER = 3_600.0


class Running:
    """A running job and the reporters of its attempts."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.new: NewJob = new_job()
        store.run(store.start(claim(self.new)))

    def reporter(self, interval: float, token: str = "first") -> Reporter:
        settings = Settings().model_copy(update={"progress_interval_seconds": interval})
        return open_attempt(self.store, claim(self.new, token), settings).reporter

    def job(self) -> Job:
        job = self.store.run(self.store.get(self.new.id))
        assert job is not None
        return job

    def written(self) -> list[float | None]:
        """The fractions that were written, in order."""
        events = self.store.run(self.store.events(self.new.id, limit=1_000))
        return [event.data["progress"] for event in events if event.type is EventType.PROGRESS]


@pytest.fixture
def running(store: RedisStore) -> Iterator[Running]:
    yield Running(store)
    for token in ("first", "second"):
        close_attempt(token)


def part(done: float) -> Progress:
    return Progress(current=done, total=100, unit="pages")


def test_the_first_report_is_written_at_once(running: Running) -> None:
    running.reporter(NEVER).report(part(25))
    job = running.job()
    assert job.progress == 0.25
    assert job.progress_detail == part(25)


def test_the_last_report_is_written_without_another_call(running: Running) -> None:
    reporter = running.reporter(0.05)
    for done in range(1, 51):
        reporter.report(part(done))
    wait_until(lambda: running.job().progress == 0.5, "the last report")


def test_many_reports_are_few_writes(running: Running) -> None:
    interval = 0.05
    reporter = running.reporter(interval)
    began = time.monotonic()
    for number in range(100_000):
        reporter.report(part(number / 1_000))
    wait_until(lambda: running.job().progress == pytest.approx(0.99999), "the last report")
    assert len(running.written()) <= (time.monotonic() - began) / interval + 1
    assert running.written() == sorted(running.written(), key=lambda fraction: fraction or 0)


def test_reports_within_the_interval_wait_for_its_end(running: Running) -> None:
    reporter = running.reporter(NEVER)
    reporter.report(part(1))
    reporter.report(part(2))
    assert running.written() == [0.01]
    assert reporter.latest == part(2)


def test_closing_gives_the_last_report_for_the_jobs_end(running: Running) -> None:
    reporter = running.reporter(NEVER)
    reporter.report(part(1))
    reporter.report(part(90))
    last = close_attempt("first").progress
    assert last is not None
    assert last.fraction == 0.9
    running.store.run(running.store.finish(claim(running.new), JobStatus.FAILED, progress=last))
    assert running.job().progress == 0.9


def test_nothing_is_written_after_closing(running: Running) -> None:
    reporter = running.reporter(0.0)
    reporter.report(part(1))
    close_attempt("first")
    reporter.report(part(2))
    reporter.flush()
    assert running.written() == [0.01]


def test_without_a_report_there_is_no_last_one(running: Running) -> None:
    running.reporter(NEVER)
    assert close_attempt("first") == LastWords()
    assert close_attempt("unknown") == LastWords()


def test_an_attempt_has_one_reporter(running: Running) -> None:
    assert running.reporter(1) is running.reporter(1)


def test_a_cancelled_job_is_stopped_at_its_next_report(running: Running) -> None:
    reporter = running.reporter(0.0)
    reporter.report(part(1))
    running.store.run(running.store.cancel(running.new.id))
    with pytest.raises(JobCancelled):
        reporter.report(part(2))
    with pytest.raises(JobCancelled):
        reporter.report(part(3))


def test_the_thread_learns_of_a_cancel_for_the_next_report(running: Running) -> None:
    reporter = running.reporter(0.05)
    reporter.report(part(1))
    running.store.run(running.store.cancel(running.new.id))

    def report() -> bool:
        try:
            reporter.report(part(2))
        except JobCancelled:
            return True
        return False

    wait_until(report, "the cancel")


def test_what_cleans_up_after_a_cancel_may_report(running: Running) -> None:
    reporter = running.reporter(0.0)
    reporter.report(part(1))
    running.store.run(running.store.cancel(running.new.id))

    def work() -> None:
        try:
            reporter.report(part(2))
        finally:
            reporter.report(part(3))

    with pytest.raises(JobCancelled):
        work()
    assert running.written() == [0.01, 0.02, 0.03]
    with pytest.raises(JobCancelled):
        reporter.report(part(4))


def test_an_attempt_that_lost_its_job_is_stopped_and_writes_nothing(running: Running) -> None:
    reporter = running.reporter(0.0)
    reporter.report(part(1))
    running.store.run(running.store.requeue(claim(running.new), None, why=Return.RETURNED))
    running.store.run(running.store.start(claim(running.new, "second")))
    for done in (2, 3):
        with pytest.raises(LeaseLost):
            reporter.report(part(done))
    assert running.written() == [0.01]


def test_an_attempt_whose_job_was_ended_by_others_is_stopped(running: Running) -> None:
    reporter = running.reporter(0.0)
    running.store.run(running.store.finish(Claim(running.new.id), JobStatus.REVOKED))
    with pytest.raises(LeaseLost):
        reporter.report(part(1))


def test_a_closed_attempt_is_silent(running: Running) -> None:
    reporter = running.reporter(0.0)
    running.store.run(running.store.cancel(running.new.id))
    with pytest.raises(JobCancelled):
        reporter.report(part(1))
    close_attempt("first")
    reporter.report(part(2))


def test_the_rate_and_the_time_left_are_told(running: Running) -> None:
    reporter = running.reporter(0.0)
    reporter.report(part(10))
    assert running.job().progress_detail == part(10)
    reporter.report(part(20))
    detail = running.job().progress_detail
    assert detail is not None
    assert detail.rate is not None
    assert detail.rate > 0
    assert detail.eta_seconds is not None
    assert detail.eta_seconds >= 0
    reporter.report(part(5))
    assert running.job().progress_detail == part(5), "a count that falls begins anew"
    reporter.report(Progress(message="no numbers"))
    assert running.job().progress_detail == Progress(message="no numbers")


class TestOutage:
    @pytest.fixture
    def running(self) -> Iterator[Running]:
        with start_server(use_environment=False) as server:
            assert server.pid
            self.pid = server.pid
            running = Running(RedisStore(server.url, Settings()))
            yield running
            os.kill(self.pid, signal.SIGCONT)
            close_attempt("first")

    @pytest.mark.parametrize("connected", [False, True], ids=["from the first report", "later"])
    def test_the_task_does_not_wait_and_the_last_report_is_made_up_for(
        self, running: Running, connected: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        reporter = running.reporter(0.0)
        if connected:
            reporter.report(part(1))
        os.kill(self.pid, signal.SIGSTOP)
        # Each of them would take the store's time-out.
        for number in range(1_000):
            reporter.report(part(number / 20))
        os.kill(self.pid, signal.SIGCONT)
        wait_until(lambda: running.job().progress == pytest.approx(0.4995), "the last report")
        assert f"Progress and output of job {running.new.id} wait: The job store at" in caplog.text

    def test_closing_during_an_outage_gives_the_last_report(self, running: Running) -> None:
        reporter = running.reporter(0.0)
        os.kill(self.pid, signal.SIGSTOP)
        reporter.report(part(30))
        last = close_attempt("first").progress
        assert last is not None
        assert last.fraction == 0.3


class TestHelperThreads:
    def found_in_thread(self, run: Callable[[Callable[[], None]], Any] = lambda look: look()) -> Reporter | None:
        found: list[Attempt | None] = []
        thread = threading.Thread(target=run, args=(lambda: found.append(attempt_of_helper()),))
        thread.start()
        thread.join()
        return found[0].reporter if isinstance(found[0], WorkerAttempt) else None

    def test_a_thread_with_a_copy_of_the_context_finds_the_reporter(self, running: Running) -> None:
        mine, _ = running.reporter(NEVER), running.reporter(NEVER, "second")
        context = contextvars.copy_context()
        context.run(enter_job, "first")
        assert self.found_in_thread(context.run) is mine

    def test_a_thread_without_finds_the_only_one(self, running: Running) -> None:
        mine = running.reporter(NEVER)
        assert self.found_in_thread() is mine

    def test_of_several_it_finds_none(self, running: Running) -> None:
        running.reporter(NEVER)
        running.reporter(NEVER, "second")
        assert self.found_in_thread() is None

    def test_where_no_job_runs_there_is_none(self) -> None:
        assert self.found_in_thread() is None
