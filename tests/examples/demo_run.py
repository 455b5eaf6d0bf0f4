"""A demo as its users meet it: a process of its own, which leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_SECONDS = 120.0


class Demo:
    """The demo as a process of its own, with a folder for temporary files by which its children are known."""

    def __init__(self, module: str, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(EXAMPLES), "TMPDIR": str(folder), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, text: str) -> None:
        """Reads what is printed up to a line with this text."""
        assert self.process.stdout
        assert any(text in line for line in self.process.stdout), f"{text!r} was not printed"

    def finish(self) -> tuple[int, str]:
        """Waits for the end and gives status and output."""
        output, _ = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, output

    def leftovers(self) -> list[object]:
        """What is still running or lying about."""
        return [*_processes(str(self.folder)), *self.folder.iterdir()]


def _processes(mark: str) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            if mark in process.environ().get("TMPDIR", ""):
                yield f"{process.pid}: {process.cmdline()}"
        except psutil.Error:
            continue


document_demo = partial(Demo, "document_ingestion.demo")
agent_demo = partial(Demo, "agent.demo")
