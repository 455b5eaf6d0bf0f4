"""Loops that go on where the attempt before them ended."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel

from aijobs.job import LogEntry
from aijobs.worker.attempt import Attempt
from aijobs.worker.checkpoints import keep_aside
from aijobs.worker.scopes import Scope, key_of

T = TypeVar("T")

_PLAIN = (PurePath, UUID, Decimal, date, time, timedelta)


class _Position(NamedTuple):
    done: int
    #: Digest of the last item that is done; None when it is nothing plain.
    last: str | None
    #: For each of the loops around this one, which item is being done.
    place: list[str]


class Loop:
    """A loop that keeps how far it has come.

    Args:
        attempt: the one that runs.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._scope = attempt.names.scope
        self._path = self._scope.next_loop()
        self._key = key_of("track", self._path)

    def rest(self, iterable: Iterable[T]) -> tuple[int, Iterator[T]]:
        """How many items earlier attempts have done, and the others.

        When the last of them is another item now, or not there, the items have changed: none counts as done then.

        Raises:
            StoreUnavailable: the store stayed away.
        """
        items = iter(iterable)
        before = self._before()
        if before is None:
            return 0, items
        skipped = list(itertools.islice(items, before.done))
        return (before.done, items) if self._fits(before, skipped) else (0, itertools.chain(skipped, items))

    async def skip(self, items: AsyncIterator[T]) -> tuple[int, Sequence[T]]:
        """As `rest`, for a coroutine: how many items are done, and which of those taken are to be done all the same."""
        before = await asyncio.to_thread(self._before)
        skipped: list[T] = []
        if before is None:
            return 0, skipped
        with contextlib.suppress(StopAsyncIteration):
            while len(skipped) < before.done:
                skipped.append(await anext(items))
        return (before.done, ()) if self._fits(before, skipped) else (0, skipped)

    def keep(self, done: int, last: str | None) -> None:
        """Keeps how many items are done, durably, and the digest of the last of them.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled.
            LeaseLost: the job was given to another attempt, or ended.
            StoreUnavailable: the store stayed away.
        """
        self._attempt.keep(*self._kept(done, last))

    async def keep_aside(self, done: int, last: str | None) -> None:
        """As `keep`, for a coroutine."""
        await keep_aside(self._attempt, *self._kept(done, last))

    def scope(self, done: int, item: str | None) -> Scope:
        """The scope of what is done with the next item, by how many are done and its digest."""
        return self._scope.of_item(self._path, f"{done} {item}")

    def _kept(self, done: int, last: str | None) -> tuple[str, str]:
        return self._key, json.dumps(_Position(done, last, [*self._scope.place]))

    def _fits(self, before: _Position, skipped: Sequence[Any]) -> bool:
        """Whether the items are those that were done."""
        if len(skipped) == before.done and before.last in (None, digest(skipped[-1])):
            return True
        self._attempt.log(
            LogEntry(
                f"The loop starts over: the item at which the attempt before ended, number {before.done}, is another "
                "one now.",
                "warning",
            )
        )
        return False

    def _before(self) -> _Position | None:
        text = self._attempt.kept().get(self._key)
        before = None if text is None else _Position(*json.loads(text))
        return before if before is not None and before.place == [*self._scope.place] else None


def digest(item: Any) -> str | None:
    """By which an item is known again in another process; None for what is nothing plain."""
    try:
        text = json.dumps(item, sort_keys=True, default=_simpler)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _simpler(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, _PLAIN):
        return str(value)
    raise TypeError
