"""What will happen: which jobs are submitted when, and which troubles come when. All of it follows from the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from aijobs import JobStatus

Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of job in the mix."""

    #: Share of the mix.
    weight: int
    #: The task's name in the app.
    task: str
    arguments: Callable[[Random], Arguments]
    #: How it ends when nobody cancels it.
    status: JobStatus = JobStatus.SUCCESS
    #: What is in its result; None when that is not kept.
    value: Callable[[Arguments], Any] | None = None
    #: Jobs in one submission.
    size: int = 1
    delayed: bool = False


def _crash(random: Random) -> str:
    return random.choice(("exit", "kill", "segfault"))


def _work(random: Random) -> Arguments:
    steps = random.randint(2, 30)
    return steps, round(random.uniform(0.1, 3) / steps, 3)


def _first(arguments: Arguments) -> Any:
    return arguments[0]


def _number(random: Random) -> Arguments:
    return (random.randrange(1_000),)


KINDS: Mapping[str, Kind] = {
    "quick": Kind(30, "quick", _number, value=lambda given: 2 * given[0]),
    "later": Kind(6, "quick", _number, value=lambda given: 2 * given[0], delayed=True),
    "hold": Kind(10, "hold", lambda random: (round(random.uniform(0.05, 1), 2),), value=_first),
    # Both longer than a lease.
    "long": Kind(1, "hold", lambda random: (round(random.uniform(5.5, 8), 2),), value=_first),
    "work": Kind(24, "work", _work, value=_first),
    "slow": Kind(2, "work", lambda random: (60, round(random.uniform(0.1, 0.15), 3)), value=_first),
    "flaky": Kind(8, "flaky", lambda random: (random.randint(1, 2), random.choice((0, 0, 0.5, 2))), value=_first),
    "broken": Kind(5, "broken", lambda random: (), JobStatus.FAILED),
    "crash": Kind(3, "crash", lambda random: (_crash(random), 1), value=lambda given: given[1]),
    "torn": Kind(2, "torn", lambda random: (random.randint(1, 2),), value=_first),
    "poison": Kind(2, "poison", lambda random: (_crash(random),), JobStatus.FAILED),
    "forget": Kind(6, "forget", _number),
    "chain": Kind(3, "link", _number, value=lambda given: given[0] + 1, size=3),
    "group": Kind(2, "quick", _number, value=lambda given: 2 * given[0], size=4),
}


class Way(StrEnum):
    """How a job is submitted."""

    SUBMIT = "submit"
    #: With an idempotency key, under which a submission of unknown outcome is repeated.
    KEYED = "submit with key"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Order:
    """One submission; times are seconds after the beginning."""

    number: int
    at: float
    kind: str
    arguments: Arguments
    way: Way
    countdown: float | None
    #: Seconds after the submission; None for jobs that are left alone.
    cancel_after: float | None


