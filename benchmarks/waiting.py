"""Jobs that wait, many at once in one worker process: aijobs, Celery's pools and libraries made for asyncio."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import redis

from benchmarks.contestants import AT_ONCE, OURS, PEERS, Contestant
from benchmarks.harness import Bench, BenchmarkError, Metrics, Round
from benchmarks.peers import IDS_KEY, RUN_KEY
from benchmarks.report import Comparison, Metric, Outcome, compare, values

#: How long each job waits.
SECONDS = 0.1

#: What the slowest worker may need, its start included.
_LONGEST_SECONDS = 60.0
_RECORDED_SECONDS = 10.0
#: The part of the waits in all the time that is aimed at.
_AIM = 0.79


def run(bench: Bench) -> Outcome:
    """Measures every library that can be installed."""
    missing: dict[str, str] = {}
    contestants = {one.name: partial(_try, bench, one, missing) for one in (OURS, *PEERS)}
    rounds = bench.rounds(contestants)
    measured = [one for one in PEERS if one.name not in missing]
    if OURS.name in missing:
        raise BenchmarkError(f"{OURS.name}: {missing[OURS.name]}")
    notes = [f"{name} is not measured. {reason}" for name, reason in missing.items()]
    return Outcome(list(_compare(bench.scale.waiting_jobs, rounds, measured)), rounds, [*notes, *_versions(measured)])


def _compare(jobs: int, rounds: Sequence[Round], peers: Sequence[Contestant]) -> Iterator[Comparison]:
    ideal = jobs * SECONDS / AT_ONCE
    title = f"{jobs:,} jobs of {1e3 * SECONDS:g} ms, {AT_ONCE} at once"
    ours = values(rounds, OURS.name, "seconds")
    waits = [ideal] * len(rounds)
    yield Comparison(f"{title}, against none but their waits", "s", ours, waits, lower_is_better=True, aim=_AIM)
    for peer in peers:
        metrics = (
            Metric("seconds", "first start to last record", "s", lower_is_better=True, target=peer.target),
            Metric("cpu_ms", "worker CPU a job", "ms", lower_is_better=True),
        )
        yield from compare(f"{title}, {peer.name}", rounds, OURS.name, peer.name, metrics)


def _versions(peers: Sequence[Contestant]) -> Iterator[str]:
    for peer in peers:
        yield f"{peer.name} is {', '.join(peer.requirements)}."


def _try(bench: Bench, one: Contestant, missing: dict[str, str]) -> Metrics:
    """What was measured; nothing, and why, when it could not be."""
    if one.name in missing:
        return {}
    try:
        return _measure(bench, one, one.python(bench.log))
    except BenchmarkError as error:
        print(f"  {one.name} is not measured. {error}", file=sys.stderr, flush=True)
        missing[one.name] = str(error)
        return {}


def _measure(bench: Bench, one: Contestant, python: str) -> Metrics:
    jobs = bench.scale.waiting_jobs
    with (
        bench.stage(one.name, _environ(jobs), python) as stand,
        redis.Redis.from_url(stand.url, socket_timeout=None) as client,
    ):
        stand.read(one.module, "publish")
        worker = stand.start(*one.worker)
        found = _run(client)
        recorded_at = _until_recorded(client, one)
        if (right := int(stand.read(one.module, "check"))) != jobs:
            raise BenchmarkError(f"{right} of {jobs} jobs have the right result.")
        # How long they take to stop is not the question.
        worker.kill()
    return {"seconds": recorded_at - found["begun"], "cpu_ms": 1e3 * found["cpu"] / jobs}


def _environ(jobs: int) -> Mapping[str, str]:
    return {"BENCH_JOBS": str(jobs), "BENCH_AT_ONCE": str(AT_ONCE), "BENCH_SECONDS": str(SECONDS)}


def _run(client: redis.Redis) -> dict[str, float]:
    """What the worker measured, as soon as its last job is through."""
    answer: Any = client.blpop([RUN_KEY], timeout=_LONGEST_SECONDS)
    if answer is None:
        raise BenchmarkError(f"The worker did not run all jobs in {_LONGEST_SECONDS:g} seconds.")
    return dict(json.loads(answer[1]))


def _until_recorded(client: redis.Redis, one: Contestant) -> float:
    """When the last job had its record: a time at which one was still missing, or the end of the jobs."""
    at = time.monotonic()
    ids: Any = client.lrange(IDS_KEY, 0, -1)
    deadline = at + _RECORDED_SECONDS
    # Those that were queued last are looked at first, as reading all of them takes a while.
    for some in (ids[-2 * AT_ONCE :], ids[: -2 * AT_ONCE]):
        while some := _unrecorded(client, one, some):
            at = time.monotonic()
            if at > deadline:
                raise BenchmarkError(f"{len(some)} jobs have no result.")
    return at


def _unrecorded(client: redis.Redis, one: Contestant, ids: Sequence[bytes]) -> list[bytes]:
    pipe = client.pipeline(transaction=False)
    for job_id in ids:
        key = one.key.format(id=job_id.decode())
        pipe.hget(key, one.field) if one.field else pipe.get(key)
    answers: list[bytes | None] = pipe.execute()
    return [job_id for job_id, answer in zip(ids, answers, strict=True) if answer is None or one.holds not in answer]
