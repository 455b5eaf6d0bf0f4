"""Options that say which dead letters are meant."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from aijobs.job import ErrorCode

if TYPE_CHECKING:
    from aijobs.dead import DeadLetterFilter

_FILTERS = ("task", "code", "owner", "since", "until")
_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def filter_options(limit: int | None = None) -> argparse.ArgumentParser:
    """A parser to be the parent of a command's, with the options that `chosen` reads, and `--limit`.

    Args:
        limit: by default.
    """
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("filters")
    group.add_argument("--task", metavar="NAME", help="of this task")
    codes = [code.value for code in ErrorCode]
    group.add_argument("--code", metavar="CODE", choices=codes, help=f"failed with this code: {', '.join(codes)}")
    group.add_argument("--owner", metavar="NAME", help="of this owner")
    group.add_argument("--since", metavar="WHEN", type=_moment, help="failed since 30m, 2h, 1d, 2026-01-31T22:00, …")
    group.add_argument("--until", metavar="WHEN", type=_moment, help="failed before that")
    shown = "all" if limit is None else str(limit)
    group.add_argument("--limit", metavar="N", type=_count, default=limit, help=f"so many at most ({shown})")
    return parser


def has_filters(arguments: argparse.Namespace) -> bool:
    """Whether any is given; a limit alone chooses nothing."""
    return any(getattr(arguments, name) is not None for name in _FILTERS)


def chosen(arguments: argparse.Namespace) -> DeadLetterFilter:
    """The dead letters that are meant."""
    from aijobs.dead import DeadLetterFilter

    return DeadLetterFilter(
        task=arguments.task,
        code=ErrorCode(arguments.code) if arguments.code else None,
        owner=arguments.owner,
        failed_after=arguments.since,
        failed_before=arguments.until,
    )


def _moment(text: str) -> datetime:
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 30m, 2h, 1d for so long ago, or 2026-01-31T22:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs: 1 or more")
    return int(text)
