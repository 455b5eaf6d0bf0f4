"""The types that users of the public API see, without the project's own configuration of mypy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("public_api.py")


def test_a_program_sees_the_types_that_are_promised(tmp_path: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert checked.stdout == "Success: no issues found in 1 source file\n", checked.stderr
