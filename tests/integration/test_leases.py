"""A message stays with a worker as long as the worker lives, and goes to another within seconds when it does not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from aijobs import setup
from aijobs.embedded import start_server
from tests.helpers import wait_until

from .conftest import celery_worker

LEASE_SECONDS = 5.0
#: Longer than a lease, by enough to be taken away if it could be.
LONG_SECONDS = 9


def read_run(line: str) -> dict[str, Any] | None:
    """What a task wrote of its run; a process that was killed while it wrote leaves half a line."""
    try:
        run: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return run


@dataclass(frozen=True)
class Worker:
    """A worker process."""

    process: Any
    log: Path
    name: str

    def kill(self, how: int = signal.SIGKILL) -> None:
        os.killpg(self.process.pid, how)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-4_000:]
        return " ready." in self.log.read_text()


@dataclass
class Stage:
    """A broker, a queue of the test's own, and what ran."""

    url: str
    folder: Path
    queue: str
    conf: dict[str, Any] = field(default_factory=dict)
    broker: str = ""

    def __post_init__(self) -> None:
        self.broker = self.broker or self.url
        self.client: Any = redis.Redis.from_url(self.url, decode_responses=True)
        self.sender = Celery("sender", broker=self.broker, backend=self.url, set_as_current=False)
        self.sender.conf.update(self.conf)
        setup(self.sender)

    @property
    def runs_file(self) -> Path:
        return self.folder / "runs"

    def send(self, what: Any = None, seconds: float = 0.0, **options: Any) -> str:
        return self.send_task("note", what, seconds, **options)

    def send_task(self, task: str, *args: Any, **options: Any) -> str:
        options = {"queue": self.queue, **options}
        return str(self.sender.send_task(f"leases_app.{task}", (str(self.runs_file), *args), **options).id)

    def runs(self) -> list[dict[str, Any]]:
        text = self.runs_file.read_text() if self.runs_file.exists() else ""
        return [run for line in text.splitlines() if (run := read_run(line))]

    def until_runs(self, number: int) -> list[dict[str, Any]]:
        return wait_until(lambda: self.runs() if len(self.runs()) >= number else None, f"run {number}")

    def whats(self) -> list[Any]:
        return [run["what"] for run in self.runs()]

    def held(self, prefix: str = "") -> int:
        return sum(int(self.client.hlen(key)) for key in self.client.keys(f"{prefix}aijobs:held:*"))

    @property
    def lists(self) -> list[str]:
        """The queue's lists, by priority."""
        return [f"{self.queue}{step}" for step in ("", "\x06\x163", "\x06\x166", "\x06\x169")]

    def waiting(self) -> list[dict[str, Any]]:
        """The messages in the queue, the next one first."""
        return [json.loads(item) for key in self.lists for item in reversed(self.client.lrange(key, 0, -1))]

    def is_clean(self) -> bool:
        """Whether nothing waits and nothing is held, by whichever kind of worker."""
        return not self.client.exists(*self.lists, "aijobs:sessions", "unacked", "unacked_index") and not self.held()

    @contextmanager
    def worker(self, name: str, pool: str = "prefork", **options: Any) -> Iterator[Worker]:
        with self.starting(name, pool, **options) as worker:
            wait_until(worker.is_ready, f"the start of {name}")
            yield worker

    @contextmanager
    def starting(
        self, name: str, pool: str = "prefork", concurrency: int = 1, environ: Mapping[str, str] | None = None
    ) -> Iterator[Worker]:
        log = self.folder / f"{name}.log"
        told = {
            **os.environ,
            "TEST_BROKER_URL": self.broker,
            "TEST_BACKEND_URL": self.url,
            "TEST_CONF": json.dumps(self.conf),
            "AIJOBS_LEASE_SECONDS": str(LEASE_SECONDS),
            **(environ or {}),
        }
        options = ("-P", pool, "-c", str(concurrency), "-n", f"{name}@host", "-Q", self.queue)
        with celery_worker("leases_app", log, told, *options) as (process, _):
            try:
                yield Worker(process, log, f"{name}@host")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start_server(use_environment=False) as server:
        yield server.url


@pytest.fixture
def stage(server: str, tmp_path: Path) -> Iterator[Stage]:
    with redis.Redis.from_url(server) as client:
        client.flushall()
    stage = Stage(server, tmp_path, "leased")
    yield stage
    stage.client.close()
    stage.sender.close()


def eventually_clean(stage: Stage) -> None:
    wait_until(stage.is_clean, "the end of all messages")