class TroubleKind(StrEnum):
    """What can go wrong."""

    KILL_WORKER = "worker: SIGKILL of its main process"
    KILL_GROUP = "worker: SIGKILL of all its processes"
    KILL_CHILD = "worker: SIGKILL of a pool process"
    FREEZE_WORKER = "worker: SIGSTOP of its main process"
    FREEZE_GROUP = "worker: SIGSTOP of all its processes"
    END_WORKER = "worker: SIGTERM"
    STOP_SERVER = "server: restart"
    CRASH_SERVER = "server: SIGKILL"
    HANG_SERVER = "server: SIGSTOP"

    @property
    def hits_server(self) -> bool:
        """Whether it is the server that is in trouble, not a worker."""
        return self.value.startswith("server")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong; times are seconds after the beginning."""

    at: float
    kind: TroubleKind
    #: Which worker, or which server.
    slot: int
    #: How long it lasts; 0 for what is over at once.
    seconds: float

    @property
    def target(self) -> str:
        """What is in trouble."""
        return f"{'server' if self.kind.hits_server else 'worker'} {self.slot}"

    @property
    def until(self) -> float:
        """When it is over."""
        return self.at + self.seconds


@dataclass(frozen=True, slots=True)
class Scale:
    """How much happens."""

    jobs: int
    #: For how long jobs are submitted and troubles come.
    seconds: float
    workers: int = 4
    #: Mean time between two troubles, seconds.
    pause: float = 2.5
    #: How long the server is away: from, to, in seconds; one of the ranges each time.
    outages: Sequence[tuple[float, float]] = ((0.3, 2), (2, 5))
    #: Whether the records are in a server of their own, apart from the messages.
    split: bool = False


def make_orders(random: Random, scale: Scale) -> Sequence[Order]:
    """The submissions, by time."""
    orders: list[Order] = []
    left = scale.jobs
    names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
    while left > 0:
        # Each kind is there, however small the scale.
        name = names[len(orders)] if len(orders) < len(names) else random.choices(names, weights)[0]
        orders.append(_order(random, len(orders), name, random.uniform(0, scale.seconds)))
        left -= KINDS[name].size
    return sorted(orders, key=lambda order: order.at)


def make_troubles(random: Random, scale: Scale, lease: float) -> Sequence[Trouble]:
    """The troubles, by time; one at a time for each worker and for the server."""
    troubles: list[Trouble] = []
    deck: list[TroubleKind] = []
    now, free = 2.0, defaultdict[str, float](float)
    while (now := now + random.expovariate(1 / scale.pause)) < scale.seconds:
        # Dealt like cards, so that each kind comes soon, however short it all is.
        deck = deck or random.sample(_DECK, len(_DECK))
        found = list(_deal(random, deck[-1], now, scale, lease))
        if all(free[trouble.target] <= trouble.at for trouble in found):
            deck.pop()
            troubles += found
            free |= {trouble.target: trouble.until + 4 for trouble in found}
    return sorted(troubles, key=lambda trouble: trouble.at)


def _order(random: Random, number: int, name: str, at: float) -> Order:
    kind = KINDS[name]
    way = Way.DELAY if kind.size > 1 else random.choice(list(Way))
    countdown = round(random.uniform(0.5, 8), 1) if kind.delayed else None
    cancel_after = random.choice((0.0, random.uniform(0, 3), 8.0)) if random.random() < 0.12 else None
    return Order(number, round(at, 3), name, kind.arguments(random), way, countdown, cancel_after)


_DECK = [
    kind
    for kind, times in {
        TroubleKind.KILL_WORKER: 2,
        TroubleKind.KILL_GROUP: 2,
        TroubleKind.KILL_CHILD: 3,
        TroubleKind.FREEZE_WORKER: 1,
        TroubleKind.FREEZE_GROUP: 1,
        TroubleKind.END_WORKER: 1,
        TroubleKind.STOP_SERVER: 1,
        TroubleKind.CRASH_SERVER: 1,
        TroubleKind.HANG_SERVER: 1,
    }.items()
    for _ in range(times)
]
_FREEZES = (TroubleKind.FREEZE_WORKER, TroubleKind.FREEZE_GROUP)


def _deal(random: Random, kind: TroubleKind, now: float, scale: Scale, lease: float) -> Iterator[Trouble]:
    at = round(now, 1)
    if kind.hits_server:
        yield Trouble(
            at, kind, random.randrange(1 + scale.split), round(random.uniform(*random.choice(scale.outages)), 1)
        )
    elif kind is TroubleKind.END_WORKER:
        # A rolling deployment takes all of them.
        for slot in range(scale.workers):
            yield Trouble(at + 2 * slot, kind, slot, 0)
    else:
        # Frozen for longer than a lease, mostly.
        seconds = round(random.uniform(0.7, 2) * lease, 1) if kind in _FREEZES else 0
        yield Trouble(at, kind, random.randrange(scale.workers), seconds)
