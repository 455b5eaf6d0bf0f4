"""Looks at everything when it is quiet again: each job, and what is left on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from aijobs import ErrorCode, Job
from aijobs.store.redis import RedisStore
from tests.chaos.evidence import Run, read_runs
from tests.chaos.invariants import Dossier, violations
from tests.chaos.ledger import Ledger
from tests.chaos.plan import TroubleKind
from tests.chaos.troubles import Incident
from tests.helpers import PATIENT, lasting_keys

#: A trouble counts for a run that it does not meet, since what follows from it comes later.
_AFTERMATH_SECONDS = 15.0
#: All queues and, below them, the lists of kombu's priorities.
_QUEUES = ("celery", "crash")


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of all jobs."""

    dossiers: Sequence[Dossier]
    #: Each a line.
    violations: Sequence[str]


def inspect(url: str, folder: Path, ledger: Ledger, incidents: Sequence[Incident]) -> Findings:
    """Puts together what is known of each job, and what is wrong with it."""
    dossiers = list(_dossiers(url, read_runs(folder), ledger, incidents))
    wrong = [
        f"job {dossier.entry.job_id} ({dossier.entry.order.kind}) {violation}"
        for dossier in dossiers
        for violation in violations(dossier)
    ]
    return Findings(dossiers, [*wrong, *_repeated_keys(ledger, dossiers)])


def left_on_server(url: str) -> Iterator[str]:
    """What should not be on the server when all jobs have ended and all workers are gone."""
    for key in lasting_keys(url):
        yield f"the key {key} would stay for ever"
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for key in _leftovers(client):
            yield f"the server still holds {key}"


def _leftovers(client: Any) -> Iterator[str]:
    for name in _QUEUES:
        for key in (name, *client.scan_iter(f"{name}\x06\x16*")):
            if length := client.llen(key):
                yield f"{length} messages in the list {key!r}"
    for key in ("unacked", *client.scan_iter("*aijobs:held:*")):
        if length := client.hlen(key):
            yield f"{length} messages in the hash {key!r}"
    for key in ("unacked_index", "aijobs:sessions"):
        if length := client.zcard(key):
            yield f"{length} members in the sorted set {key!r}"


def _dossiers(
    url: str, runs: Mapping[str, Sequence[Run]], ledger: Ledger, incidents: Sequence[Incident]
) -> Iterator[Dossier]:
    store = RedisStore(url, PATIENT)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for entry in ledger.entries.values():
            claim, lost = client.hmget(f"{PATIENT.key_prefix}:job:{entry.job_id}", "claim", "lost")
            found = runs.get(entry.job_id, ())
            yield Dossier(
                entry,
                ledger.must_exist(entry),
                store.run(store.get(entry.job_id)),
                store.run(store.events(entry.job_id, limit=10_000)),
                [token for token in (claim, *reversed((lost or "").split(","))) if token],
                found,
                ledger.ends.get(entry.job_id),
                ledger.cancels.get(entry.job_id),
                _troubles(found, incidents),
            )


def _troubles(runs: Sequence[Run], incidents: Sequence[Incident]) -> int:
    """How many incidents may have kept a lost delivery from being counted."""
    if not runs:
        return 0
    first, last = runs[0].begin - _AFTERMATH_SECONDS, runs[-1].last + _AFTERMATH_SECONDS
    serious = [incident for incident in incidents if incident.kind is not TroubleKind.KILL_CHILD]
    return sum(incident.began < last and first < incident.ended for incident in serious)


def _repeated_keys(ledger: Ledger, dossiers: Sequence[Dossier]) -> Iterator[str]:
    # A job that did not reach the broker does not keep its key.
    sent = {dossier.entry.job_id for dossier in dossiers if dossier.job is not None and not _is_unsent(dossier.job)}
    for key, ids in ledger.keyed.items():
        found = [job_id for job_id in ids if job_id in sent]
        if len(found) > 1:
            yield f"the idempotency key {key} has made {len(found)} jobs: {', '.join(found)}"


def _is_unsent(job: Job) -> bool:
    return job.error is not None and job.error.code is ErrorCode.PUBLISH_FAILED
