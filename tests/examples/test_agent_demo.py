"""The agent's demo in a terminal."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.examples.demo_run import DEADLINE_SECONDS, Demo, agent_demo

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_once_answers_waits_and_leaves_nothing(scratch: Path, pool: str) -> None:
    demo = agent_demo(scratch, "--once", "--pool", pool, "How is a running job cancelled?")
    status, output = demo.finish()
    assert status == 0, output
    assert "Planned 3 questions" in output
    assert "queued: rate_limited, until" in output
    assert "# How is a running job cancelled?" in output
    assert "cancel_requested_at is set" in output
    assert re.search(r"\d+ tokens read, \d+ written", output)
    assert demo.leftovers() == []


def test_it_serves_until_it_is_stopped_and_replaces_a_killed_worker(scratch: Path) -> None:
    demo = agent_demo(scratch)
    url, first = _ready(demo)
    assert "Research agent" in httpx.get(url, timeout=DEADLINE_SECONDS).raise_for_status().text
    os.kill(first, signal.SIGKILL)
    demo.read_until(f"The worker {first} has ended")
    demo.read_until("A worker runs")
    demo.process.send_signal(signal.SIGINT)
    status, output = demo.finish()
    assert status == 130
    assert output.endswith("Stopped; nothing is left running.\n")
    assert demo.leftovers() == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_leaves_nothing_when_it_is_stopped_in_the_middle(scratch: Path, number: signal.Signals, status: int) -> None:
    demo = agent_demo(scratch, "--once")
    demo.read_until("Planned")
    demo.process.send_signal(number)
    assert demo.finish()[0] == status
    assert demo.leftovers() == []


def _ready(demo: Demo) -> tuple[str, int]:
    """Where it serves, and its worker's process."""
    assert demo.process.stdout
    url = ""
    for line in demo.process.stdout:
        url = line.strip() if "http://" in line else url
        if found := re.search(r"kill -9 (\d+)", line):
            return url, int(found[1])
    raise AssertionError("the demo has ended")
