"""Progress in the shapes that tasks give to Celery's own `update_state`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeGuard

from aijobs.job import Progress
from aijobs.store.values import ProgressWrite
from aijobs.worker.outcome import MESSAGE_LENGTH, encode_json

_CURRENT = ("current", "done", "processed", "completed")
_TOTAL = ("total", "total_items", "max")
_FRACTION = ("progress", "percent", "percentage", "pct", "fraction")
_STEP = ("step", "stage", "phase")
_MESSAGE = ("message", "status", "description", "detail")


def read_meta(meta: Any) -> ProgressWrite | None:
    """Progress from an `update_state(meta=…)`, or None when it holds none.

    Known shapes are `{"progress": 0.4}`, `{"progress": 40}` (percent), `{"current": 3, "total": 9}` and, beside them,
    names of a step and a message.
    """
    if not isinstance(meta, Mapping):
        return None
    current, total = _number(meta, _CURRENT), _number(meta, _TOTAL)
    step, message = _text(meta, _STEP), _text(meta, _MESSAGE)
    fraction = fraction_of(current, total)
    if fraction is None:
        fraction = _fraction(meta)
    if fraction is None and current is None and step is None and message is None:
        return None
    return progress_write(fraction, Progress(current=current, total=total, step=step, message=message))


def count_of(value: Any) -> float:
    """A number of units as JSON has numbers, such as of a database's `Decimal`.

    Raises:
        ValueError: it is negative, infinite or not a number.
    """
    if not 0 <= value <= sys.float_info.max:
        raise ValueError
    return value if isinstance(value, int | float) else float(value)


def progress_write(fraction: float | None, detail: Progress) -> ProgressWrite:
    """A report in the form that the store takes, with texts of no more than `MESSAGE_LENGTH` characters."""
    told = {name: _cut(value) for name, value in detail.to_dict().items()}
    return ProgressWrite(fraction, encode_json(told).decode())


def fraction_of(current: float | None, total: float | None) -> float | None:
    """Done by total, within 0 and 1; None when that means nothing."""
    if current is None or not total or total < 0:
        return None
    return min(1.0, max(0.0, current / total))


def _cut(value: Any) -> Any:
    return value[:MESSAGE_LENGTH] if isinstance(value, str) else value


def _fraction(meta: Mapping[str, Any]) -> float | None:
    value = next((meta[name] for name in _FRACTION if name in meta), None)
    if not _is_number(value):
        return None
    # Whole numbers are percent: `int(100 * i / n)` passes through 1, while a float of 1.0 is the end.
    is_percent = isinstance(value, int) or value > 1 or ("progress" not in meta and "fraction" not in meta)
    return min(1.0, max(0.0, value / 100 if is_percent else value))


def _number(meta: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    for name in names:
        value = meta.get(name)
        if _is_number(value):
            return value
    return None


def _is_number(value: Any) -> TypeGuard[int | float]:
    # NaN compares as false; integers can be larger than any float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _text(meta: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if isinstance(meta.get(name), str):
            return str(meta[name])
    return None