def until_seen(worker: Worker, text: str) -> None:
    wait_until(lambda: text in worker.log.read_text(), f"{text!r} in the log")


@contextmanager
def heir_of(stage: Stage, name: str = "heir") -> Iterator[Worker]:
    """A worker that takes from others: one that has renewed for as long as a lease lasts."""
    with stage.worker(name) as heir:
        ready = time.monotonic() + LEASE_SECONDS + 2
        wait_until(lambda: time.monotonic() > ready, "a lease's time")
        yield heir


def test_whatever_a_live_worker_holds_stays_with_it(stage: Stage) -> None:
    stage.conf["worker_prefetch_multiplier"] = 4
    due = datetime.now(UTC) + timedelta(seconds=LONG_SECONDS)
    with stage.worker("holder") as holder:
        stage.send("long", LONG_SECONDS)
        stage.until_runs(1)
        stage.send("eta", eta=due)
        stage.send("prefetched")
        wait_until(lambda: stage.held() == 3, "the fetches")
        with stage.worker("thief"):
            runs = stage.until_runs(3)
            eventually_clean(stage)
    assert sorted(stage.whats()) == ["eta", "long", "prefetched"]
    assert {run["worker"] for run in runs} == {holder.name}
    assert next(run["at"] for run in runs if run["what"] == "eta") >= due.timestamp()


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_task_that_keeps_pythons_lock_keeps_its_message(stage: Stage, pool: str) -> None:
    with stage.worker("holder", pool) as holder:
        stage.send_task("hold_lock", LONG_SECONDS)
        stage.until_runs(1)
        with stage.worker("thief"):
            eventually_clean(stage)
    assert [run["worker"] for run in stage.runs()] == [holder.name]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_message_of_a_dead_or_frozen_worker_goes_to_another(stage: Stage, how: int) -> None:
    with stage.worker("victim") as victim:
        stage.send("job", 60)
        stage.until_runs(1)
        with heir_of(stage) as heir:
            victim.kill(how)
            began = time.time()
            first, second = stage.until_runs(2)
            victim.kill(signal.SIGCONT) if how == signal.SIGSTOP else None
            eventually_clean(stage)
    print(f"it ran again after {second['at'] - began:.1f} s")
    assert (first["worker"], first["deliveries"], first["redelivered"]) == (victim.name, None, False)
    assert (second["worker"], second["deliveries"], second["redelivered"]) == (heir.name, 1, True)


def test_a_woken_worker_goes_on(stage: Stage) -> None:
    with stage.worker("sleeper") as sleeper:
        stage.send("taken away", 25)
        stage.until_runs(1)
        with heir_of(stage) as heir:
            sleeper.kill(signal.SIGSTOP)
            stage.until_runs(2)
            heir.process.terminate()
            heir.process.wait(30)
        sleeper.kill(signal.SIGCONT)
        stage.send("new")
        stage.until_runs(3)
        eventually_clean(stage)
    assert [run["worker"] for run in stage.runs()] == [sleeper.name, heir.name, sleeper.name]


def test_kills_at_any_moment_lose_nothing(stage: Stage) -> None:
    jobs = 400
    for number in range(jobs):
        stage.send(number, 0.005)
    dice = random.Random(7)
    for round_ in range(5):
        before = len(stage.runs())
        with stage.worker(f"victim{round_}", concurrency=2) as victim:
            stage.until_runs(min(jobs, before + dice.randint(1, 60)))
            victim.kill()
    with stage.worker("last", concurrency=2):
        wait_until(lambda: len(set(stage.whats())) == jobs, "all jobs")
        eventually_clean(stage)
    twice = len(stage.runs()) - jobs
    print(f"{twice} of {jobs} jobs ran twice after 5 kills")
    assert twice <= 5 * 5


