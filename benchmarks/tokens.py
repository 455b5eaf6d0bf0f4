"""Tokens on their way from a worker to clients: how late they come, how many, and what they cost."""

from __future__ import annotations

import asyncio
import math
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

import psutil
import redis
from typing_extensions import override

from benchmarks.harness import Bench, Metrics, Round, Scale, Stand, Subject
from benchmarks.report import Comparison, Metric, Outcome, compare
from benchmarks.streams import Received, cpu_seconds, follow, until_followed

#: As many jobs give out tokens at a time, and each has one client.
JOBS = 20
#: Tokens a second and job.
RATE = 50.0
#: How many times as many tokens aijobs gives out as fast as it can: with fewer it would be over too soon.
OUR_BURST = 5

_WORKER = "talker@bench"
#: What HTTP puts between two parts of a long answer, anywhere in it.
_CHUNK = re.compile(rb"\r\n[0-9a-f]+\r\n")
_TOKEN = re.compile(rb"at=([0-9.]{16}) ")
_WITH_TOKENS = re.compile(rb"data:[^\n]*at=")
_PACED = (
    Metric("p50_ms", "p50, call to client", "ms", lower_is_better=True),
    Metric("p99_ms", "p99, call to client", "ms", lower_is_better=True),
    Metric("per_message", "tokens in a message", ""),
    Metric("worker_us", "worker CPU for each", "µs", lower_is_better=True),
    Metric("api_us", "API CPU for each", "µs", lower_is_better=True),
)
_BURST = (
    Metric("burst_per_second", "delivered", "1/s"),
    Metric("burst_worker_us", "worker CPU for each", "µs", lower_is_better=True),
    Metric("burst_api_us", "API CPU for each", "µs", lower_is_better=True),
)
_CALL = Metric("call_us", "a call", "µs", lower_is_better=True)


@dataclass(frozen=True, slots=True)
class _Talker:
    """Who gives out tokens, in what pool, and who passes them on."""

    subject: Subject
    pool: str
    task: str
    api: str


_OURS = "threads"
_ASYNC = "asyncio"
_NAIVE = "a publish per token, a subscription per client"
_TALKERS: Mapping[str, _Talker] = {
    _OURS: _Talker(Subject.AIJOBS, "threads", "talk", "benchmarks.api:app"),
    _ASYNC: _Talker(Subject.AIJOBS, "asyncio", "talk_async", "benchmarks.api:app"),
    _NAIVE: _Talker(Subject.RELIABLE, "threads", "talk", "benchmarks.naive_streams:app"),
}


def run(bench: Bench) -> Outcome:
    """Gives out tokens with `emit()`, in two kinds of pool, and with a publish each."""
    rounds = bench.rounds({name: partial(_measure, bench, talker) for name, talker in _TALKERS.items()})
    return Outcome(list(_compare(rounds)), rounds)


def _compare(rounds: Sequence[Round]) -> Iterator[Comparison]:
    for ours in (_OURS, _ASYNC):
        paced = f"{JOBS} jobs of {RATE:g} tokens/s, {ours}"
        yield from compare(paced, rounds, ours, _NAIVE, _PACED)
        yield from compare(f"{JOBS} jobs as fast as they can, {ours}", rounds, ours, _NAIVE, _BURST)
    yield from compare("emit(), a publish", rounds, _OURS, _NAIVE, [_CALL])


def _measure(bench: Bench, talker: _Talker) -> Metrics:
    scale = bench.scale
    most = scale.burst_tokens * (OUR_BURST if talker.subject is Subject.AIJOBS else 1)
    with bench.stage(talker.subject) as stand, redis.Redis.from_url(stand.url) as client:
        worker = stand.start_worker(JOBS, "-P", talker.pool, "-n", _WORKER)
        port, api = stand.start_api(talker.api)
        stand.drive("await_workers", names=[_WORKER])
        timed = {} if talker.task == "talk_async" else _time_calls(stand, scale)
        stage = _Stage(stand, client, talker, port, psutil.Process(worker.pid), psutil.Process(api))
        paced = asyncio.run(stage.follow_all("paced", int(RATE * scale.token_seconds), 1 / RATE))
        burst = asyncio.run(stage.follow_all("burst", most, 0.0))
    return {**timed, **paced, **{f"burst_{name}": value for name, value in burst.items()}}


def _time_calls(stand: Stand, scale: Scale) -> Metrics:
    stand.drive("run_time_talk", calls=scale.warm_up)
    return {_CALL.key: 1e6 * stand.drive("run_time_talk", calls=scale.token_calls)}


@dataclass(frozen=True, slots=True)
class _Stage:
    """One talker's processes."""

    stand: Stand
    client: redis.Redis
    talker: _Talker
    port: int
    worker: psutil.Process
    api: psutil.Process

    async def follow_all(self, queue: str, tokens: int, interval: float) -> Metrics:
        """Has clients follow jobs that wait in a queue of their own, and then has the worker run them."""
        job_ids = [str(uuid.uuid4()) for _ in range(JOBS)]
        job = {"task": self.talker.task, "tokens": tokens, "interval": interval, "queue": queue}
        await asyncio.to_thread(self.stand.drive, "publish_talks", job_ids=job_ids, **job)
        heard = _Heard()
        with ExitStack() as clients:
            for job_id in job_ids:
                clients.callback((await follow(self.port, job_id, heard)).close)
            await asyncio.to_thread(until_followed, self.client, self.stand, job_ids, JOBS)
            before = cpu_seconds(self.worker), cpu_seconds(self.api)
            await asyncio.to_thread(self.stand.drive, "add_queue", name=_WORKER, queue=queue)
            await asyncio.to_thread(heard.wait_for, JOBS * tokens, "tokens")
        return heard.metrics() | self._costs(before, JOBS * tokens)

    def _costs(self, before: tuple[float, float], tokens: int) -> dict[str, float]:
        worker, api = before
        return {
            "worker_us": 1e6 * (cpu_seconds(self.worker) - worker) / tokens,
            "api_us": 1e6 * (cpu_seconds(self.api) - api) / tokens,
        }


@dataclass(slots=True)
class _Heard(Received):
    """The tokens that all clients have got."""

    messages: int = 0
    #: When the first of them was given out.
    begun: float = math.inf

    @override
    def note(self, text: bytes) -> None:
        """Notes the tokens, and in how many messages they are."""
        now, text = time.monotonic(), _CHUNK.sub(b"", text)
        if given := [float(at) for at in _TOKEN.findall(text)]:
            self.begun, self.last = min(self.begun, *given), now
            self.latencies += [now - at for at in given]
            self.messages += len(_WITH_TOKENS.findall(text))

    @override
    def metrics(self) -> dict[str, float]:
        """Rate, percentiles, and how many tokens a message has."""
        tokens = len(self.latencies)
        cuts = quantiles(self.latencies, n=100)
        return {
            "per_second": tokens / (self.last - self.begun),
            "p50_ms": 1e3 * cuts[49],
            "p99_ms": 1e3 * cuts[98],
            "per_message": tokens / self.messages,
        }
