"""`aijobs dead`: what it prints, asks, refuses and returns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from aijobs import ErrorCode, JobStatus
from aijobs.cli import main
from tests.helpers import new_job

from .conftest import HOSTILE, SAFE, Shell


def ids_in(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()[1:]]


class TestList:
    def test_a_table_of_those_submitted_last_first(self, shell: Shell) -> None:
        first, second = shell.bury(), shell.bury(ErrorCode.POISON, "3 worker processes were lost")
        status, out, err = shell.run("list")
        head, *rows = out.splitlines()
        assert (status, err) == (0, "")
        assert head.split() == ["ID", "TASK", "FAILED", "CODE", "ATTEMPTS", "MESSAGE"]
        assert [row.split()[0] for row in rows] == [second, first]
        assert rows[1].endswith("exception  0         ValueError: bad file")
        assert "a.pdf" not in out

    def test_nothing_is_there(self, shell: Shell) -> None:
        assert shell.run("list") == (0, "No dead letter matches.\n", "")
        assert shell.run("list", "--json") == (0, "", "")

    def test_json(self, shell: Shell) -> None:
        job_id = shell.bury(message=HOSTILE, owner="ann", metadata={"secret": "x"})
        _, out, _ = shell.run("list", "--json")
        (told,) = map(json.loads, out.splitlines())
        assert out.isascii()
        assert (told["job_id"], told["owner"], told["status"]) == (job_id, "ann", "failed")
        assert told["error"] == {"code": "exception", "message": HOSTILE, "retryable": True, "attempt": 0}
        assert {"arguments", "options", "traceback", "metadata", "worker"}.isdisjoint(told)

    def test_filters(self, shell: Shell) -> None:
        first = shell.bury(ErrorCode.TIME_LIMIT, task="shop.other", owner="ann")
        second = shell.bury()
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        cases: list[tuple[Sequence[str], list[str]]] = [
            (("--task", "shop.other"), [first]),
            (("--code", "exception"), [second]),
            (("--owner", "ann"), [first]),
            (("--since", "1h"), [second, first]),
            (("--until", "1h"), []),
            (("--since", later), []),
            (("--until", later, "--since", "2020-01-01", "--code", "time_limit"), [first]),
        ]
        for options, expected in cases:
            assert ids_in(shell.run("list", *options)[1]) == expected, options

    def test_a_limit_says_that_there_are_more(self, shell: Shell) -> None:
        ids = [shell.bury() for _ in range(3)]
        status, out, err = shell.run("list", "--limit", "2")
        assert (status, ids_in(out), err) == (0, ids[:0:-1], "There are more than 2: --limit N shows more.\n")
        assert shell.run("list", "--limit", "3")[2] == ""

    def test_hostile_text_is_harmless_and_long_text_is_cut(self, shell: Shell) -> None:
        shell.bury(message=HOSTILE + "x" * 300, task="shop\n.ingest")
        _, out, _ = shell.run("list")
        (row,) = out.splitlines()[1:]
        assert SAFE in row
        assert r"shop\n.ingest" in row
        assert len(row) == 200
        assert row.endswith("x…")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--since", "soon"), "'soon' is no time: write 30m, 2h, 1d for so long ago, or 2026-01-31T22:00"),
            (("--limit", "0"), "'0' is not a number of jobs: 1 or more"),
            (("--code", "bad_luck"), "invalid choice: 'bad_luck'"),
        ],
    )
    def test_a_wrong_option_is_named(self, shell: Shell, options: Sequence[str], message: str) -> None:
        with pytest.raises(SystemExit) as ended:
            shell.run("list", *options)
        assert ended.value.code == 2
        assert message in shell.capture.readouterr().err


class TestShow:
    def test_everything_is_there(self, shell: Shell) -> None:
        job_id = shell.bury(message=HOSTILE, owner="ann", metadata={"order": "12"}, options_json='{"sending": {}}')
        status, out, _ = shell.run("show", job_id)
        assert status == 0
        assert f"Error         exception: {SAFE}\n" in out
        assert "Run it again  may end better\n" in out
        assert (
            '\nArguments\n  {\n    "args": [\n      "a.pdf"\n    ],\n    "kwargs": {\n      "n": 1\n    }\n  }\n' in out
        )
        assert f"\nTraceback\n  Traceback:\n          line {SAFE}\n" in out
        assert "Owner         ann\n" in out
        assert 'Metadata      {"order": "12"}\n' in out
        assert "Earlier runs" not in out

    def test_what_a_replay_does_not_help(self, shell: Shell) -> None:
        _, out, _ = shell.run("show", shell.bury(ErrorCode.POISON))
        assert "Run it again  ends the same way\n" in out

    def test_earlier_runs(self, shell: Shell) -> None:
        job_id = shell.bury()
        assert shell.run("replay", job_id)[0] == 0
        _, out, _ = shell.run("show", job_id)
        assert "Status        queued\n" in out
        assert out.rstrip().endswith("failed at attempt 0  exception: ValueError: bad file")

    def test_json(self, shell: Shell) -> None:
        job_id = shell.bury(message=HOSTILE)
        _, out, _ = shell.run("show", job_id, "--json")
        told = json.loads(out)
        assert told["arguments"] == {"args": ["a.pdf"], "kwargs": {"n": 1}}
        assert HOSTILE in told["traceback"]
        assert out.isascii()

    def test_arguments_that_were_not_kept(self, shell: Shell) -> None:
        job_id = shell.bury(arguments_json=None)
        assert "\nArguments\n  They were not kept.\n" in shell.run("show", job_id)[1]
        assert json.loads(shell.run("show", job_id, "--json")[1])["arguments"] is None

    def test_an_unknown_id(self, shell: Shell) -> None:
        status, out, err = shell.run("show", "no\x1bid")
        assert (status, out) == (2, "")
        assert err.startswith("aijobs: No job has the id 'no\\x1bid'")


class TestReplay:
    def test_by_id(self, shell: Shell) -> None:
        job_id = shell.bury()
        assert shell.run("replay", job_id) == (0, "Replayed 1 dead letter.\n", "")
        assert shell.status(job_id) is JobStatus.QUEUED

    def test_what_is_refused_is_named(self, shell: Shell) -> None:
        good, gone = shell.bury(), shell.bury(arguments_json=None)
        status, out, err = shell.run("replay", good, gone, "unknown", good, "--yes")
        assert (status, out) == (1, "Replayed 1 dead letter, 2 refused.\n")
        assert f"Job '{gone}' cannot be run again: its arguments were not kept" in err
        assert "No job has the id 'unknown'" in err
        status, out, err = shell.run("replay", "--all")
        assert (status, out) == (1, "Replayed 0 dead letters, 1 refused.\n")
        assert "its arguments were not kept" in err

    def test_a_dry_run_changes_nothing(self, shell: Shell) -> None:
        ids = [shell.bury(), shell.bury()]
        before = [shell.job(job_id) for job_id in ids]
        assert shell.run("replay", "--all", "--dry-run") == (0, "Would replay 2 dead letters.\n", "")
        assert shell.run("replay", *ids, "--dry-run") == (0, "Would replay 2 dead letters.\n", "")
        assert [shell.job(job_id) for job_id in ids] == before

    @pytest.mark.parametrize("by_id", [True, False])
    @pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False)])
    def test_more_than_one_is_asked_for(self, shell: Shell, answer: str, agreed: bool, by_id: bool) -> None:
        ids = [shell.bury(), shell.bury()]
        status, out, err = shell.run("replay", *(ids if by_id else ["--since", "1h"]), answer=answer)
        assert err == "Replay 2 dead letters? [y/N] "
        assert (status, out) == ((0, "Replayed 2 dead letters.\n") if agreed else (1, "Nothing was done.\n"))
        assert {shell.status(one) for one in ids} == {JobStatus.QUEUED if agreed else JobStatus.FAILED}

    def test_nobody_answers(self, shell: Shell) -> None:
        ids = [shell.bury(), shell.bury()]
        status, out, err = shell.run("replay", *ids)
        assert (status, out) == (2, "")
        assert err.endswith("aijobs: Nobody answers, so nothing was done: --yes goes on without asking.\n")
        assert {shell.status(one) for one in ids} == {JobStatus.FAILED}

    def test_what_fails_after_the_question_is_not_meant(self, shell: Shell) -> None:
        shell.bury(), shell.bury()
        late: list[str] = []

        class Slow:
            def readline(self) -> str:
                late.append(shell.bury())
                return "y\n"

        shell.monkeypatch.setattr(sys, "stdin", Slow())
        assert main(["dead", "purge", "--all", "-A", shell.app]) == 0
        assert shell.capture.readouterr().out == "Purged 2 dead letters.\n"
        assert shell.status(late[0]) is JobStatus.FAILED

    def test_filters_and_a_limit(self, shell: Shell) -> None:
        ids = [shell.bury(), shell.bury(), shell.bury(ErrorCode.POISON)]
        assert shell.run("replay", "--code", "exception", "--limit", "1")[1] == "Replayed 1 dead letter.\n"
        assert [shell.status(one) for one in ids] == [JobStatus.FAILED, JobStatus.QUEUED, JobStatus.FAILED]

    @pytest.mark.parametrize("verb", ["replay", "purge"])
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ((), "needs ids, filters such as --since 2h, or --all"),
            (("--limit", "3"), "needs ids, filters such as --since 2h, or --all"),
            (("id", "--all"), "takes ids or filters, not both"),
            (("id", "--task", "t"), "takes ids or filters, not both"),
            (("id", "--limit", "1"), "takes ids or filters, not both"),
        ],
    )
    def test_it_must_be_clear_what_is_meant(
        self, shell: Shell, verb: str, options: Sequence[str], message: str
    ) -> None:
        job_id = shell.bury()
        assert shell.run(verb, *options) == (2, "", f"aijobs: aijobs dead {verb} {message}.\n")
        assert shell.status(job_id) is JobStatus.FAILED

    def test_nothing_matches(self, shell: Shell) -> None:
        assert shell.run("replay", "--all") == (0, "No dead letter matches.\n", "")


class TestPurge:
    def test_by_filter(self, shell: Shell) -> None:
        ids = [shell.bury(), shell.bury(), shell.bury(ErrorCode.POISON)]
        assert shell.run("purge", "--code", "exception", "--dry-run")[1] == "Would purge 2 dead letters.\n"
        assert shell.run("purge", "--code", "exception", "--yes") == (0, "Purged 2 dead letters.\n", "")
        assert [shell.status(one) for one in ids] == [None, None, JobStatus.FAILED]

    def test_by_id(self, shell: Shell) -> None:
        dead, running = shell.bury(), new_job()
        shell.store.run(shell.store.create(running))
        status, out, err = shell.run("purge", dead, running.id, "--yes")
        assert (status, out) == (1, "Purged 1 dead letter, 1 refused.\n")
        assert err == f"No dead letter has the id '{running.id}'.\n"
        assert shell.status(dead) is None
        assert shell.status(running.id) is JobStatus.QUEUED


def test_output_that_nobody_reads_is_no_error(shell: Shell) -> None:
    for _ in range(3):
        shell.bury(message="x" * 2_000)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "aijobs", "dead", "list", "--json", "-A", shell.app],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "loaded\n")
