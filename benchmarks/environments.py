"""Virtual environments of the libraries that aijobs is compared with, made when they are needed first."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from benchmarks.harness import ROOT, BenchmarkError

#: Kept from one run to the next; `make clean` takes them away.
FOLDER = ROOT / ".venv-bench"

#: An installation that takes longer has failed.
_INSTALL_SECONDS = 600
_MARKER = "requirements.txt"


def provide(name: str, requirements: Sequence[str], log: IO[bytes]) -> str:
    """The interpreter of an environment that has these packages.

    Args:
        name: of its folder.
        requirements: as pip takes them; an environment that was made of others, or by another Python, is made anew.
        log: where what the installation says goes.

    Raises:
        BenchmarkError: the packages cannot be installed.
    """
    folder = FOLDER / name
    wanted = "\n".join([f"# Python {sys.version}", *requirements])
    if _read(folder / _MARKER) != wanted:
        _make(folder, requirements, log)
        (folder / _MARKER).write_text(wanted, encoding="utf-8")
    return str(_python(folder))


def _make(folder: Path, requirements: Sequence[str], log: IO[bytes]) -> None:
    print(f"  installing {', '.join(requirements)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    quiet = ("-qq", "--disable-pip-version-check")
    for command in (
        (sys.executable, "-m", "venv", str(folder)),
        (str(_python(folder)), "-m", "pip", "install", *quiet, *requirements),
    ):
        _run(command, log)


def _run(command: Sequence[str], log: IO[bytes]) -> None:
    try:
        subprocess.run(command, stdout=log, stderr=log, check=True, timeout=_INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchmarkError(f"Its packages could not be installed ({type(error).__name__}).") from error


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
