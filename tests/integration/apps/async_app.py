"""A worker's app with tasks that are coroutine functions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from celery import Celery, chord, current_task, group
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from pydantic import BaseModel

from aijobs import ProgressTask, setup

app = Celery("async", broker=os.environ["TEST_BROKER_URL"], backend=os.environ["TEST_BACKEND_URL"])
app.conf.update(worker_soft_shutdown_timeout=float(os.environ.get("TEST_SOFT_SECONDS", "2")))
setup(app)

color: ContextVar[str] = ContextVar("color", default="none")


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    text: str
    length: int


@contextlib.contextmanager
def told(marker: str) -> Any:
    """Says in files that a task began, and when what ended it had run through."""
    Path(f"{marker}.began").write_text(str(os.getpid()))
    try:
        yield
    finally:
        Path(f"{marker}.cleaned").write_text(repr(sys.exception()))


@app.task(base=ProgressTask)
async def answer(question: Question) -> Answer:
    await asyncio.sleep(0)
    return Answer(text=question.text.upper(), length=len(question.text))


@app.task
async def add(a: int, b: int = 2) -> int:
    await asyncio.sleep(0.01)
    return a + b


@app.task
async def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def add_sync(a: int, b: int = 2) -> int:
    return a + b


@app.task(base=ProgressTask, bind=True)
async def nap(self: ProgressTask, seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.task
async def hold(host: str, port: int, marker: str) -> None:
    """Keeps a connection open, as a call to a provider does."""
    with told(marker):
        _, writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.sleep(120)
        finally:
            writer.close()
            # Longer than it takes until the next interruption would come.
            await asyncio.sleep(0.7)
            Path(f"{marker}.closed").touch()


@app.task
async def swallow(marker: str) -> None:
    """Goes on after the first interruption, whatever it is."""
    with told(marker):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(120)
        Path(f"{marker}.swallowed").touch()
        await asyncio.sleep(120)


@app.task
async def wrap(marker: str) -> None:
    with told(marker):
        try:
            await asyncio.sleep(120)
        except asyncio.CancelledError as error:
            raise RuntimeError("what a library makes of it") from error


@app.task
async def end_well(marker: str) -> str:
    Path(f"{marker}.began").touch()
    try:
        await asyncio.sleep(120)
    except asyncio.CancelledError:
        return "stopped in time"
    return "slept"


@app.task(autoretry_for=(Exception,), max_retries=3)
async def retry_all(marker: str) -> None:
    with told(marker):
        await asyncio.sleep(120)


@app.task
async def gather_all(marker: str) -> None:
    """Its children have to end as well."""
    with told(marker):
        async with asyncio.TaskGroup() as children:
            for number in range(3):
                children.create_task(_tell_end(f"{marker}.child{number}"))


async def _tell_end(path: str) -> None:
    try:
        await asyncio.sleep(120)
    finally:
        await asyncio.sleep(0.05)
        Path(path).touch()


@app.task
async def refuse_to_end(marker: str) -> None:
    await _refuse_to_end(marker)


async def _refuse_to_end(marker: str) -> None:
    with told(marker):
        while not Path(f"{marker}.enough").exists():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.sleep(0.2)


@app.task
async def leave_children(marker: str) -> str:
    children = {asyncio.create_task(_tell_end(f"{marker}.child"))}
    await asyncio.sleep(0.05)
    return f"left {len(children)}"


async def _count() -> Any:
    try:
        for number in range(1_000):
            yield number
            await asyncio.sleep(0)
    finally:
        _closed.append("closed")


_closed: list[str] = []


@app.task
async def leave_generator() -> None:
    async for _ in _count():
        break


@app.task
async def count_closed() -> int:
    return len(_closed)


@app.task(soft_time_limit=1)
async def exceed_soft_limit(marker: str) -> None:
    with told(marker):
        await asyncio.sleep(120)


@app.task(soft_time_limit=1)
async def heed_soft_limit() -> str:
    try:
        await asyncio.sleep(120)
    except SoftTimeLimitExceeded:
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
        return "as far as it came"
    return "slept"


@app.task(soft_time_limit=1)
async def exceed_soft_limit_in_group(marker: str) -> None:
    async with asyncio.TaskGroup() as children:
        children.create_task(_tell_end(f"{marker}.child"))


@app.task(time_limit=1)
async def exceed_hard_limit(marker: str) -> None:
    with told(marker):
        await asyncio.sleep(120)


@app.task(time_limit=1)
async def outlive_hard_limit(marker: str) -> None:
    await _refuse_to_end(marker)


@app.task(time_limit=1)
async def return_late() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    return "late"


@app.task(base=ProgressTask, bind=True)
async def look_around(self: ProgressTask) -> list[Any]:
    """What `self.request` and `current_task` are, wherever the task's code may run; and reports from there."""

    async def child(number: int) -> Any:
        await asyncio.sleep(0.02)
        self.progress(number, 10)
        return self.request.id, current_task.name

    def thread() -> Any:
        self.progress(9, 10)
        return self.request.id, current_task.name

    seen = [(self.request.id, current_task.name), *await asyncio.gather(*map(child, range(3)))]
    async with asyncio.TaskGroup() as children:
        grandchild = children.create_task(child(4))
    seen += [grandchild.result(), await asyncio.to_thread(thread), child_of_itself(self)]
    return [list(one) for one in seen]