def test_stock_and_leased_workers_share_a_queue(stage: Stage) -> None:
    jobs = 60
    with stage.starting("stock", environ={"TEST_STOCK": "1"}) as stock, stage.worker("leased") as leased:
        wait_until(stock.is_ready, "the stock worker's start")
        sender = Celery("stock", broker=stage.url, backend=stage.url, set_as_current=False)
        for number in range(jobs // 2):
            stage.send(number, 0.05)
            sender.send_task("leases_app.note", (str(stage.runs_file), -number - 1, 0.05), queue=stage.queue)
        runs = stage.until_runs(jobs)
        eventually_clean(stage)
    assert Counter(stage.whats()) == Counter(range(-jobs // 2, jobs // 2))
    assert {run["worker"] for run in runs} == {stock.name, leased.name}


def test_garbage_in_a_queue_is_dropped(stage: Stage) -> None:
    with stage.worker("sturdy") as sturdy:
        for item in (
            "",
            "no json",
            "[]",
            "1",
            "{}",
            '{"properties": {}}',
            b"\xff\xfe",
            '{"properties": null, "id": "x"}',
        ):
            stage.client.lpush(stage.queue, item)
        broken = {"body": "%", "properties": {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": {}}}
        stage.client.lpush(stage.queue, json.dumps(broken))
        broken["properties"]["delivery_info"] = {"exchange": "", "routing_key": stage.queue}  # type: ignore[index]
        stage.client.lpush(stage.queue, json.dumps(broken), json.dumps({**broken, "body": 7}))
        stage.send("sound")
        stage.until_runs(1)
        eventually_clean(stage)
        until_seen(sturdy, "Dropped from queue 'leased'")
    assert "no json" not in sturdy.log.read_text()


def test_higher_priorities_go_first(stage: Stage) -> None:
    for priority in (9, 0, 6, 3):
        stage.send(priority, priority=priority)
    with stage.worker("orderly", "solo"):
        stage.until_runs(4)
    assert stage.whats() == [0, 3, 6, 9]


def test_a_server_that_forgets_scripts_is_told_again(stage: Stage) -> None:
    jobs = 200
    with stage.worker("patient", concurrency=2):
        for number in range(jobs):
            stage.send(number)
            if number % 5 == 0:
                stage.client.script_flush()
        wait_until(lambda: stage.client.script_flush() and len(stage.runs()) >= jobs, "all jobs")
        eventually_clean(stage)
    assert sorted(stage.whats()) == list(range(jobs))


def test_a_restart_of_the_server_under_load_runs_nothing_twice(tmp_path: Path) -> None:
    jobs = 120
    server = start_server(tmp_path / "data", use_environment=False)
    try:
        stage = Stage(server.url, tmp_path, "leased")
        for number in range(jobs):
            stage.send(number, 0.05)
        with stage.worker("one", concurrency=2), stage.worker("two", "threads", concurrency=2):
            for part in (1, 2):
                stage.until_runs(jobs * part // 4)
                server.stop()
                server = start_server(tmp_path / "data", port=server.port, use_environment=False)
            stage.until_runs(jobs)
            eventually_clean(stage)
        assert sorted(stage.whats()) == list(range(jobs))
    finally:
        server.stop()


def test_an_outage_longer_than_a_lease_runs_nothing_twice(tmp_path: Path) -> None:
    server = start_server(tmp_path / "data", use_environment=False)
    try:
        stage = Stage(server.url, tmp_path, "leased")
        with stage.worker("one") as one, heir_of(stage, "two") as two:
            for name in ("first", "second"):
                stage.send(name, 3 * LONG_SECONDS)
            stage.until_runs(2)
            server.stop()
            back = time.monotonic() + LEASE_SECONDS + 2
            wait_until(lambda: time.monotonic() > back, "the end of the outage")
            server = start_server(tmp_path / "data", port=server.port, use_environment=False)
            eventually_clean(stage)
        assert {run["worker"] for run in stage.runs()} == {one.name, two.name}
        assert sorted(stage.whats()) == ["first", "second"]
    finally:
        server.stop()


def test_a_graceful_stop_gives_back_what_was_fetched_and_counts_nothing(stage: Stage) -> None:
    stage.conf["worker_prefetch_multiplier"] = 4
    with stage.worker("leaver") as leaver:
        jobs = [stage.send(number, 60 if number == 0 else 0) for number in range(6)]
        stage.until_runs(1)
        wait_until(lambda: stage.held() == 4, "the fetches")
        leaver.process.send_signal(signal.SIGQUIT)
        leaver.process.send_signal(signal.SIGQUIT)
        leaver.process.wait(60)
    assert stage.held() == 0
    assert not stage.client.exists("aijobs:sessions", "unacked", "unacked_index")
    assert [message["properties"]["correlation_id"] for message in stage.waiting()] == jobs
    assert not any("aijobs_deliveries" in message["headers"] for message in stage.waiting())


def test_a_warm_stop_finishes_and_leaves_nothing_held(stage: Stage) -> None:
    with stage.worker("leaver", "threads", concurrency=2) as leaver:
        for number in range(2):
            stage.send(number, 2)
        stage.until_runs(2)
        leaver.process.terminate()
        later = stage.send("later")
        leaver.process.wait(60)
    assert [message["properties"]["correlation_id"] for message in stage.waiting()] == [later]
    assert stage.held() == 0
    assert not stage.client.exists("aijobs:sessions")
