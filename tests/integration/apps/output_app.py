"""A worker's app with tasks that give out what they make while they make it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore

from aijobs import ProgressTask, setup

app = Celery("output", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
setup(app)


def words(count: int, marker: str = "") -> Iterator[str]:
    """Tokens as a provider sends them; leaves a file when its connection is closed."""
    try:
        for number in range(count):
            yield f"{number} "
    finally:
        if marker:
            Path(f"{marker}.closed").touch()


def wait_for(marker: str) -> None:
    """Goes on when the test says so."""
    deadline = time.monotonic() + 60
    while not Path(marker).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@app.task(base=ProgressTask, bind=True)
def write(self: ProgressTask, count: int) -> Any:
    self.log("begins", "debug", count=count)
    self.emit({"count": count})
    text = self.stream(words(count))
    self.progress(count, count)
    return text


@app.task(base=ProgressTask, bind=True)
def write_and_wait(self: ProgressTask, marker: str) -> Any:
    """Gives out the last token and goes on only when somebody has seen it."""
    text = self.stream(words(100))
    self.emit("last")
    wait_for(f"{marker}.seen")
    return text


@app.task(base=ProgressTask, bind=True)
def die_midway(self: ProgressTask, marker: str) -> Any:
    self.stream(words(10))
    if not Path(f"{marker}.died").exists():
        wait_for(f"{marker}.seen")
        Path(f"{marker}.died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return self.stream(words(3))


@app.task(base=ProgressTask, bind=True, max_retries=1)
def retry_midway(self: ProgressTask) -> Any:
    attempt = self.request.retries + 1
    self.stream(f"{attempt}.{number} " for number in range(50))
    if attempt == 1:
        raise self.retry(countdown=0)
    return attempt


@app.task(base=ProgressTask, bind=True)
def fail_midway(self: ProgressTask) -> None:
    self.stream(words(50))
    self.log("about to fail", "error")
    raise ValueError("no more")


@app.task(base=ProgressTask, bind=True)
def ignore_midway(self: ProgressTask) -> None:
    self.stream(words(50))
    raise Ignore


@app.task(base=ProgressTask, bind=True)
def endless(self: ProgressTask, marker: str) -> None:
    def tokens() -> Iterator[str]:
        try:
            while True:
                yield "on "
                time.sleep(0.001)
        finally:
            Path(f"{marker}.closed").touch()

    try:
        self.stream(tokens())
    finally:
        self.emit("cleaned")


@app.task(base=ProgressTask, bind=True)
def speak_from_threads(self: ProgressTask) -> None:
    def say(who: int) -> None:
        for number in range(200):
            self.emit({"who": who, "n": number})

    threads = [threading.Thread(target=say, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@app.task(base=ProgressTask, bind=True)
def emit_nonsense(self: ProgressTask) -> str:
    with contextlib.suppress(ValueError):
        self.emit("x" * 10)
        self.emit(["x" * 100_000])
    self.emit(object())
    return "not reached"
