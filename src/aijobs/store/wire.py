"""What the scripts take and give: values to arguments, replies to values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from aijobs.job import Job, JobEvent, JobStatus, Output
from aijobs.settings import Settings
from aijobs.store.record import decode_fields, join_pieces, read_event, read_job, read_pieces, to_fields, to_us
from aijobs.store.values import (
    Beat,
    Change,
    Claim,
    CreateReply,
    Creation,
    EncodedOutput,
    Failure,
    Idempotency,
    JobFilter,
    Keeping,
    LiveWorker,
    NewJob,
    OutputWrite,
    Page,
    Position,
    ProgressWrite,
    Standing,
    Stats,
    Suspect,
)

Argument = str | bytes | int | float
T = TypeVar("T")

#: The order in which the scripts count statuses.
STATUSES = tuple(JobStatus)


def escape(name: str | None) -> str:
    """A name from outside made safe as part of a key: without separators, and never like another name."""
    return quote(name or "", safe="")


def entry(task: str, queue: str, owner: str | None = None, batch_id: str | None = None) -> str:
    """Where the indexes list a job: owner, task, queue and batch."""
    return "\n".join(map(escape, (owner, task, queue, batch_id)))


def app_events(settings: Settings) -> str:
    """The events that the app's own webhook wants, with spaces between; empty without one."""
    return " ".join(settings.webhook_events) if settings.webhook_secrets and settings.webhook_url else ""


def new_fields(job: NewJob, app_events: str) -> list[Argument]:
    """The record's fields beside those that every record has."""
    hook = job.webhook
    given: dict[str, Argument | None] = {
        "owner": job.owner,
        "batch_id": job.batch_id,
        "metadata": json.dumps(dict(job.metadata)) if job.metadata else None,
        "scheduled": None if job.scheduled_at is None else to_us(job.scheduled_at),
        "arguments": job.arguments_json,
        "options": job.options_json,
        "parent_id": job.parent_id,
        "group_id": job.group_id,
        "webhook_events": " ".join(hook.events) if hook else app_events or None,
        "webhook_url": hook.url if hook else None,
    }
    return list(chain.from_iterable((name, value) for name, value in given.items() if value is not None))


def reservation(idempotency: Idempotency | None) -> tuple[Argument, Argument]:
    """Key and fingerprint to reserve, or nothing."""
    if idempotency is None:
        return "", ""
    held = f"{escape(idempotency.scope)}:{escape(idempotency.key)}"
    return hashlib.sha256(held.encode()).hexdigest(), idempotency.fingerprint


def progress(write: ProgressWrite | None) -> tuple[Argument, Argument]:
    """Fraction and detail, or nothing."""
    if write is None:
        return "", ""
    return "" if write.fraction is None else f"{write.fraction:.6g}", write.detail_json


def output(write: OutputWrite, most_bytes: int) -> tuple[Argument, ...]:
    """How many entries came before, how many bytes are kept, then kind and JSON text of each entry."""
    entries = chain.from_iterable((entry.kind.value, entry.json) for entry in write.entries)
    return write.before, most_bytes, *entries


def failure(why: Failure | None) -> tuple[Argument, Argument, Argument]:
    """Code, with whether it is retryable where that is told; message and traceback; or nothing."""
    if why is None:
        return "", "", ""
    told = "" if why.retryable is None else ":yes" if why.retryable else ":no"
    return why.code.value + told, _clean(why.message), _clean(why.traceback or "")


def generation(claim: Claim) -> int:
    """Orders the messages of a job: what replaces a task comes after all of its retries and waits."""
    return claim.replacements * 1_000_000 + claim.retries + claim.waits


def running(beat: Beat) -> str:
    """What a worker runs, a line for each job."""
    return "".join(f"{job_id} {claim}\n" for job_id, claim in beat.running)


def window(where: JobFilter, after: Position | None) -> tuple[Argument, Argument, Argument]:
    """The newest creation time, the id to go on after, and the oldest creation time."""
    oldest = "-inf" if where.created_after is None else to_us(where.created_after)
    if after is not None:
        return after.created_us, after.job_id, oldest
    newest = "+inf" if where.created_before is None else to_us(where.created_before) - 1
    return newest, "", oldest


def must_match(where: JobFilter) -> tuple[Argument, Argument, Argument]:
    """Task, owner and statuses that a listed job must have."""
    statuses = f",{','.join(sorted(where.statuses))}," if where.statuses else ""
    return where.task or "", where.owner or "", statuses


