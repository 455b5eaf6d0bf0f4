"""Where libmagic comes from."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

LOOK = (
    "import ctypes, os\n"
    "before, load = dict(os.environ), ctypes.CDLL.__init__\n"
    "from aijobs.files.kinds import content_type\n"
    "print(content_type('.pdf', b'%PDF-1.4\\n'), dict(os.environ) == before, ctypes.CDLL.__init__ is load)\n"
    "import magic; print(magic.libmagic._name)\n"
)


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the dynamic loader of Linux is told of a broken library")
@pytest.mark.skipif(importlib.util.find_spec("pylibmagic") is None, reason="pylibmagic has no wheel for this machine")
def test_without_the_system_s_libmagic_there_is_another_and_the_process_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "libmagic.so.1").write_text("no library")
    done = run(LOOK, LD_LIBRARY_PATH=str(tmp_path))
    assert done.stdout.splitlines()[0] == "application/pdf True True", done.stderr
    assert "pylibmagic" in done.stdout.splitlines()[1]


def test_nothing_is_loaded_before_it_is_needed() -> None:
    script = "import sys, aijobs.files.kinds; print('magic' in sys.modules)"
    assert run(script).stdout.strip() == "False"


@pytest.mark.parametrize("use", ["content_type('.pdf', b'x')", "UploadedFile.from_bytes(b'x', 'a.pdf')"])
def test_what_is_missing_is_named(use: str) -> None:
    script = (
        "import sys; sys.modules['magic'] = None\n"
        f"from aijobs import UploadedFile\nfrom aijobs.files.kinds import content_type\n{use}"
    )
    last = run(script).stderr.splitlines()[-1]
    assert "ConfigurationError" in last
    assert "pip install 'aijobs[uploads]'" in last


def test_a_libmagic_without_its_database_is_named_too() -> None:
    last = run("import aijobs.files.libmagic as one; one.load_libmagic()", MAGIC="/nowhere").stderr.splitlines()[-1]
    assert "ConfigurationError: Files cannot be told apart: libmagic does not find its database" in last


def test_another_module_of_that_name_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "magic.py").write_text("class MagicException(Exception): ...")
    last = run("import aijobs.files.libmagic as one; one.load_libmagic()", PYTHONPATH=str(tmp_path))
    assert "the module `magic` is not that of python-magic" in last.stderr.splitlines()[-1]


def test_a_file_that_is_stored_already_needs_no_libmagic() -> None:
    script = (
        "import sys; sys.modules['magic'] = None\n"
        "from aijobs import UploadedFile\n"
        "from aijobs.files.keys import new_key, space_of\n"
        "key = new_key(space_of(b'x'), 'job', '.pdf')\n"
        "print(UploadedFile(key=key, name='a.pdf', size=1, content_type='application/pdf', sha256='0' * 64).name)"
    )
    assert run(script).stdout.strip() == "a.pdf"
