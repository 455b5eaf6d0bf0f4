"""A short round of chaos; `make chaos` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aijobs._process import Stage, SupervisedProcess
from tests.chaos.world import ROOT

#: A seed that brings every kind of trouble within half a minute.
_COMMAND = ("--jobs", "500", "--minutes", "0.5", "--seed", "14", "--pause", "1.5")


@pytest.mark.timeout(480)
def test_every_job_has_one_end_whatever_happens(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    command = [sys.executable, "-m", "tests.chaos", *_COMMAND, "--folder", str(tmp_path)]
    stop = (Stage("TERM", 30),)
    with SupervisedProcess(command, stages=stop, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode()
        status = process.wait()
    print(output)
    assert status == 0, "something was violated: see the output"
