"""Executing the scripts of a store: over connections of threads, of event loops, and of none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary, finalize

from redis.exceptions import NoScriptError, RedisError
from typing_extensions import override

from aijobs.errors import StoreUnavailable
from aijobs.store.base import JobStore, Operation, Wait
from aijobs.store.connect import async_client, connection_pool, hide_password
from aijobs.store.line import Line
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
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._notices: WeakKeyDictionary[asyncio.AbstractEventLoop, Notices] = WeakKeyDictionary()

    @override
    def run(self, operation: Operation[T]) -> T:
        call = cast("Call[T]", operation)
        try:
            reply = self._line().run(call.script, (self._root,), call.arguments)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return call.read(reply)

    @override
    async def run_async(self, operation: Operation[T]) -> T:
        call = cast("Call[T]", operation)
        client = self._async_client()
        try:
            async with asyncio.timeout(2 * self._timeout):
                try:
                    reply = await client.execute_command(*self._words(call))
                except NoScriptError:
                    reply = await client.execute_command(*self._words(call, whole=True))
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
        client = self._async_clients.pop(loop, None)
        if client is not None:
            await client.aclose()

    def _words(self, call: Call[T], *, whole: bool = False) -> tuple[Argument, ...]:
        """The command to send: the script's digest, or the `whole` script when the server does not know that."""
        how = ("EVAL", call.script.text) if whole else ("EVALSHA", call.script.sha)
        return (*how, 1, self._root, *call.arguments)

    def _line(self) -> Line:
        # A forked child must not share its parent's connections, nor wait for a lock that a thread of it held.
        line = self._lines.get(os.getpid())
        if line is None:
            mine = Line(connection_pool(self._url, self._timeout))
            line = self._lines.setdefault(os.getpid(), mine)
            finalize(self, line.close)
        return line

    def _async_client(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            client = self._async_clients[loop] = async_client(self._url, self._timeout)
        return client

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"The job store at {self.url} did not answer: {str(error) or type(error).__name__}")
