"""How long a page of the list takes when very many jobs are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from importlib.resources import files
from statistics import quantiles

import redis

from aijobs.job import JobStatus
from aijobs.settings import Settings
from aijobs.store import JobStore, open_store
from aijobs.store.record import from_us
from aijobs.store.values import JobFilter, Position
from benchmarks.harness import Bench, BenchmarkError, Metrics, Subject
from benchmarks.report import Comparison, Outcome, values

#: What is promised of 95 % of the pages.
PROMISED_MILLISECONDS = 50
PAGE = 50

_OWNERS = 1_000
#: Jobs that one call of the script makes.
_CHUNK = 2_000
_FIRST_CREATED_US = 1_700_000_000_000_000
_APART_US = 10_000

_SOURCES = files("aijobs.store") / "lua"

#: Makes finished jobs as the store's own scripts do, but without events, many in one call.
_FILL = """
emit = function() end
local owners, apart = tonumber(ARGV[15]), tonumber(ARGV[16])
for number = tonumber(ARGV[13]), tonumber(ARGV[14]) do
  id = string.format('00000000-0000-4000-8000-%012d', number)
  key, now = root .. ':job:' .. id, string.format('%.0f', tonumber(ARGV[17]) + number * apart)
  local owner, task = 'owner-' .. number % owners, 'task-' .. number % 5
  ARGV[5], ARGV[9] = task, owner .. '\\n' .. task .. '\\ncelery\\n'
  insert({'owner', owner, 'arguments', '[[], {"texts": ["one text", "another text", "and one more"]}]'})
  redis.call('HSET', key, 'attempt', 1, 'started', now, 'first_started', now, 'ended', now, 'completed', now,
    'worker', 'celery@host', 'progress', '1', 'result', '{"texts": 3}', 'result_bytes', 12)
  enter(load_job(), number % 20 == 0 and 'failed' or 'success')
  commit(load_job())
end
"""

_QUERIES = ("first page", "of one status", "of one owner", "of one task", "deep in the list", "of an hour")


def run(bench: Bench) -> Outcome:
    """Pages of the list in the store, with filters and without."""
    rounds = bench.rounds({"aijobs": partial(_measure, bench)})
    title = f"page of {PAGE}, {bench.scale.kept_jobs:,} jobs kept"
    return Outcome(
        [
            Comparison(
                f"{title}, {query}: {percentile}",
                "ms",
                values(rounds, "aijobs", f"{query} {percentile}"),
                [],
                lower_is_better=True,
                limit=PROMISED_MILLISECONDS if percentile == "p95" else None,
            )
            for query in _QUERIES
            for percentile in ("p50", "p95")
        ],
        rounds,
    )


def _measure(bench: Bench) -> Metrics:
    with bench.stage(Subject.AIJOBS) as stand, redis.Redis.from_url(stand.url, socket_timeout=None) as client:
        _fill(client, bench.scale.kept_jobs)
        store = open_store(stand.url, Settings())
        timed = (
            _time(store, name, *query, bench.scale.pages) for name, query in _queries(bench.scale.kept_jobs).items()
        )
        return {name: value for metrics in timed for name, value in metrics}


def _fill(client: redis.Redis, jobs: int) -> None:
    library = "".join((_SOURCES / f"{name}.lua").read_text(encoding="utf-8") for name in ("liveness", "lib"))
    fill = client.register_script(library + _FILL)
    header = ("", "", int(86_400e6), 1_000, "", "celery", "", 3, "", "", "", 0)
    for first in range(0, jobs, _CHUNK):
        last = min(first + _CHUNK, jobs) - 1
        fill(keys=["aijobs"], args=[*header, first, last, _OWNERS, _APART_US, _FIRST_CREATED_US])


def _queries(jobs: int) -> Mapping[str, tuple[JobFilter, Position | None]]:
    middle = Position(_FIRST_CREATED_US + jobs // 2 * _APART_US, "")
    hour = JobFilter(created_after=_created(jobs // 3), created_before=_created(jobs // 3 + 360_000))
    queries = (
        (JobFilter(), None),
        (JobFilter(statuses=frozenset({JobStatus.FAILED})), None),
        (JobFilter(owner="owner-7"), None),
        (JobFilter(task="task-3"), None),
        (JobFilter(), middle),
        (hour, None),
    )
    return dict(zip(_QUERIES, queries, strict=True))


def _created(number: int) -> datetime:
    return from_us(_FIRST_CREATED_US + number * _APART_US)


def _time(
    store: JobStore, name: str, where: JobFilter, after: Position | None, times: int
) -> Iterator[tuple[str, float]]:
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        page = store.run(store.list(where, PAGE, after))
        seconds.append(time.perf_counter() - begun)
    if not page.jobs:
        raise BenchmarkError(f"The list {name} is empty.")
    cuts = quantiles(seconds, n=20)
    yield f"{name} p50", 1e3 * cuts[9]
    yield f"{name} p95", 1e3 * cuts[18]
