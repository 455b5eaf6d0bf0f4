"""What a task gives out while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any, TypeVar, overload

from aijobs.job import LogEntry, Piece
from aijobs.worker.attempt import InAttempt

T = TypeVar("T")


class Emitting(InAttempt):
    """The part of `ProgressTask` that gives out what the task makes, piece by piece, before its result."""

    def emit(self, value: Any) -> None:
        """Gives out a piece: who follows the job sees it within a fraction of a second.

        Args:
            value: text, such as a token, which is joined to the text before it; anything else is data and travels as
                JSON, a pydantic model as its fields, NaN as null. Long text is given out in parts.

        Raises:
            ValueError: data that is longer than 65,000 bytes of JSON.
            TypeError: data that JSON cannot hold.
            StoreUnavailable: the store is away, and more than 1 MiB waits for it.
            JobCancelled: somebody asked for the job to be cancelled.
        """
        attempt = self._attempt()
        if attempt is not None:
            attempt.emit(Piece(value) if isinstance(value, str) else Piece(None, value))

    @overload
    def stream(self, iterable: AsyncIterable[str | None]) -> Awaitable[str]: ...
    @overload
    def stream(self, iterable: AsyncIterable[T | None]) -> Awaitable[str | list[T]]: ...
    @overload
    def stream(self, iterable: Iterable[str | None]) -> str: ...
    @overload
    def stream(self, iterable: Iterable[T | None]) -> str | list[T]: ...
    def stream(self, iterable: Iterable[Any] | AsyncIterable[Any]) -> Any:
        """Gives out each item of an iterable as it comes, except None and empty text.

        What iterates is closed when this ends early, so that a provider's connection is: when the job is cancelled, or
        loses its time or its worker.

        Args:
            iterable: such as the tokens of a model's answer; for an async one, await what this returns. One that is
                both is taken as async where an event loop runs.

        Returns:
            All of it: one text when it was text only, otherwise the list of what was given out.

        Raises:
            JobCancelled: somebody asked for the job to be cancelled; and whatever else `emit` raises.
        """
        # Clients there are whose answers can be iterated either way.
        on_loop = asyncio._get_running_loop() is not None
        if isinstance(iterable, AsyncIterable) and (on_loop or not isinstance(iterable, Iterable)):
            return self._stream_async(iterable)
        return self._stream(iterable)

    def log(self, message: str, /, level: str = "info", **fields: Any) -> None:
        """Notes a line for people in the job's events.

        Args:
            message: the line.
            level: such as "info", "warning", "error".
            **fields: what belongs to it; what JSON cannot hold becomes text.

        Raises:
            StoreUnavailable: the store is away, and more than 1 MiB waits for it.
            JobCancelled: somebody asked for the job to be cancelled.
        """
        attempt = self._attempt()
        if attempt is not None:
            attempt.log(LogEntry(message, level, fields))

    def _stream(self, iterable: Iterable[Any]) -> Any:
        given: list[Any] = []
        iterator = iter(iterable)
        try:
            for item in iterator:
                self._pass_on(item, given)
        except BaseException:
            for closer in _closers(("close",), iterator, iterable):
                with contextlib.suppress(Exception):
                    closer()
            raise
        return _whole(given)

    async def _stream_async(self, iterable: AsyncIterable[Any]) -> Any:
        given: list[Any] = []
        iterator = aiter(iterable)
        try:
            async for item in iterator:
                self._pass_on(item, given)
        except BaseException:
            for closer in _closers(("aclose", "close"), iterator, iterable):
                with contextlib.suppress(Exception):
                    closed = closer()
                    if inspect.isawaitable(closed):
                        await closed
            raise
        return _whole(given)

    def _pass_on(self, item: Any, given: list[Any]) -> None:
        if item is not None and not (isinstance(item, str) and not item):
            self.emit(item)
            given.append(item)


def _closers(names: tuple[str, ...], *closable: Any) -> list[Any]:
    """How each of these is closed, those that can be."""
    distinct = {id(one): one for one in closable}.values()
    found = (next((getattr(one, name) for name in names if hasattr(one, name)), None) for one in distinct)
    return [closer for closer in found if callable(closer)]


def _whole(given: list[Any]) -> Any:
    return "".join(given) if all(isinstance(item, str) for item in given) else given
