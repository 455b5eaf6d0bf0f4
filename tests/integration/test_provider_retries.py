"""Jobs whose provider limits requests, fails or refuses them: a real worker, a real server, real waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from aijobs import ErrorCode, EventType, Job, JobStatus, cancel
from tests.helpers import wait_until
from tests.provider import Answer, Provider, provider

from .conftest import Worker, running_worker, short_lease

BUSY = Answer(429, {"Retry-After": "1"})


@pytest.fixture(scope="module")
def site() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module", params=["prefork", "threads"])
def worker(request: pytest.FixtureRequest, server_url: str, folder: Path) -> Iterator[Worker]:
    environ = {"TEST_BROKER_URL": server_url, "TEST_BACKEND_URL": server_url}
    with running_worker("provider_app", folder, environ, request.param, "-c", "1") as running:
        yield running


def assert_done(job: Job, attempt: int = 1) -> None:
    assert (job.status, job.attempt, job.error, job.result) == (JobStatus.SUCCESS, attempt, None, "ok")


def assert_failed(worker: Worker, job: Job, code: ErrorCode, attempt: int = 1, *, retryable: bool) -> str:
    assert (job.status, worker.code(job), job.attempt) == (JobStatus.FAILED, code, attempt)
    assert job.error is not None
    assert job.error.retryable is retryable
    return job.error.message


class TestARateLimit:
    @pytest.mark.parametrize("task", ["bare", "call", "call_async"])
    def test_is_waited_for_and_takes_no_attempt(self, worker: Worker, site: Provider, task: str) -> None:
        url = site.that_answers(BUSY, BUSY)
        job = worker.run(task, url)
        assert_done(job)
        assert job.max_attempts == (4 if task == "bare" else 3)
        assert [call.status for call in site.calls_to(url)] == [429, 429, 200]
        assert min(site.gaps(url)) >= 1
        # Each execution is told, as what the one before gave out is void; they have the same number.
        numbers = [event.data["attempt"] for event in worker.events(job.id) if event.type is EventType.ATTEMPT]
        assert numbers == [1, 1]

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (Answer(429, {"retry-after-ms": "1500", "Retry-After": "2"}), 1.5),
            (Answer(429, {"Retry-After": "1.25"}), 1.25),
            (Answer(503, {"Retry-After": "1"}), 1),
            (Answer(429, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1s200ms"}), 1.2),
            (Answer(429, {"x-should-retry": "true", "ratelimit-reset": "1"}), 1),
        ],
        ids=str,
    )
    def test_is_told_in_many_ways(self, worker: Worker, site: Provider, answer: Answer, told: float) -> None:
        url = site.that_answers(answer)
        assert_done(worker.run("call", url))
        (gap,) = site.gaps(url)
        assert gap >= told

    def test_may_be_told_as_a_date(self, worker: Worker, site: Provider) -> None:
        # Dates have no fractions of a second.
        now, began = datetime.now(UTC), time.monotonic()
        due = now.replace(microsecond=0) + timedelta(seconds=3)
        url = site.that_answers(Answer(429, {"Retry-After": format_datetime(due, usegmt=True)}))
        assert_done(worker.run("call", url))
        assert site.calls_to(url)[1].came >= began + (due - now).total_seconds()

    @pytest.mark.parametrize("answer", [Answer(429), Answer(529)], ids=str)
    def test_without_a_wait_is_backed_off_from(self, worker: Worker, site: Provider, answer: Answer) -> None:
        url = site.that_answers(answer, answer)
        assert_done(worker.run("call", url))
        assert min(site.gaps(url)) >= 0.5

    def test_is_on_the_record_while_it_is_waited_for(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(429, {"Retry-After": "4"}))
        job_id = worker.send("call", url)
        waiting = worker.until(job_id, lambda job: job.error is not None, "the wait")
        assert (waiting.status, waiting.attempt, worker.code(waiting)) == ("queued", 0, "rate_limited")
        assert waiting.error is not None
        assert (waiting.error.attempt, waiting.error.retryable) == (1, True)
        assert waiting.error.message.startswith("The provider asked to wait 4 s (HTTP 429). HTTPStatusError: ")
        assert waiting.scheduled_at is not None
        assert waiting.started_at is not None
        assert (waiting.scheduled_at - waiting.started_at).total_seconds() >= 4
        assert waiting.progress == 0.5
        assert_done(worker.end(job_id))

    def test_leaves_the_worker_free(self, worker: Worker, site: Provider) -> None:
        urls = [site.that_answers(Answer(429, {"Retry-After": "6"})) for _ in range(3)]
        waiting = [worker.send("call", url) for url in urls]
        for job_id in waiting:
            worker.until(job_id, lambda job: job.error is not None, "the wait")
        # The worker has one slot and takes one message ahead.
        for _ in range(4):
            assert worker.run("pass_by").status is JobStatus.SUCCESS
        assert all(worker.job(job_id).status is JobStatus.QUEUED for job_id in waiting)
        for job_id in waiting:
            assert_done(worker.end(job_id))

    def test_can_be_cancelled_while_it_is_waited_for(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(429, {"Retry-After": "3"}))
        job_id = worker.send("call", url)
        worker.until(job_id, lambda job: job.error is not None, "the wait")
        assert cancel(worker.app, job_id).accepted
        assert worker.job(job_id).status is JobStatus.REVOKED
        wait_until(lambda: "is over already" in worker.log.read_text() or _waited(site, url, 4), "its time")
        assert len(site.calls_to(url)) == 1
        assert worker.job(job_id).status is JobStatus.REVOKED

    def test_is_not_waited_for_longer_than_the_task_has_patience(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(429, {"Retry-After": "3600"}))
        message = assert_failed(worker, worker.run("call_impatiently", url), ErrorCode.RATE_LIMITED, retryable=True)
        said = "The provider asked to wait 3600 s (HTTP 429), and of the 5 s of its patience the job has waited 0 s. "
        assert message.startswith(said)
        assert len(site.calls_to(url)) == 1

    def test_is_waited_for_until_patience_is_at_its_end(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(*[Answer(429, {"Retry-After": "2"})] * 5)
        job = worker.run("call_impatiently", url)
        message = assert_failed(worker, job, ErrorCode.RATE_LIMITED, retryable=True)
        assert "asked to wait 2 s (HTTP 429), and of the 5 s of its patience the job has waited 4" in message
        assert [call.status for call in site.calls_to(url)] == [429] * 3

    def test_comes_between_retries(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(500), BUSY, Answer(500), BUSY)
        job = worker.run("call", url)
        assert_done(job, attempt=3)
        assert job.max_attempts == 3

    def test_of_a_job_without_a_result(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(BUSY)
        job = worker.run("call_and_forget", url)
        assert (job.status, job.attempt) == (JobStatus.SUCCESS, 1)
        assert [call.status for call in site.calls_to(url)] == [429, 200]


class TestAFatalError:
    @pytest.mark.parametrize("task", ["bare", "call", "call_async", "retry_all"])
    @pytest.mark.parametrize("answer", [Answer(401), Answer(404), Answer(500, {"x-should-retry": "false"})], ids=str)
    def test_ends_the_job_at_once(self, worker: Worker, site: Provider, task: str, answer: Answer) -> None:
        url = site.that_answers(answer)
        message = assert_failed(worker, worker.run(task, url), ErrorCode.EXCEPTION, retryable=False)
        assert message.startswith("HTTPStatusError: ")
        assert len(site.calls_to(url)) == 1

    def test_is_retried_where_providers_are_not_obeyed(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(401), Answer(429, {"Retry-After": "3600"}))
        assert_done(worker.run("disobey", url), attempt=3)

    def test_says_nothing_that_is_secret(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(401))
        job = worker.run("tell_secrets", url)
        message = assert_failed(worker, job, ErrorCode.EXCEPTION, retryable=False)
        assert "?key=***" in message
        assert "abcdefghijklmnop" not in message + str(job.traceback)


class TestATransientError:
    def test_is_an_attempt(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(*[Answer(500)] * 3)
        assert_failed(worker, worker.run("call", url), ErrorCode.EXCEPTION, attempt=3, retryable=True)
        assert len(site.calls_to(url)) == 3

    def test_is_not_retried_before_the_provider_said(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(500, {"Retry-After": "2"}))
        assert_done(worker.run("call", url), attempt=2)
        assert min(site.gaps(url)) >= 2

    def test_is_retried_by_a_bare_task_only_as_it_says(self, worker: Worker, site: Provider) -> None:
        url = site.that_answers(Answer(500))
        assert_failed(worker, worker.run("bare", url), ErrorCode.EXCEPTION, retryable=True)
        assert_done(worker.run("retry_all", site.that_answers(Answer(500))), attempt=2)

    def test_a_connection_that_is_refused(self, worker: Worker) -> None:
        job = worker.run("call", "http://127.0.0.1:9/")
        message = assert_failed(worker, job, ErrorCode.EXCEPTION, attempt=3, retryable=True)
        assert message.startswith("ConnectError: ")


def test_a_retry_by_hand_is_the_tasks_own(worker: Worker, site: Provider) -> None:
    url = site.that_answers(*[Answer(429, {"Retry-After": "3600"})] * 2)
    assert_failed(worker, worker.run("retry_by_hand", url), ErrorCode.EXCEPTION, attempt=2, retryable=True)
    assert len(site.calls_to(url)) == 2


class TestAWorkerThatIsNotThereWhenTheTimeHasCome:
    def test_because_it_was_killed(self, server_url: str, tmp_path: Path, site: Provider) -> None:
        url = site.that_answers(Answer(429, {"Retry-After": "3"}))
        with another_worker(server_url, tmp_path, "first") as first:
            job_id = first.send("call", url, queue=tmp_path.name)
            first.until(job_id, lambda job: job.error is not None, "the wait")
            os.killpg(first.process.pid, signal.SIGKILL)
        with another_worker(server_url, tmp_path, "second") as second:
            job = second.end(job_id)
        assert_done(job)
        assert job.lost_deliveries == 0
        assert min(site.gaps(url)) >= 3

    def test_because_it_was_stopped(self, server_url: str, tmp_path: Path, site: Provider) -> None:
        url = site.that_answers(Answer(429, {"Retry-After": "3"}))
        with another_worker(server_url, tmp_path, "first") as first:
            job_id = first.send("call", url, queue=tmp_path.name)
            first.until(job_id, lambda job: job.error is not None, "the wait")
        with another_worker(server_url, tmp_path, "second") as second:
            assert_done(second.end(job_id))
        assert min(site.gaps(url)) >= 3


@pytest.mark.parametrize("environ", [{"TEST_TRANSPORT": "redis"}, {"TEST_PROTOCOL": "1"}], ids=str)
def test_with_messages_that_are_not_as_usual(
    server_url: str, tmp_path: Path, site: Provider, environ: dict[str, str]
) -> None:
    url = site.that_answers(BUSY, Answer(500), BUSY)
    with another_worker(server_url, tmp_path, "plain", **environ) as worker:
        job = worker.end(worker.send("call", url, queue=tmp_path.name))
    assert_done(job, attempt=2)
    assert min(site.gaps(url)[::2]) >= 1


def test_in_the_asyncio_pool(server_url: str, tmp_path: Path, site: Provider) -> None:
    urls = [site.that_answers(BUSY, Answer(500), BUSY) for _ in range(3)]
    with another_worker(server_url, tmp_path, "asyncio", "asyncio") as worker:
        for job_id in [worker.send("call_async", url, queue=tmp_path.name) for url in urls]:
            assert_done(worker.end(job_id), attempt=2)
        refused = worker.run("call_async", site.that_answers(Answer(401)), queue=tmp_path.name)
    assert_failed(worker, refused, ErrorCode.EXCEPTION, retryable=False)
    assert all(site.gaps(url)[wait] >= 1 for url in urls for wait in (0, 2))


def another_worker(
    server_url: str, folder: Path, name: str, pool: str = "prefork", **environ: str
) -> AbstractContextManager[Worker]:
    """A worker on a queue of this test's own."""
    home = folder / name
    home.mkdir()
    options = ("-c", "1", "-Q", folder.name, "-n", f"{name}@{folder.name}")
    return running_worker("provider_app", home, short_lease(server_url, **environ), pool, *options)


def _waited(site: Provider, url: str, seconds: float) -> bool:
    return time.monotonic() > site.calls_to(url)[0].came + seconds