def listings(root: str, where: JobFilter) -> list[Argument]:
    """The sorted sets that together hold every job that may match."""
    if where.batch_id is not None:
        return [f"{root}:batch:{escape(where.batch_id)}"]
    scope = f"{root}:jobs" if where.owner is None else f"{root}:owner:{escape(where.owner)}"
    if where.task is not None:
        scope = f"{scope}:task:{escape(where.task)}"
    return [f"{scope}:{status}" for status in (where.statuses or STATUSES)]


def read_change(reply: Any) -> Change:
    """The answer of a changing script."""
    accepted, status, attempt, cancel = reply
    return Change(bool(accepted), JobStatus(status.decode()) if status else None, attempt, bool(cancel))


def read_keeping(reply: Any) -> Keeping:
    """The answer of `keep.lua`."""
    *change, size = reply
    return Keeping(read_change(change), size)


def read_kept(reply: Any) -> Mapping[str, str]:
    """The answer of `kept.lua`; the field without a name is the scripts' own."""
    return {name.decode(): value.decode() for name, value in _pairs(reply) if name}


def read_created(reply: Any) -> CreateReply:
    """The answer of `create.lua`."""
    outcome, record = reply
    return CreateReply(Creation(outcome.decode()), read_job(decode_fields(record)) if record else None)


def read_found(reply: Any) -> Job | None:
    """The answer of `get.lua`."""
    if not reply:
        return None
    record, position = reply
    return read_job(decode_fields(record), position)


def read_output(reply: Any) -> tuple[Job, Output | None] | None:
    """The answer of `output.lua`."""
    return _read_output(reply, lambda attempt, lines, cut: Output(attempt, read_pieces(lines), cut))


def read_encoded_output(reply: Any) -> tuple[Job, EncodedOutput | None] | None:
    """The answer of `output.lua`, for those who pass it on."""
    return _read_output(reply, lambda attempt, lines, cut: EncodedOutput(attempt, *join_pieces(lines), cut))


def _read_output(reply: Any, read: Callable[[int, bytes, bool], T]) -> tuple[Job, T | None] | None:
    if not reply:
        return None
    record, position, attempt, truncated, lines = reply
    job = read_job(decode_fields(record), position)
    return job, read(int(attempt), lines, bool(truncated)) if attempt else None


def read_page(reply: Any) -> Page:
    """The answer of `list.lua`."""
    records, created, job_id = reply
    jobs = [read_job(decode_fields(record)) for record in records]
    return Page(jobs, Position(int(created), job_id.decode()) if created else None)


def read_events(reply: Any) -> Sequence[JobEvent]:
    """The answer of `events.lua`."""
    return [read_event(entry_id, dict(_pairs(flat))) for entry_id, flat in reply]


def read_ids(reply: Any) -> Sequence[str]:
    """A list of ids."""
    return [job_id.decode() for job_id in reply]


def read_standings(reply: Any) -> Sequence[Standing]:
    """The answer of `beat.lua`."""
    return [Standing(standing.decode()) for standing in reply]


def read_workers(reply: Any) -> Sequence[LiveWorker]:
    """The answer of `workers.lua`."""
    found = [
        LiveWorker(
            session.decode(),
            name.decode(),
            int(silence) / 1e6,
            json.loads(facts),
            [read_job(to_fields(flat)) for flat in jobs],
        )
        for session, name, silence, facts, jobs in reply
    ]
    return sorted(found, key=lambda worker: (worker.name, worker.session))


def read_suspects(reply: Any) -> Sequence[Suspect]:
    """The answer of `suspects.lua`."""
    texts = ([part.decode() for part in found] for found in reply)
    return [Suspect(job_id, task, queue, JobStatus(status), int(rev)) for job_id, task, queue, status, rev in texts]


def read_stats(tasks: Sequence[str], reply: Any) -> Stats:
    """The answer of `stats.lua`."""
    statuses, by_task, queues, workers = reply
    return Stats(
        statuses=_counts(statuses),
        tasks={task: _counts(counts) for task, counts in zip(tasks, by_task, strict=True)},
        queues={unquote(queue.decode()): depth for queue, depth in _pairs(queues)},
        workers={worker.decode(): int(silence) / 1e6 for worker, silence in _pairs(workers)},
    )


def _counts(counts: Sequence[int]) -> dict[JobStatus, int]:
    return dict(zip(STATUSES, counts, strict=True))


def _pairs(flat: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _clean(text: str) -> str:
    """Text that UTF-8 can carry: an exception's message may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode()
