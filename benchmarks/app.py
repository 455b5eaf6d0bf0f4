"""The Celery app that is measured, in worker, API and driver processes: the same tasks for each subject."""

# celery-types does not reach the decorator of an app whose internals are not followed.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psutil
import redis
from celery import Celery, Task

from aijobs import ProgressTask, setup
from benchmarks.harness import END_KEY, MARK_KEY, MEMORY_KEY, NEWS_CHANNEL, START_KEY, Part, Subject

SUBJECT = Subject(os.environ["BENCH_SUBJECT"])
URL = os.environ["BENCH_URL"]
#: A part of aijobs that is taken away.
WITHOUT = os.environ.get("BENCH_WITHOUT")

_SETTINGS: Mapping[Subject, Mapping[str, Any]] = {
    Subject.AIJOBS: {},
    Subject.STOCK: {"task_track_started": True},
    Subject.RELIABLE: {
        "task_track_started": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
    },
}

app = Celery("benchmarks", broker=URL, backend=URL)
app.conf.update(_SETTINGS[SUBJECT])
app.conf.update(json.loads(os.environ.get("BENCH_OPTIONS", "{}")))
if WITHOUT:
    from benchmarks.without import setup_without

    setup_without(app, Part(WITHOUT))
elif SUBJECT is Subject.AIJOBS:
    setup(app)

# A `ProgressTask` sets its app up by itself.
_Base: Any = ProgressTask if SUBJECT is Subject.AIJOBS and WITHOUT != Part.RECORD else Task
_client = redis.Redis.from_url(URL)


@app.task(base=_Base, name="noop")
def noop(number: int = 0) -> None:
    """Does nothing."""


@app.task(base=_Base, name="mark")
def mark(label: str) -> None:
    """Notes the time, and the processor time that the worker's processes have used so far."""
    _client.set(MARK_KEY + label, json.dumps({"at": time.monotonic(), "cpu": _worker_cpu_seconds()}))


@app.task(base=_Base, bind=True, name="time_progress")
def time_progress(self: Any, calls: int) -> float:
    """Seconds per `progress()` call."""
    begun = time.perf_counter()
    for done in range(calls):
        self.progress(done, calls)
    return (time.perf_counter() - begun) / calls


@app.task(base=_Base, bind=True, name="time_update_state")
def time_update_state(self: Any, calls: int) -> float:
    """Seconds per `update_state()` call."""
    begun = time.perf_counter()
    for done in range(calls):
        self.update_state(state="PROGRESS", meta={"current": done, "total": calls})
    return (time.perf_counter() - begun) / calls


@app.task(base=_Base, bind=True, name="talk")
def talk(self: Any, tokens: int, interval: float, offset: float) -> None:
    """Gives out tokens, each telling when, with so many seconds between them, beginning so much later."""
    say, clock = _sayer(self), _Clock(interval, offset)
    for number in range(tokens):
        if pause := clock.until(number):
            time.sleep(pause)
        say(_token())


@app.task(base=_Base, bind=True, name="time_talk")
def time_talk(self: Any, calls: int) -> float:
    """Seconds per token that is given out."""
    say, token = _sayer(self), _token()
    begun = time.perf_counter()
    for _ in range(calls):
        say(token)
    return (time.perf_counter() - begun) / calls


if SUBJECT is Subject.AIJOBS:

    @app.task(base=_Base, bind=True, name="talk_async")
    async def talk_async(self: Any, tokens: int, interval: float, offset: float) -> None:
        """The same on an event loop."""
        say, clock = _sayer(self), _Clock(interval, offset)
        for number in range(tokens):
            await asyncio.sleep(clock.until(number))
            say(_token())


@app.task(base=_Base, bind=True, name="remember")
def remember(self: Any, number: int, step: int) -> None:
    """Reports progress three times, and at every so many jobs how much memory its process has."""
    for done in range(3):
        _report(self, done)
    if number % step == 0:
        _client.rpush(MEMORY_KEY, psutil.Process().memory_info().rss)


@app.task(base=_Base, bind=True, name="outlast")
def outlast(self: Any, label: str, seconds: float) -> None:
    """Takes its time when it starts first; a second start means that it was delivered again, and ends at once."""
    if _note_start(self, label) == 1:
        time.sleep(seconds)


@app.task(base=_Base, bind=True, name="endure")
def endure(self: Any, label: str, seconds: float) -> None:
    """Takes its time, however often it is delivered."""
    _note_start(self, label)
    time.sleep(seconds)
    _client.set(END_KEY + label, time.monotonic())


def _note_start(task: Any, label: str) -> int:
    started: Any = _client.rpush(
        START_KEY + label, json.dumps({"at": time.monotonic(), "worker": task.request.hostname})
    )
    return int(started)


def _report(task: Any, done: int) -> None:
    if SUBJECT is Subject.AIJOBS:
        task.progress(done, 3)
    else:
        task.update_state(state="PROGRESS", meta={"current": done, "total": 3})


def _sayer(task: Any) -> Callable[[str], Any]:
    """Gives out a token, with aijobs or as tutorials do it."""
    return task.emit if SUBJECT is Subject.AIJOBS else partial(_client.publish, NEWS_CHANNEL + task.request.id)


def _token() -> str:
    # Of 20 bytes: what is too long for one event, at 65,000, is parted between two tokens.
    return f"at={time.monotonic():016.6f} "


class _Clock:
    """When each of many things is due that come at equal intervals."""

    def __init__(self, interval: float, offset: float) -> None:
        self._interval = interval
        self._begun = time.monotonic() + offset

    def until(self, number: int) -> float:
        return max(0.0, self._begun + number * self._interval - time.monotonic()) if self._interval else 0.0


def _worker_cpu_seconds() -> float:
    main = psutil.Process(os.getppid())
    return sum(sum(process.cpu_times()[:2]) for process in (main, *main.children()))