def child_of_itself(task: Any) -> Any:
    return task.request.id, current_task.name


@app.task
async def keep_color(name: str) -> list[str]:
    before = color.get()
    color.set(name)
    await asyncio.sleep(0.05)
    return [before, color.get(), await asyncio.to_thread(color.get)]


@app.task
async def identify_loop() -> list[int]:
    return [os.getpid(), threading.get_ident(), id(asyncio.get_running_loop())]


@app.task
async def raise_one(kind: str) -> None:
    await _raise_one(kind)


async def _raise_one(kind: str) -> None:
    await asyncio.sleep(0)
    kinds: dict[str, BaseException] = {
        "value": ValueError("the text of the error"),
        "memory": MemoryError("no more"),
        "exit": SystemExit(4),
        "interrupt": KeyboardInterrupt("stop"),
        "cancelled": asyncio.CancelledError(),
        "group": ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
        "base group": BaseExceptionGroup("several", [ValueError("one"), GeneratorExit()]),
        "stop": StopAsyncIteration(),
        "ignore": Ignore(),
        "reject": Reject("not for me", requeue=False),
    }
    raise kinds[kind]


@app.task
async def raise_in_child(kind: str) -> None:
    async with asyncio.TaskGroup() as children:
        children.create_task(_raise_one(kind))


@app.task(bind=True, max_retries=2)
async def retry_thrice(self: Any) -> None:
    await asyncio.sleep(0)
    raise self.retry(exc=ConnectionError("provider away"), countdown=0)


@app.task(autoretry_for=(ConnectionError,), max_retries=2, retry_backoff=False, default_retry_delay=0)
async def retry_by_itself() -> None:
    await asyncio.sleep(0)
    raise ConnectionError("provider away")


@app.task(bind=True)
async def replace(self: Any) -> None:
    raise self.replace(add.s(20, 22))


@app.task
async def block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"


@app.task(base=ProgressTask, bind=True)
def work_in_thread(self: ProgressTask, marker: str) -> list[Any]:
    color.set("red")
    for _ in self.track(range(5)):
        time.sleep(0.01)
    Path(marker).write_text(str(threading.get_ident()))
    return [self.request.id, current_task.name, threading.current_thread() is threading.main_thread()]


@app.task(base=ProgressTask, bind=True)
def report_in_thread(self: ProgressTask, marker: str) -> None:
    with told(marker):
        for _ in self.track(range(1_000_000)):
            time.sleep(0.01)


@app.task(base=ProgressTask, bind=True)
async def report(self: ProgressTask, marker: str) -> None:
    with told(marker):
        for _ in self.track(range(1_000_000)):
            await asyncio.sleep(0.01)


@app.task
async def wait(marker: str, seconds: float = 60) -> str:
    with told(marker):
        await asyncio.sleep(seconds)
    return "waited"


@app.task(acks_late=False)
async def wait_early(marker: str, seconds: float = 60) -> str:
    with told(marker):
        await asyncio.sleep(seconds)
    return "waited"


@app.task(base=ProgressTask, expose=False)
async def submit_more() -> str:
    return str(add.delay(1, 1).id)


def send_chord() -> Any:
    return chord([add.s(1, 1), add.s(2, 2), add_sync.s(3, 3)])(total.s())


def send_chain() -> Any:
    return (add.s(1, 1) | add.s(3) | add_sync.s(4)).apply_async()


def send_group() -> Any:
    return group(add.s(number, number) for number in range(5)).apply_async()


_present: list[int] = []
_met = asyncio.Event()


@app.task
async def meet(people: int) -> int:
    """Ends when so many of it run at the same time."""
    _present.append(1)
    if len(_present) >= people:
        _met.set()
    async with asyncio.timeout(60):
        await _met.wait()
    return len(_present)
