"""What benchmarks found: a table for people, JSON for keeping."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import starmap
from pathlib import Path
from statistics import median
from typing import Any

from aijobs.embedded import find_server_binary
from benchmarks.harness import Round, Scale

_PACKAGES = (
    "aijobs", "celery", "kombu", "billiard", "redis", "fastapi", "starlette", "pydantic", "uvicorn",
)  # fmt: skip
_HEADS = ("", "unit", "ours", "stock", "ratio", "rounds", "target", "met?")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table."""

    name: str
    unit: str
    #: What was measured in each round.
    our_rounds: Sequence[float]
    #: Empty when stock Celery has nothing of the kind.
    stock_rounds: Sequence[float]
    lower_is_better: bool = False
    #: The least ratio that aijobs promises, and one that is aimed at beyond that.
    target: float | None = None
    aim: float | None = None
    #: The most that aijobs promises to need.
    limit: float | None = None

    @property
    def ours(self) -> float:
        """The median of our rounds."""
        return median(self.our_rounds)

    @property
    def stock(self) -> float | None:
        """The median of the rounds of stock Celery."""
        return median(self.stock_rounds) if self.stock_rounds else None

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; below 1 it is worse."""
        return None if self.stock is None else self._better(self.ours, self.stock)

    @property
    def spread(self) -> tuple[float, float] | None:
        """The lowest and the highest ratio of a round."""
        pairs = zip(self.our_rounds, self.stock_rounds, strict=False)
        ratios = [ratio for ratio in starmap(self._better, pairs) if ratio is not None]
        return (min(ratios), max(ratios)) if ratios else None

    @property
    def met(self) -> bool | None:
        """Whether what is promised is kept; None without a promise."""
        if self.limit is not None:
            return self.ours <= self.limit
        return None if self.target is None or self.ratio is None else self.ratio >= self.target

    def to_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        names = ("name", "unit", "ours", "stock", "lower_is_better", "ratio", "spread", "target", "aim", "limit", "met")
        return {name: getattr(self, name) for name in names}

    def _better(self, ours: float, stock: float) -> float | None:
        if not ours or not stock:
            return None
        return stock / ours if self.lower_is_better else ours / stock


@dataclass(frozen=True, slots=True)
class Metric:
    """What of a round is compared."""

    #: Its name in the round.
    key: str
    #: Its name in the table.
    shown: str
    unit: str
    lower_is_better: bool = False
    target: float | None = None
    aim: float | None = None


#: Of what `harness.speed` measures.
SPEED = (
    Metric("per_second", "rate", "1/s"),
    Metric("p50_ms", "p50", "ms", lower_is_better=True),
    Metric("p99_ms", "p99", "ms", lower_is_better=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark found."""

    comparisons: Sequence[Comparison]
    rounds: Sequence[Round]
    #: What a reader has to know of this run: a sentence each.
    notes: Sequence[str] = ()


def compare(
    title: str, rounds: Sequence[Round], ours: str, stock: str | None, metrics: Iterable[Metric]
) -> Iterator[Comparison]:
    """A line for each metric of two contestants."""
    for metric in metrics:
        yield Comparison(
            f"{title}: {metric.shown}",
            metric.unit,
            values(rounds, ours, metric.key),
            [] if stock is None else values(rounds, stock, metric.key),
            metric.lower_is_better,
            metric.target,
            metric.aim,
        )


def values(rounds: Sequence[Round], contestant: str, metric: str) -> list[float]:
    """What was measured of one contestant in each round."""
    return [one[contestant][metric] for one in rounds]


def table(outcomes: Mapping[str, Outcome]) -> str:
    """All comparisons in aligned columns, and the notes below them."""
    rows = [_HEADS, *map(_cells, _comparisons(outcomes))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    notes = [f"{name}: {note}" for name, outcome in outcomes.items() for note in outcome.notes]
    return "\n".join([*(_line(row, widths) for row in rows), *([""] if notes else []), *notes])


def save(path: Path, outcomes: Mapping[str, Outcome], scale: Scale) -> None:
    """Writes everything that was measured, and on what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "server": _server_version(),
        },
        "scale": {name: getattr(scale, name) for name in Scale.__slots__},
        "comparisons": [comparison.to_dict() for comparison in _comparisons(outcomes)],
        "rounds": {name: outcome.rounds for name, outcome in outcomes.items()},
        "notes": {name: outcome.notes for name, outcome in outcomes.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _server_version() -> str:
    answer = subprocess.run([find_server_binary(), "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def _comparisons(outcomes: Mapping[str, Outcome]) -> Iterator[Comparison]:
    for outcome in outcomes.values():
        yield from outcome.comparisons


def _cells(one: Comparison) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "NO"}[one.met]
    spread = "" if one.spread is None else "–".join(map(_number, one.spread))
    return (one.name, one.unit, _number(one.ours), _number(one.stock), _number(one.ratio), spread, _promise(one), met)


def _promise(one: Comparison) -> str:
    if one.limit is not None:
        return f"ours ≤ {one.limit:g}"
    target = [] if one.target is None else [f"{one.target:g}"]
    aim = [] if one.aim is None else [f"aim {one.aim:g}"]
    return ", ".join(target + aim)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, unit, *numbers = (
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((name, unit, *numbers)).rstrip()
