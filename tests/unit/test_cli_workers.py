"""`aijobs workers`, and how a command finds its app."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aijobs.cli import main
from aijobs.cli._text import duration, printable
from aijobs.store.values import Beat, Claim, ProgressWrite
from tests.helpers import new_job, wait_until

from .conftest import HOSTILE, SAFE, Shell


def beat(shell: Shell, name: str = "celery@web", facts: Any = None, running: Sequence[tuple[str, str]] = ()) -> None:
    given = {} if facts is None else facts
    shell.store.run(shell.store.beat(Beat(f"session-{name}", name, json.dumps(given), running)))


def start(shell: Shell, session: str, task: str = "shop.ingest") -> tuple[str, str]:
    job = new_job(task=task)
    claim = Claim(job.id, f"session-{session}.1", task, "celery", session, 4)
    shell.store.run(shell.store.create(job))
    shell.store.run(shell.store.start(claim))
    detail = json.dumps({"current": 3, "total": 4, "unit": None, "step": "embed", "message": HOSTILE})
    shell.store.run(shell.store.report(claim, ProgressWrite(0.75, detail)))
    return job.id, claim.token


FACTS = {
    "hostname": "web",
    "pid": 77,
    "pool": "prefork",
    "concurrency": 4,
    "queues": ["celery", "llm"],
    "started_at": "2026-01-31T22:00:00+00:00",
    "versions": {"celery": "5.7.0"},
}


class TestWorkers:
    def test_none(self, shell: Shell) -> None:
        status, out, _ = shell.main("workers")
        assert status == 0
        assert out.startswith("No worker is alive.\nWorkers report to redis://")
        assert shell.main("workers", "--json") == (0, "", "")

    def test_a_table_with_jobs(self, shell: Shell) -> None:
        job_id, token = start(shell, "celery@web")
        beat(shell, facts=FACTS, running=[(job_id, token)])
        beat(shell, "other")
        status, out, _ = shell.main("workers")
        head, first, job, other = out.splitlines()
        assert status == 0
        assert head.split("  ")[0] == "WORKER"
        assert first.startswith("celery@web  77@web   prefork × 4  celery,llm  2026-01-31 22:00:00Z  0.")
        assert first.endswith(" s ago")
        assert job.startswith(f"  {job_id}  shop.ingest  attempt 1/4  for 0.")
        assert job.endswith(f"  75%  embed  {SAFE}")
        assert other.split()[:6] == ["other", "?@?", "?", "×", "?", "?"]

    def test_a_job_that_reports_nothing_and_is_cancelled(self, shell: Shell) -> None:
        job = new_job(task="shop.plain")
        claim = Claim(job.id, "session-plain.1", "shop.plain")
        shell.store.run(shell.store.create(job))
        shell.store.run(shell.store.start(claim))
        beat(shell, "plain", running=[(job.id, claim.token)])
        shell.store.run(shell.store.cancel(job.id))
        _, out, _ = shell.main("workers")
        shown = out.splitlines()[2].split("  ")
        assert shown[1:4] == [job.id, "shop.plain", "attempt 1"]
        assert shown[4].startswith("for 0.")
        assert shown[5:] == ["cancel asked for"]

    @pytest.mark.parametrize(
        "odd", [{"started_at": "then"}, {"started_at": [1], "queues": "celery"}, {"started_at": 1e300, "pid": HOSTILE}]
    )
    def test_odd_facts_do_no_harm(self, shell: Shell, odd: dict[str, Any]) -> None:
        beat(shell, facts={**FACTS, **odd})
        status, out, _ = shell.main("workers")
        assert status == 0
        assert printable(out.replace("\n", "")) == out.replace("\n", "")

    def test_times_as_numbers(self, shell: Shell) -> None:
        beat(shell, facts={"started_at": 0})
        assert "1970-01-01 00:00:00Z" in shell.main("workers")[1]

    def test_json(self, shell: Shell) -> None:
        job_id, token = start(shell, "celery@web")
        beat(shell, facts=FACTS, running=[(job_id, token)])
        told = json.loads(shell.main("workers", "--json")[1])
        assert {name: told[name] for name in FACTS} == FACTS
        assert told["name"] == "celery@web"
        assert told["silence_seconds"] >= 0
        (job,) = told["jobs"]
        assert (job["job_id"], job["attempt"], job["progress"]) == (job_id, 1, 0.75)
        assert job["progress_detail"]["step"] == "embed"

    def test_watch_until_interrupted(self, shell: Shell, tmp_path: Path) -> None:
        log = tmp_path / "log"
        with log.open("wb") as out:
            watching = subprocess.Popen(
                [sys.executable, "-m", "aijobs", "workers", "--watch", "-A", shell.app], stdout=out, stderr=out
            )
        try:
            wait_until(lambda: "No worker is alive." in log.read_text(), "the first look")
            beat(shell, "late")
            wait_until(lambda: "?@?" in log.read_text(), "the second look")
        finally:
            watching.send_signal(signal.SIGINT)
            status = watching.wait(30)
        assert status == 0
        assert "Traceback" not in log.read_text()


class TestApp:
    def test_all_forms_that_celery_takes(self, shell: Shell) -> None:
        for name in (shell.app, f"{shell.app}:app", f"{shell.app}.app"):
            assert shell.main("workers", "--json", app=name) == (0, "", "")

    def test_the_environment_names_it(self, shell: Shell) -> None:
        shell.monkeypatch.setenv("CELERY_APP", shell.app)
        assert main(["workers", "--json"]) == 0

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("", "Name the Celery app with -A, as in -A shop.worker:celery_app, or in CELERY_APP."),
            ("no_such", "The app 'no_such' cannot be loaded: there is no module 'no_such'; run the command in the fol"),
            ("aijobs.no_such:app", "there is no module 'aijobs.no_such'"),
            ("json", "The app 'json' cannot be loaded: AttributeError: module 'json' has no attribute 'celery'."),
            ("{app}:helper", "is not a Celery app but of the type int."),
            ("{app}:nothing", "cannot be loaded: {app} has no 'nothing'."),
            ("broken_shop", "'broken_shop' cannot be loaded: ZeroDivisionError: \\x1b[2J (broken_shop.py, line 1)."),
            ("leaving_shop", "'leaving_shop' cannot be loaded: SystemExit: 3 (leaving_shop.py, line 1)."),
            ("homeless_shop", "aijobs found no place for the job records"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, shell: Shell, name: str, message: str) -> None:
        Path("broken_shop.py").write_text("raise ZeroDivisionError('\\x1b[2J')\n")
        Path("leaving_shop.py").write_text("raise SystemExit(3)\n")
        Path("homeless_shop.py").write_text("import celery\napp = celery.Celery(broker='memory://')\n")
        status, out, err = shell.main("dead", "list", app=name.format(app=shell.app))
        assert (status, out) == (2, "")
        assert message.format(app=shell.app) in err
        assert err.count("\n") == 1

    def test_a_store_that_is_away(self, shell: Shell) -> None:
        Path("away_shop.py").write_text("import celery\napp = celery.Celery(broker='redis://:secret@127.0.0.1:1/0')\n")
        for command in (["dead", "list"], ["dead", "replay", "--all"], ["workers"], ["workers", "--watch"]):
            status, out, err = shell.main(*command, app="away_shop")
            assert (status, out) == (2, "")
            assert err.startswith("aijobs: The job store at redis://")
            assert err.count("\n") == 1
            assert "secret" not in err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.04, "0.0 s"), (9.5, "9.5 s"), (59.7, "1 min 0 s"), (3_600, "1 h 0 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_text_is_made_printable() -> None:
    kept = "plain – ünïcode ☃ 漢字"
    assert printable(kept) == kept
    assert printable("\ud800\x00\u2028") == r"\ud800\x00\u2028"
