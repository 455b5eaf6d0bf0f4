"""Progress as tasks give it to `update_state`, in the shapes of the well-known tutorials and in nonsense."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from aijobs.worker.shapes import fraction_of, read_meta


def read(meta: Any) -> tuple[float | None, dict[str, Any]] | None:
    """Fraction and what is known beside it."""
    write = read_meta(meta)
    if write is None:
        return None
    detail = json.loads(write.detail_json)
    return write.fraction, {name: value for name, value in detail.items() if value is not None}


@pytest.mark.parametrize(
    ("meta", "fraction", "detail"),
    [
        (
            {"current": 30, "total": 120, "status": "Cleaning"},
            0.25,
            {"current": 30, "total": 120, "message": "Cleaning"},
        ),
        ({"done": 30, "total": 120}, 0.25, {"current": 30, "total": 120}),
        ({"progress": 25}, 0.25, {}),
        ({"progress": 0.25, "step": "embed", "message": "half way"}, 0.25, {"step": "embed", "message": "half way"}),
        ({"percent": 25, "stage": "parse"}, 0.25, {"step": "parse"}),
        ({"processed": 1, "total_items": 4}, 0.25, {"current": 1, "total": 4}),
        ({"current": 7}, None, {"current": 7}),
        ({"message": "looking"}, None, {"message": "looking"}),
        ({"step": "embed"}, None, {"step": "embed"}),
        ({"current": 1, "total": 4, "progress": 99}, 0.25, {"current": 1, "total": 4}),
        ({"current": 1, "total": 0, "progress": 0.5}, 0.5, {"current": 1, "total": 0}),
    ],
    ids=str,
)
def test_known_shapes(meta: dict[str, Any], fraction: float | None, detail: dict[str, Any]) -> None:
    assert read(meta) == (fraction, detail)


def test_texts_are_cut_where_an_event_would_become_too_long() -> None:
    assert read({"step": "s" * 1_000_000, "message": "m" * 1_000_000}) == (
        None,
        {"step": "s" * 2_000, "message": "m" * 2_000},
    )


@pytest.mark.parametrize(
    ("meta", "fraction"),
    [
        ({"progress": 1}, 0.01),
        ({"progress": 1.0}, 1.0),
        ({"progress": 1.5}, 0.015),
        ({"progress": 0}, 0.0),
        ({"progress": 100}, 1.0),
        ({"progress": 250}, 1.0),
        ({"progress": -5}, 0.0),
        ({"fraction": 0.5}, 0.5),
        ({"percent": 0.5}, 0.005),
        ({"pct": 50.0}, 0.5),
        ({"current": 9, "total": 3}, 1.0),
        ({"current": -1, "total": 3}, 0.0),
    ],
    ids=str,
)
def test_whole_numbers_are_percent_and_everything_stays_within_bounds(meta: dict[str, Any], fraction: float) -> None:
    result = read(meta)
    assert result is not None
    assert result[0] == pytest.approx(fraction)


@pytest.mark.parametrize(
    "meta",
    [
        None,
        "PROGRESS",
        42,
        [1, 2],
        {},
        {"progress": None},
        {"progress": True},
        {"progress": "50%"},
        {"progress": math.nan},
        {"progress": math.inf},
        {"current": math.nan, "total": 3},
        {"current": "1", "total": "3"},
        {"current": True, "total": True},
        {"progress": 10**400},
        {"current": 10**400, "total": 10**401},
        {"pid": 1, "hostname": "w1@host"},
        {1: 2, None: 3},
    ],
    ids=lambda meta: f"{meta!s:.30}",
)
def test_nonsense_is_no_progress(meta: Any) -> None:
    assert read(meta) is None


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"current": 3, "total": math.nan}, (None, {"current": 3})),
        ({"current": 3, "total": -1}, (None, {"current": 3, "total": -1})),
        ({"current": 3, "total": 10**400}, (None, {"current": 3})),
        ({"message": "lone \ud800"}, (None, {"message": "lone ?"})),
        ({"message": {"not": "text"}, "status": "text"}, (None, {"message": "text"})),
    ],
    ids=lambda value: f"{value!a:.30}",
)
def test_sense_beside_nonsense_is_kept(meta: dict[str, Any], expected: Any) -> None:
    assert read(meta) == expected


@pytest.mark.parametrize(
    ("current", "total", "fraction"),
    [(1, 4, 0.25), (None, 4, None), (1, None, None), (0, 0, None), (0, 4, 0.0), (5, 4, 1.0), (1, -4, None)],
)
def test_done_by_total(current: float | None, total: float | None, fraction: float | None) -> None:
    assert fraction_of(current, total) == fraction
