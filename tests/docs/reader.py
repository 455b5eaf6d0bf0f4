"""A reader who does what a page says: saves its modules, runs its code, types its commands and compares the answers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.typing import Parser

from tests.docs import curl, interpreter
from tests.helpers import wait_until

#: What is typed to prepare a machine; the tests run on one that is ready.
PREPARATIONS = frozenset({"git", "make", "pip", "python", "python3", "source"})

#: Programs that go on in a terminal of their own, and what they write once they are ready.
SERVERS = {
    "celery": (" ready.",),
    "uvicorn": ("Uvicorn running",),
    "aijobs": (" ready.", "Application startup complete"),
}

#: What the same programs do besides, and then end.
ONE_OFF = ("aijobs compose ", "aijobs dead ", "aijobs workers")

#: Pages have the usual addresses.
BROKER, API = ":6379/0", ":8000"

_FILE = re.compile(r"# (\S+\.py)\n")
_JOB_ID = re.compile(r'"job_id": ?"([0-9a-f-]{36})"')
_LONGEST_ANSWER_SECONDS = 60.0
_CURL = "" if shutil.which("curl") else f'curl() {{ {sys.executable} {curl.__file__} "$@"; }}; '
_AIJOBS = f'aijobs() {{ {sys.executable} -m aijobs "$@"; }}; '
_PYTEST = f'pytest() {{ {sys.executable} -m pytest -p no:cacheprovider "$@"; }}; '
#: An id in an answer, and also the begin of one in a page; one is as good as another.
_ID = re.compile(r"\b[0-9a-f]{8}-(?:(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|…)")


class Reader:
    """Reads one page in a folder of its own.

    Args:
        folder: where the page's modules are saved and its commands typed.
        broker: port and database that stand in for the usual ones, such as `6379/0`.
    """

    def __init__(self, folder: Path, broker: str) -> None:
        self._folder = folder
        self._api_port = free_port()
        self._broker = broker
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._interpreter: subprocess.Popen[str] | None = None
        self._answer = ""
        self._job_id = ""

    def read(self, page: Path) -> None:
        """Does everything that the page says.

        Raises:
            AssertionError: something did not go as the page says; the message names the line.
        """
        parsers: list[Parser] = [
            CodeBlockParser("python", self._python),
            CodeBlockParser("console", self._console),
            SkipParser(),
        ]
        for example in Sybil(parsers).parse(page).examples():
            example.evaluate()

    def close(self) -> list[subprocess.Popen[bytes]]:
        """Tells what was started to end, and gives what takes its time for that."""
        if self._interpreter is not None:
            self._interpreter.communicate()
        for process in self._running.values():
            process.terminate()
        return list(self._running.values())

    def _python(self, example: Example) -> str | None:
        source = self._here(example.parsed)
        if name := _FILE.match(source):
            path = self._folder / name[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
            return None
        return self._execute(source, example)

    def _execute(self, source: str, example: Example) -> str | None:
        if self._interpreter is None:
            pipe = subprocess.PIPE
            command = [sys.executable, str(interpreter.__file__)]
            self._interpreter = subprocess.Popen(command, cwd=self._folder, stdin=pipe, stdout=pipe, text=True)
        process = self._interpreter
        assert process.stdin is not None
        assert process.stdout is not None
        print(
            json.dumps({"source": source, "path": example.path, "line": example.line}), file=process.stdin, flush=True
        )
        problem: str | None = json.loads(process.stdout.readline())
        return problem

    def _console(self, example: Example) -> str | None:
        problems = (self._type(command, expected) for command, expected in commands(self._here(example.parsed)))
        return next(filter(None, problems), None)

    def _type(self, command: str, expected: str) -> str | None:
        program = command.split(maxsplit=1)[0]
        if program in PREPARATIONS:
            return None
        goes_on = program in SERVERS and not command.startswith(ONE_OFF)
        if goes_on:
            self._answer = self._start(program, command)
        elif program.startswith("JOB="):
            self._job_id = _last_job_id(self._answer)
            return None
        else:
            self._answer = self._run(command)
        return mismatch(expected, self._answer, whole=not goes_on)

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", _CURL + _AIJOBS + _PYTEST + command],
            cwd=self._folder,
            # A test runner may say how wide its own terminal is.
            env={**os.environ, "JOB": self._job_id, "COLUMNS": "160", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            timeout=_LONGEST_ANSWER_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start(self, program: str, command: str) -> str:
        if program in self._running:
            self._running[program].terminate()
            self._running.pop(program).wait(_LONGEST_ANSWER_SECONDS)
        words = [sys.executable, "-m", *shlex.split(command)]
        if program == "uvicorn" or "--api" in words:
            words.append(f"--port={self._api_port}")
        log = self._folder / f"{program}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(words, cwd=self._folder, stdout=out, stderr=subprocess.STDOUT)
        self._running[program] = process
        wait_until(lambda: _is_ready(process, log, program), f"the start of {command}")
        return log.read_text()

    def _here(self, text: str) -> str:
        """The text with the addresses that are used here."""
        return text.replace(BROKER, f":{self._broker}").replace(API, f":{self._api_port}")


def commands(block: str) -> Iterator[tuple[str, str]]:
    """What a console block has after each prompt, and the answer below it."""
    for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, answer = part.partition("\n")
        yield command, answer


def mismatch(expected: str, answer: str, *, whole: bool) -> str | None:
    """What is wrong when an answer is not the expected one, in which `…` stands for anything."""
    wanted, got = _tidy(expected), _tidy(answer)
    pattern = re.compile(".*?".join(map(re.escape, wanted.split("…"))), re.DOTALL)
    if not wanted or (pattern.fullmatch(got) if whole else pattern.match(got)):
        return None
    return f"Expected:\n{wanted}\n\nGot:\n{got}"


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(process: subprocess.Popen[bytes], log: Path, program: str) -> bool:
    text = log.read_text()
    assert process.poll() is None, text
    return all(sign in text for sign in SERVERS[program])


def _last_job_id(answer: str) -> str:
    found = _JOB_ID.findall(answer)
    assert found, f"no job_id in {answer!r}"
    return str(found[-1])


def _tidy(text: str) -> str:
    return _ID.sub("<id>", "\n".join(line.rstrip() for line in text.strip().splitlines()))
