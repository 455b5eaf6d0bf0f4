"""The pytest plugin, as suites use it: those that want it, and those that do not."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SHOP = """
    import time
    from celery import Celery
    from aijobs import ProgressTask

    app = Celery("shop", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")

    @app.task(base=ProgressTask, bind=True)
    def embed(self, texts):
        for text in self.track(texts, resume=True):
            self.emit(text)
        print("I AM THE TASK", flush=True)
        return len(texts)

    @app.task(base=ProgressTask)
    def fail():
        print("I AM THE TASK", flush=True)
        raise ValueError("loud")
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("AIJOBS_TEST_REDIS_URL", "REDIS_URL", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = -p no:cacheprovider -p no:schemathesis\n")
    pytester.makepyfile(shop=SHOP)
    return pytester


def test_pytest_finds_it() -> None:
    (found,) = entry_points(group="pytest11", name="aijobs")
    assert found.value == "aijobs.testing.plugin"


def test_a_suite_that_does_not_use_it_loads_nothing_of_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            assert "aijobs.testing.plugin" in sys.modules
            assert not {"celery", "kombu", "redis", "pydantic", "fastapi"} & set(sys.modules)
            assert "aijobs.testing.run" not in sys.modules

        def test_a_failure_is_as_ever():
            assert 1 == 2
        """
    )
    result = suite.runpytest_subprocess("--strict-markers", "--strict-config")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*aijobs worker*")


def test_it_can_be_left_out(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_nothing(): ...")
    suite.runpytest_subprocess("-p", "no:aijobs").assert_outcomes(passed=1)


def test_tasks_run_in_milliseconds_in_any_test(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import unittest
        from aijobs.testing import crash_at, run_job
        from shop import embed

        def test_embed():
            with crash_at(item=2):
                run = run_job(embed, ["a", "b"])
            assert (run.result, run.attempts) == (2, 2)

        class TestEmbed(unittest.TestCase):
            def test_embed(self):
                self.assertEqual(run_job(embed, ["a", "b"]).output.text, "ab")
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=2)


def test_failures_show_what_happened(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from aijobs.testing import run_job
        from shop import embed, fail

        def test_result():
            assert run_job(fail).result == 2

        def test_success():
            run_job(fail).assert_success()

        def test_timeline():
            assert run_job(embed, ["a"]).timeline == ["queued", "running", "output", "success"]
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*<JobRun of shop.fail: failed after 1 attempt: exception: ValueError: loud>.result*",
            "*AssertionError: The job was to succeed.*",
            "*At index 2 diff: 'progress' != 'output'*",
        ]
    )


def test_real_workers_are_started_and_stopped(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from shop import app, embed

        def test_worker(aijobs_worker):
            worker = aijobs_worker("shop:app", pool="solo")
            job = worker.run(embed, ["a", "b"])
            assert (job.status, job.result) == ("success", 2)
            global pid
            pid = worker.pid

        def test_its_end():
            import psutil
            assert not psutil.pid_exists(pid)

        def test_client(aijobs_client, aijobs_worker):
            jobs = aijobs_client(app)
            job_id = jobs.submit(embed, ["a"])
            assert jobs.job(job_id).status == "queued"
            aijobs_worker(app, pool="solo")
            assert jobs.wait_for(job_id).result == 1
        """
    )
    suite.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=3)


def test_a_test_that_fails_shows_the_logs_of_its_workers(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        from shop import app, fail

        def test_worker(aijobs_worker):
            worker = aijobs_worker(app, pool="solo")
            assert worker.run(fail).status == "success"
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Log of aijobs worker-1*", "*I AM THE TASK*"])


def test_processes_of_xdist_have_servers_of_their_own(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from pathlib import Path

        @pytest.mark.parametrize("number", range(2))
        def test_server(aijobs_server, worker_id, number):
            Path(f"{worker_id}.txt").write_text(aijobs_server.url)
        """
    )
    suite.runpytest_subprocess("-n", "2").assert_outcomes(passed=2)
    urls = {path.read_text() for path in Path(suite.path).glob("gw*.txt")}
    assert len(urls) == len(list(Path(suite.path).glob("gw*.txt")))


def test_run_job_needs_no_pytest() -> None:
    script = """
import sys
sys.modules["pytest"] = None
from celery import Celery
from aijobs import ProgressTask
from aijobs.testing import run_job
app = Celery("shop")
@app.task(base=ProgressTask)
def embed(): return 1
assert run_job(embed).result == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_the_public_names_are_all_there() -> None:
    import aijobs.testing

    assert sorted(aijobs.testing.__all__) == dir(aijobs.testing) == aijobs.testing.__all__
    for name in aijobs.testing.__all__:
        assert not isinstance(getattr(aijobs.testing, name), type(sys))
    with pytest.raises(AttributeError, match="has no attribute 'Server'"):
        _ = aijobs.testing.Server
