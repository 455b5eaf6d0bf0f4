"""The command line itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from aijobs.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"aijobs {version('aijobs')}\n")


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "usage: aijobs" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["dev", "dead", "workers"])
def test_the_help_names_every_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert f"\n    {command} " in capsys.readouterr().out


def test_dead_needs_a_command_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dead"])
    assert ended.value.code == 2
    assert "usage: aijobs dead" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "'70000' is not a port: 0 to 65535"),
        (["--port", "http"], "'http' is not a port: 0 to 65535"),
        (["--concurrency", "0"], "'0' is not a number of jobs: 1 or more"),
        (["--loglevel", "loud"], "invalid choice: 'loud'"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dev", "shop.worker:app", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_module_runs_as_well_and_loads_nothing_heavy() -> None:
    code = "import sys, aijobs.cli; aijobs.cli._parser(); print({'celery', 'redis', 'fastapi'} & set(sys.modules))"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout == "set()\n"
    help_text = subprocess.run(
        [sys.executable, "-m", "aijobs", "dev", "--help"], capture_output=True, text=True, check=True
    )
    assert "--reload-dir" in help_text.stdout
