"""Executing the scripts of a store: over connections of threads, of event loops, and of none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary, finalize

from redis.exceptions import RedisError
from typing_extensions import override

from aijobs._waiting import green
from aijobs.errors import StoreUnavailable
from aijobs.store.base import JobStore, Operation, Wait
from aijobs.store.connect import async_connection_pool, connection_pool, hide_password
from aijobs.store.line import AsyncLine, Line
from aijobs.store.notices import Notices
from aijobs.store.scripts import Script
from aijobs.store.values import ScriptCall
from aijobs.store.wire import Argument

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Operation[T]):
    """A script with its arguments, and how to read the reply."""

    script: Script
    arguments: tuple[Argument, ...]
    read: Callable[[Any], T]
    #: Whether it only reads, and who asks for the same at the same time may share the reply.
    shared: bool = False


class ScriptExecutor(JobStore):
    """The part of a store that carries out its operations on a Redis or Valkey server.

    Args:
        url: as redis-py reads it.
        root: the prefix of all keys, which is what each script is given as its key.
        timeout: seconds for connecting, for sending and for receiving.
    """

    def __init__(self, url: str, root: str, timeout: float) -> None:
        self.url = hide_password(url)
        self._url = url
        self._root = root
        self._timeout = timeout
        self._lines: dict[int, Line] = {}
        self._async_lines: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncLine] = WeakKeyDictionary()
        self._notices: WeakKeyDictionary[asyncio.AbstractEventLoop, Notices] = WeakKeyDictionary()

    @override
    def run(self, operation: Operation[T]) -> T:
        here = green()
        if here is not None:
            return here.wait(self.run_async(operation))
        call = cast("Call[T]", operation)
        try:
            reply = self._line().run(call.script, (self._root,), call.arguments)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return call.read(reply)

    @override
    def run_all(self, operations: Sequence[Operation[T]]) -> Sequence[T | StoreUnavailable]:
        calls = [cast("Call[T]", operation) for operation in operations]
        try:
            replies = self._line().run_all([(call.script, (self._root,), call.arguments) for call in calls])
        except (RedisError, OSError) as error:
            replies = [error] * len(calls)
        answered = zip(calls, replies, strict=True)
        return [
            self._unavailable(reply) if isinstance(reply, Exception) else call.read(reply) for call, reply in answered
        ]

    @override
    async def run_async(self, operation: Operation[T]) -> T:
        call = cast("Call[T]", operation)
        try:
            reply = await self._async_line().run(call.script, (self._root,), call.arguments, shared=call.shared)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return call.read(reply)

    @override
    def export(self, operation: Operation[Any]) -> ScriptCall:
        call = cast("Call[Any]", operation)
        return ScriptCall(self._url, call.script.text, (self._root,), call.arguments)

    @override
    def watch(self, job_id: str) -> AbstractAsyncContextManager[Wait]:
        loop = asyncio.get_running_loop()
        notices = self._notices.get(loop)
        if notices is None:
            notices = self._notices[loop] = Notices(self._url, f"{self._root}:news:")
        return notices.watch(job_id)

    @override
    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        notices = self._notices.pop(loop, None)
        if notices is not None:
            await notices.aclose()
        line = self._async_lines.pop(loop, None)
        if line is not None:
            await line.aclose()

    def _line(self) -> Line:
        # A forked child must not share its parent's connections, nor wait for a lock that a thread of it held.
        line = self._lines.get(os.getpid())
        if line is None:
            mine = Line(connection_pool(self._url, self._timeout))
            line = self._lines.setdefault(os.getpid(), mine)
            finalize(self, line.close)
        return line

    def _async_line(self) -> AsyncLine:
        loop = asyncio.get_running_loop()
        line = self._async_lines.get(loop)
        if line is None:
            pool = async_connection_pool(self._url, self._timeout)
            line = self._async_lines[loop] = AsyncLine(pool, 2 * self._timeout)
        return line

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"The job store at {self.url} did not answer: {str(error) or type(error).__name__}")
