"""Supervised processes: however their parent ends, nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from aijobs._process import NotStarted, Stage, SupervisedProcess

DEADLINE_SECONDS = 60.0

#: A process with a child of its own; it prints the child's process id.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
#: A parent that supervises FAMILY; it prints the process ids of both.
PARENT = """
import os, subprocess, sys, time
from aijobs._process import Stage, SupervisedProcess
process = SupervisedProcess([sys.executable, "-c", sys.argv[1]], stages=[Stage("TERM", 1)], stdout=subprocess.PIPE)
print(process.pid, int(process.stdout.readline()), flush=True)
if "fork" in sys.argv and os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(600)
"""
STAGES = (Stage("TERM", 30),)


@contextmanager
def running(script: str, *stages: Stage) -> Iterator[tuple[SupervisedProcess, str]]:
    """A supervised script, and the first line that it prints."""
    with SupervisedProcess([sys.executable, "-c", script], stages=stages or STAGES, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield process, process.stdout.readline().decode().strip()


@contextmanager
def parent(*options: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A process that supervises another, and the processes that must not outlive it."""
    command = [sys.executable, "-c", PARENT, FAMILY, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        finally:
            process.kill()


def wait_until_gone(*processes: psutil.Process) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while any(map(is_running, processes)):
        assert time.monotonic() < deadline, f"still running: {processes}"
        time.sleep(0.02)


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_stop_ends_the_command_and_its_children() -> None:
    with running(FAMILY) as (process, line):
        child = psutil.Process(int(line))
        assert process.stop() == 128 + signal.SIGTERM
        wait_until_gone(child)


def test_kill_does_not_wait() -> None:
    with running(STUBBORN, Stage("TERM", 600)) as (process, _):
        process.request_stop()
        process.kill()
        assert process.wait(DEADLINE_SECONDS) == 128 + signal.SIGKILL


def test_each_stage_is_tried_in_turn() -> None:
    with running(STUBBORN, Stage("TERM", 0.1), Stage("INT", 30)) as (process, _):
        # Python ends by the signal itself after an uncaught KeyboardInterrupt.
        assert process.stop() == 128 + signal.SIGINT


def test_a_command_that_ignores_every_stage_is_killed() -> None:
    with running(STUBBORN, Stage("TERM", 0.1)) as (process, _):
        assert process.stop() == 128 + signal.SIGKILL


def test_the_exit_status_comes_through_and_strays_are_ended() -> None:
    script = FAMILY.replace("time.sleep(600)\n", "sys.exit(7)\n")
    with running(script) as (process, line):
        child = psutil.Process(int(line))
        assert process.wait(DEADLINE_SECONDS) == 7
        assert process.poll() == 7
        wait_until_gone(child)


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"No such file or directory: .*/missing"):
        SupervisedProcess([str(tmp_path / "missing")], stages=STAGES)


def test_a_killed_parent_leaves_nothing() -> None:
    with parent() as (process, family):
        process.kill()
        wait_until_gone(*family)


def test_a_killed_parent_leaves_nothing_even_if_a_fork_of_it_lives_on() -> None:
    with parent("fork") as (process, family):
        assert process.stdout
        fork = psutil.Process(int(process.stdout.readline()))
        process.kill()
        wait_until_gone(*family)
        assert is_running(fork)
        fork.kill()


def test_a_killed_supervisor_leaves_nothing() -> None:
    with running(FAMILY) as (process, line):
        family = [psutil.Process(process.pid), psutil.Process(int(line))]
        os.kill(family[0].ppid(), signal.SIGKILL)
        assert process.wait(DEADLINE_SECONDS) == 128 + signal.SIGKILL
        wait_until_gone(*family)


def test_a_supervisor_that_is_asked_to_end_stops_its_command_first() -> None:
    with running(FAMILY) as (process, line):
        family = [psutil.Process(process.pid), psutil.Process(int(line))]
        os.kill(family[0].ppid(), signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 128 + signal.SIGTERM
        wait_until_gone(*family)
