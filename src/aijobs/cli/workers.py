"""`aijobs workers`: who is alive, and what it runs."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aijobs.cli._app import app_option, open_app
from aijobs.cli._letter import attempts
from aijobs.cli._text import cut, duration, json_line, moment, printable, table
from aijobs.errors import StoreUnavailable
from aijobs.job import Job

if TYPE_CHECKING:
    from aijobs.cli import Subparsers
    from aijobs.store.base import JobStore
    from aijobs.store.values import LiveWorker

#: Seconds between two looks of `--watch`.
WATCH_SECONDS = 2.0

_HEAD = ("WORKER", "PROCESS", "POOL", "QUEUES", "UP SINCE", "LAST SIGN")
#: What a terminal takes for: begin at the top, with nothing below.
_CLEAR = "\x1b[H\x1b[J"
_HINT = (
    "Workers report to {url} every few seconds. Is one running, with this store, and with aijobs attached to its app? "
    "It says so in its log when it starts."
)
_DESCRIPTION = "Lists the workers that report to the job store of the app, each with the jobs that it runs."


def register(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "workers", help="list the workers that are alive", description=_DESCRIPTION, parents=[app_option()]
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each worker, one a line")
    parser.add_argument("--watch", action="store_true", help=f"look again every {WATCH_SECONDS:g} s, until Ctrl-C")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    store = open_app(arguments.app).store
    show = _json if arguments.json else _text
    # A store that is away when the command begins is its end; one that goes away later may come back.
    lines = show(store)
    while True:
        _print(lines, clear=arguments.watch and not arguments.json)
        if not arguments.watch:
            return 0
        try:
            time.sleep(WATCH_SECONDS)
            lines = show(store)
        except StoreUnavailable as error:
            lines = [printable(str(error))]
        except KeyboardInterrupt:
            return 0


def _print(lines: Sequence[str], *, clear: bool) -> None:
    if clear and sys.stdout.isatty():
        print(end=_CLEAR)
    for line in lines:
        print(line)
    sys.stdout.flush()


def _json(store: JobStore) -> list[str]:
    return [json_line(_told(worker)) for worker in store.run(store.workers())]


def _told(worker: LiveWorker) -> dict[str, Any]:
    jobs = [
        {
            "job_id": job.id,
            "task": job.task,
            "attempt": job.attempt,
            "max_attempts": job.max_attempts,
            "started_at": job.started_at,
            "progress": job.progress,
            "progress_detail": job.progress_detail,
            "cancel_requested_at": job.cancel_requested_at,
        }
        for job in worker.jobs
    ]
    return {**worker.facts, "name": worker.name, "silence_seconds": worker.silence, "jobs": jobs}


def _text(store: JobStore) -> list[str]:
    workers = store.run(store.workers())
    if not workers:
        return ["No worker is alive.", _HINT.format(url=store.url)]
    head, *rows = table(_HEAD, [_row(worker) for worker in workers])
    lines = [head]
    for row, worker in zip(rows, workers, strict=True):
        lines += [row, *(cut(f"  {_doing(job)}") for job in worker.jobs)]
    return lines


def _row(worker: LiveWorker) -> tuple[str, ...]:
    facts = worker.facts
    return (
        worker.name,
        f"{_fact(facts, 'pid')}@{_fact(facts, 'hostname')}",
        f"{_fact(facts, 'pool')} × {_fact(facts, 'concurrency')}",
        _queues(facts.get("queues")),
        _since(facts.get("started_at")),
        f"{duration(worker.silence)} ago",
    )


def _doing(job: Job) -> str:
    return printable("  ".join(_parts(job)))


def _parts(job: Job) -> Iterator[str]:
    yield job.id
    yield job.task
    yield f"attempt {attempts(job)}"
    if job.started_at is not None:
        yield f"for {duration((datetime.now(UTC) - job.started_at).total_seconds())}"
    if job.progress is not None:
        yield f"{job.progress:.0%}"
    if job.progress_detail is not None:
        yield from filter(None, (job.progress_detail.step, job.progress_detail.message))
    if job.cancel_requested_at is not None:
        yield "cancel asked for"


def _fact(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return "?" if value is None else str(value)


def _queues(names: Any) -> str:
    return ",".join(map(str, names)) if isinstance(names, list | tuple) else str(names or "?")


def _since(started: Any) -> str:
    """When a worker was started: ISO 8601, or seconds since 1970."""
    try:
        if isinstance(started, int | float):
            return moment(datetime.fromtimestamp(started, UTC))
        when = datetime.fromisoformat(started)
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"
    return moment(when if when.tzinfo else when.replace(tzinfo=UTC))
