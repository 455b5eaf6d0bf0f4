"""What happened, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from aijobs import JobStatus
from tests.chaos.evidence import Run
from tests.chaos.invariants import Dossier
from tests.chaos.ledger import Ledger
from tests.chaos.plan import KINDS, Order, Scale, Trouble, TroubleKind
from tests.chaos.troubles import Incident

_KILLS = (TroubleKind.KILL_WORKER, TroubleKind.KILL_GROUP)


def plan_lines(scale: Scale, seed: int, orders: Sequence[Order], troubles: Sequence[Trouble]) -> Iterator[str]:
    """What is going to happen."""
    jobs = sum(KINDS[order.kind].size for order in orders)
    cancels = sum(order.cancel_after is not None for order in orders)
    yield f"seed {seed}: {jobs} jobs in {scale.seconds:g} seconds on {scale.workers} workers; {cancels} cancels"
    kinds = Counter(trouble.kind for trouble in troubles)
    where = "in a server of their own" if scale.split else "where the messages are"
    yield f"records {where}; {len(troubles)} troubles: " + ", ".join(
        f"{kind} × {kinds[kind]}" for kind in TroubleKind if kinds[kind]
    )


def report_lines(ledger: Ledger, dossiers: Sequence[Dossier], incidents: Sequence[Incident]) -> Iterator[str]:
    """What has happened."""
    yield from _ends(dossiers)
    yield ""
    for kind, times in sorted(Counter(incident.kind for incident in incidents).items()):
        yield f"{times:7,}  {kind}"
    yield from _seconds("server away", [item.ended - item.began for item in incidents if item.kind.hits_server])
    yield ""
    yield from _submissions(ledger, dossiers)
    yield ""
    yield from _executions(dossiers)
    recoveries = list(_recoveries(dossiers, incidents))
    yield from _seconds("from SIGKILL to the job's next start", [one.seconds for one in recoveries])
    yield from _seconds("the same while the server was there", [one.seconds for one in recoveries if one.undisturbed])


def _ends(dossiers: Sequence[Dossier]) -> Iterator[str]:
    jobs = [dossier for dossier in dossiers if dossier.job is not None]
    counts = Counter((dossier.entry.order.kind, _end(dossier)) for dossier in jobs)
    ends = sorted({end for _, end in counts})
    yield _row("jobs", [*ends, "all"])
    for kind in KINDS:
        yield _row(kind, [*(counts[kind, end] for end in ends), sum(counts[kind, end] for end in ends)])
    yield _row("all", [*(sum(counts[kind, end] for kind in KINDS) for end in ends), len(jobs)])


def _end(dossier: Dossier) -> str:
    job = dossier.job
    assert job is not None
    return f"{job.status}:{job.error.code}" if job.status is JobStatus.FAILED and job.error else str(job.status)


def _row(name: str, cells: Sequence[object]) -> str:
    shown = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
    return f"{name:8}" + "".join(f"{text:>22}" for text in shown)


def _submissions(ledger: Ledger, dossiers: Sequence[Dossier]) -> Iterator[str]:
    accepted = sum(dossier.entry.accepted for dossier in dossiers)
    unsure = sum(not dossier.entry.accepted and dossier.job is not None for dossier in dossiers)
    yield f"{accepted:7,}  jobs accepted; {unsure} more whose submission raised are there all the same"
    for name, times in sorted(ledger.refusals.items()):
        yield f"{times:7,}  submissions that raised {name}"
    answers = Counter(cancel.status for cancel in ledger.cancels.values() if cancel.accepted)
    told = ", ".join(f"{status} × {times}" for status, times in sorted(answers.items(), key=str))
    yield f"{len(ledger.cancels):7,}  cancels, of which accepted: {told or 'none'}"


def _executions(dossiers: Sequence[Dossier]) -> Iterator[str]:
    runs = [dossier.runs for dossier in dossiers]
    attempts = Counter(dossier.job.attempt for dossier in dossiers if dossier.job is not None)
    yield "attempts: " + ", ".join(f"{number} × {attempts[number]:,}" for number in sorted(attempts))
    yield f"{sum(map(len, runs)):7,}  executions"
    yield f"{sum(map(_retries, dossiers)):7,}  retries by the task itself"
    yield f"{sum(map(_redeliveries, dossiers)):7,}  starts again after a loss or a return to the queue"
    yield f"{sum(map(_is_repeated, dossiers)):7,}  jobs whose code ran to its end more often than it was to"
    yield f"{sum(_overlap(one) for one in runs):7,}  jobs of which two executions overlapped"


def _retries(dossier: Dossier) -> int:
    return sum(event.data.get("error_code") == "exception" for event in dossier.events)


def _redeliveries(dossier: Dossier) -> int:
    return max(0, (dossier.job.attempt if dossier.job else 0) - 1 - _retries(dossier))


def _is_repeated(dossier: Dossier) -> bool:
    return sum(run.end is not None for run in dossier.runs) > 1 + _retries(dossier)


def _overlap(runs: Sequence[Run]) -> bool:
    return any(one.overlaps(other) for one, other in pairwise(runs))


@dataclass(frozen=True, slots=True)
class _Recovery:
    """From the death of a worker to the next start of a job that it was executing."""

    seconds: float
    #: Whether the server was there all the time.
    undisturbed: bool


def _recoveries(dossiers: Sequence[Dossier], incidents: Sequence[Incident]) -> Iterator[_Recovery]:
    deaths: Mapping[str, float] = {one.worker: one.began for one in incidents if one.kind in _KILLS}
    for dossier in dossiers:
        for run, following in pairwise(dossier.runs):
            death = deaths.get(run.worker)
            if death is not None and run.end is None and run.begin < death < following.begin:
                away = any(one.kind.hits_server and _meets(one, death, following.begin) for one in incidents)
                yield _Recovery(following.begin - death, not away)


def _meets(incident: Incident, begin: float, end: float) -> bool:
    return incident.began < end and begin < incident.ended


def _seconds(what: str, values: Sequence[float]) -> Iterator[str]:
    if values:
        yield f"{len(values):7,}  {what}: median {median(values):.1f} s, longest {max(values):.1f} s"
