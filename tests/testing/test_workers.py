"""Real workers on a real server: started, killed at a named point, and started anew."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from aijobs import ConfigurationError, JobStatus, Settings
from aijobs.embedded import EmbeddedServerError
from aijobs.testing import Jobs, Worker, cancel_at, crash_after, crash_at, scripted, start_test_server, start_worker
from aijobs.testing.servers import Server, _own_database
from aijobs.testing.workers import started_workers

TEXTS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AIJOBS_TEST_REDIS_URL", raising=False)
        with start_test_server() as server:
            yield server


@pytest.fixture(scope="module")
def shop() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "apps"))
        yield importlib.import_module("paying_app")


@pytest.fixture(scope="class")
def worker(server: Server, shop: Any) -> Iterator[Worker]:
    with start_worker("paying_app:app", server, pool="solo", env={"SHOP": "open"}) as worker:
        yield worker


@pytest.fixture
def bill(tmp_path: Path) -> str:
    return str(tmp_path / "bill")


def paid(bill: str) -> list[str]:
    return Path(bill).read_text().split()


class TestAWorker:
    def test_a_job_is_submitted_and_waited_for(self, worker: Worker, shop: Any, bill: str) -> None:
        job = worker.run(shop.ingest, TEXTS, bill=bill)
        assert (job.status, job.result) == ("success", 4)
        assert worker.output(job).text == "abcd"
        assert [event.type for event in worker.events(job)][-1] == "job.completed"
        assert worker.alive
        os.kill(worker.pid, 0)

    def test_what_delay_gives_can_be_waited_for(self, worker: Worker, shop: Any, bill: str) -> None:
        assert worker.wait_for(shop.ingest.delay(["a"], bill)).result == 1

    def test_it_has_the_environment_that_was_asked_for(self, worker: Worker, shop: Any) -> None:
        assert worker.run(shop.environment, "SHOP").result == "open"

    def test_a_scripted_provider_answers_it(self, worker: Worker, shop: Any) -> None:
        with scripted().serve(models=["small"]) as provider:
            job = worker.run(shop.fetch, f"{provider.url}/models")
        assert job.finished
        assert '"small"' in job.result

    def test_a_wait_that_fails_tells_of_job_and_worker(self, worker: Worker, shop: Any) -> None:
        job_id = worker.submit(shop.shout)
        with pytest.raises(AssertionError) as caught:
            worker.wait_for(job_id, "success")
        told = str(caught.value)
        assert told.startswith("The job ended without the status success.\npaying_app.shout ")
        assert "exception: ValueError: loud" in told
        assert f"{worker.name} (runs) wrote last:" in told
        assert "I AM THE TASK" in told

    def test_a_wait_that_takes_too_long_is_given_up(self, worker: Worker, shop: Any) -> None:
        job_id = worker.submit(shop.sleep, 1)
        with pytest.raises(AssertionError, match=r"0\.01 s passed without the job's end\.\npaying_app\.sleep"):
            worker.wait_for(job_id, timeout_seconds=0.01)
        assert worker.wait_for(job_id, lambda job: job.progress == 0.5).attempt == 1
        assert worker.wait_for(job_id).status is JobStatus.SUCCESS

    def test_a_worker_that_does_not_end_is_named(self, worker: Worker) -> None:
        with pytest.raises(AssertionError, match=r"(?s)The worker still runs after 0\.01 s\..*INFO/MainProcess"):
            worker.wait(0.01)

    def test_a_job_that_is_not_there_is_named(self, worker: Worker) -> None:
        with pytest.raises(AssertionError, match="has no record of the job none"):
            worker.wait_for("none")
        with pytest.raises(AssertionError, match="has no record of the job none"):
            worker.output("none")


class TestDeath:
    @pytest.mark.parametrize(
        ("pool", "task"), [("prefork", "ingest"), ("threads", "ingest_async"), ("asyncio", "ingest_async")]
    )
    def test_a_worker_kills_itself_once_and_the_job_goes_on(
        self, server: Server, shop: Any, bill: str, pool: str, task: str
    ) -> None:
        if pool == "asyncio":
            pytest.importorskip("greenlet")
        with start_worker(shop.app, server, pool=pool, crash=crash_at("embed", item=3)) as worker:
            job_id = worker.submit(getattr(shop, task), TEXTS, bill)
            worker.wait()
            assert paid(bill) == ["extract", "a", "b"]
            job = worker.restart().wait_for(job_id)
        assert (job.status, job.result, job.attempt, job.lost_deliveries) == ("success", 4, 2, 1)
        assert paid(bill) == ["extract", *TEXTS]

    def test_what_nobody_noted_is_done_again(self, server: Server, shop: Any, bill: str) -> None:
        with start_worker("paying_app:app", server, pool="solo", crash=crash_after("embed", item=2)) as worker:
            job_id = worker.submit(shop.ingest, TEXTS, bill)
            worker.wait()
            worker.restart().wait_for(job_id)
        assert paid(bill) == ["extract", "a", "b", "b", "c", "d"]

    def test_a_killed_worker_is_missed_by_others(self, server: Server, shop: Any) -> None:
        with start_worker("paying_app:app", server, pool="solo") as first:
            job_id = first.submit(shop.sleep, 1)
            first.wait_for(job_id, "running")
            first.kill()
            assert not first.alive
            with pytest.raises(RuntimeError, match="does not run"):
                first.kill()
            with start_worker("paying_app:app", server, pool="solo") as second:
                assert second.wait_for(job_id).attempt == 2


class TestStarts:
    def test_a_worker_that_cannot_start_shows_its_log(self, server: Server, shop: Any) -> None:
        before = started_workers()
        with pytest.raises(AssertionError, match=r"(?s)The worker ended while it started\..*No such option"):
            start_worker("paying_app:app", server, options=["--nonsense"])
        assert started_workers() == before

    def test_a_worker_that_takes_too_long_is_ended(self, server: Server, shop: Any) -> None:
        before = started_workers()
        with pytest.raises(AssertionError, match=r"The worker was not ready in 0\.001 s\."):
            start_worker("paying_app:app", server, timeout_seconds=0.001)
        assert started_workers() == before

    def test_an_app_that_no_module_has_is_named(self, server: Server) -> None:
        with pytest.raises(ConfigurationError, match="No module that a worker could import has the app 'nowhere'"):
            start_worker(Celery("nowhere", set_as_current=False), server)

    def test_a_cancel_is_no_crash(self, server: Server) -> None:
        with pytest.raises(ConfigurationError, match=r"crash= takes crash_at\(…\)"):
            start_worker("paying_app:app", server, crash=cancel_at("embed"))


class TestServers:
    def test_an_app_that_has_used_another_store_is_refused(self, server: Server, redis_url: str) -> None:
        app = Celery("elsewhere", broker=redis_url, backend=redis_url, set_as_current=False)
        jobs = Jobs(app)
        assert jobs.store.url
        with pytest.raises(ConfigurationError, match="The app 'elsewhere' has used"):
            server.use(app)

    def test_a_server_that_is_there_is_shared_by_databases(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIJOBS_TEST_REDIS_URL", redis_url)
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw3")
        with start_test_server() as server:
            assert server.url == redis_url.removesuffix("/0") + "/3"

    @pytest.mark.parametrize(
        ("url", "worker", "expected"),
        [("redis://a:1", "", "redis://a:1/0"), ("rediss://u:p@a:1/4?x=1", "gw2", "rediss://u:p@a:1/6?x=1")],
    )
    def test_the_database_of_a_process(self, url: str, worker: str, expected: str) -> None:
        assert _own_database(url, worker) == expected

    def test_where_there_is_none_to_start_its_variable_is_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("AIJOBS_TEST_REDIS_URL", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(
            EmbeddedServerError, match=r"'aijobs\[testing\]' for tests.*Tests read AIJOBS_TEST_REDIS_URL"
        ):
            start_test_server()

    def test_its_variable_is_taken_for_no_misspelt_setting(self, caplog: pytest.LogCaptureFixture) -> None:
        Settings.from_env({"AIJOBS_TEST_REDIS_URL": "redis://localhost"})
        assert caplog.messages == []

    @pytest.mark.parametrize("url", ["redis://localhost:1/0", "{server}/99"], ids=["nobody", "no such database"])
    def test_a_server_that_does_not_answer_is_named(
        self, redis_url: str, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIJOBS_TEST_REDIS_URL", url.format(server=redis_url.removesuffix("/0")))
        with pytest.raises(EmbeddedServerError, match=r"AIJOBS_TEST_REDIS_URL: .* does not answer: .*Start it"):
            start_test_server()
