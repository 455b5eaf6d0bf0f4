"""Event streams: one uvicorn process, and many clients that follow jobs which report often."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import quantiles

import psutil
import redis
from typing_extensions import override

from benchmarks.harness import NEWS_CHANNEL, Bench, BenchmarkError, Metrics, Stand, Subject, wait_until
from benchmarks.report import Comparison, Metric, Outcome, compare, values

CLIENTS = 500
JOBS = 50
#: Events a second and job.
RATE = 20.0

#: What aijobs promises, however many clients a process serves.
LIVE_CONNECTIONS = 1

_MEGABYTE = 1e6
_SETTLE_SECONDS = 60.0
_METRICS = (
    Metric("per_second", "delivered", "1/s"),
    Metric("p50_ms", "p50, write to client", "ms", lower_is_better=True),
    Metric("p99_ms", "p99, write to client", "ms", lower_is_better=True),
    Metric("cpu_us", "API CPU for each", "µs", lower_is_better=True),
    Metric("rss_mb", "API resident", "MB", lower_is_better=True),
    Metric("connections", "API connections to the server", "", lower_is_better=True),
)

_WRITTEN_AT = re.compile(rb"at=([0-9.]+)")


def run(bench: Bench) -> Outcome:
    """Follows jobs with the streams of `job_router`, and with those of `benchmarks.naive_streams`."""
    ours, naive = "aijobs", "a subscription per client"
    rounds = bench.rounds(
        {
            ours: partial(_measure, bench, Subject.AIJOBS, "benchmarks.api:app"),
            naive: partial(_measure, bench, Subject.STOCK, "benchmarks.naive_streams:app"),
        }
    )
    title = f"{CLIENTS} streams of {JOBS} jobs, {RATE:g} events/s each"
    live, naive_live = (values(rounds, name, "live_connections") for name in (ours, naive))
    listening = Comparison(f"{title}: of these, listening", "", live, naive_live, True, limit=LIVE_CONNECTIONS)
    return Outcome([*compare(title, rounds, ours, naive, _METRICS), listening], rounds)


def _measure(bench: Bench, subject: Subject, app: str) -> Metrics:
    with bench.stage(subject) as stand:
        return asyncio.run(_follow_all(stand, app, bench.scale.stream_seconds))


async def _follow_all(stand: Stand, app: str, seconds: float) -> Metrics:
    job_ids = [str(uuid.uuid4()) for _ in range(JOBS)]
    port, pid = stand.start_api(app)
    if stand.subject is Subject.AIJOBS:
        await asyncio.to_thread(stand.drive, "begin_jobs", job_ids=job_ids)
    api, received = psutil.Process(pid), Received()
    with ExitStack() as clients, redis.Redis.from_url(stand.url) as client:
        for number in range(CLIENTS):
            clients.callback((await follow(port, job_ids[number % JOBS], received)).close)
        await asyncio.to_thread(until_followed, client, stand, job_ids, CLIENTS)
        before = cpu_seconds(api)
        await asyncio.to_thread(stand.drive, "write_events", job_ids=job_ids, rate=RATE, seconds=seconds)
        expected = CLIENTS * int(RATE * seconds)
        await asyncio.to_thread(received.wait_for, expected, "events")
        used = cpu_seconds(api) - before
        return {**received.metrics(), "cpu_us": 1e6 * used / expected, **_footprint(api, client)}


def until_followed(client: redis.Redis, stand: Stand, job_ids: list[str], clients: int) -> None:
    """Waits until the API hears of these jobs, for so many clients in all."""
    ours = stand.subject is Subject.AIJOBS
    channels = [("aijobs:news:" if ours else NEWS_CHANNEL) + job_id for job_id in job_ids]
    subscriptions = len(job_ids) if ours else clients
    wait_until(
        lambda: sum(count for _, count in client.pubsub_numsub(*channels)) >= subscriptions,
        _SETTLE_SECONDS,
        "all clients to follow their jobs",
    )


def _footprint(api: psutil.Process, client: redis.Redis) -> Mapping[str, float]:
    """Memory of the API, and its connections to the server, by their addresses."""
    ports = {one.laddr.port for one in api.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED}
    known = [one for one in client.client_list() if int(one["addr"].rpartition(":")[2]) in ports]
    return {
        "rss_mb": api.memory_info().rss / _MEGABYTE,
        "connections": len(known),
        "live_connections": sum(int(one["sub"]) > 0 for one in known),
    }


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time that a process has used so far, seconds."""
    used = process.cpu_times()
    return float(used.user + used.system)


@dataclass(slots=True)
class Received:
    """What all clients together have got."""

    latencies: list[float] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    def note(self, text: bytes) -> None:
        """Notes the events in what a client has got."""
        now = time.monotonic()
        if found := [now - float(written) for written in _WRITTEN_AT.findall(text)]:
            self.first, self.last = self.first or now, now
            self.latencies += found

    def wait_for(self, expected: int, what: str) -> None:
        """Waits until so many were received.

        Raises:
            BenchmarkError: they were not, or there were more.
        """
        wait_until(lambda: len(self.latencies) >= expected, _SETTLE_SECONDS, f"all {what}")
        if len(self.latencies) != expected:
            raise BenchmarkError(f"{len(self.latencies)} {what} were received instead of {expected}.")

    def metrics(self) -> Metrics:
        """Rate and percentiles."""
        cuts = quantiles(self.latencies, n=100)
        rate = len(self.latencies) / (self.last - self.first)
        return {"per_second": rate, "p50_ms": 1e3 * cuts[49], "p99_ms": 1e3 * cuts[98]}


class _Follower(asyncio.Protocol):
    """One client, which takes what comes."""

    def __init__(self, received: Received) -> None:
        self._received = received
        self._rest = b""
        self.answered = asyncio.get_running_loop().create_future()

    @override
    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data.startswith(b"HTTP/1.1 200 "))
        text, end, self._rest = (self._rest + data).rpartition(b"\n\n")
        if end:
            self._received.note(text)


async def follow(port: int, job_id: str, received: Received) -> asyncio.Transport:
    """Opens the event stream of a job.

    Raises:
        BenchmarkError: it was not to be had.
    """
    loop = asyncio.get_running_loop()
    transport, follower = await loop.create_connection(partial(_Follower, received), "127.0.0.1", port)
    transport.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nhost: benchmark\r\n\r\n".encode())
    if not await follower.answered:
        raise BenchmarkError(f"The events of job {job_id} were not to be had.")
    return transport
