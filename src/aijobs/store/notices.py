"""News of jobs for one event loop: one subscription connection, however many jobs and listeners."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from redis.exceptions import RedisError

from aijobs._tasks import stop
from aijobs.errors import StoreUnavailable
from aijobs.store.base import Wait
from aijobs.store.connect import async_client, hide_password

#: Between two attempts to connect again, seconds.
RECONNECT_SECONDS = 0.2
#: For connecting and for sending a subscription, seconds.
TIMEOUT_SECONDS = 0.8
#: How long the reader waits for news at a time, seconds.
IDLE_SECONDS = 30.0


class Notices:
    """Wakes whoever watches a job when it has changed.

    A notice carries nothing: readers look at the event stream, so a notice that was lost with a connection only has to
    be made up for by waking everybody once the connection is back.

    Args:
        url: of the Redis server.
        channel_prefix: channels are this plus the job id.
    """

    def __init__(self, url: str, channel_prefix: str) -> None:
        self._url = url
        self._prefix = channel_prefix
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._subscribed: dict[str, asyncio.Event] = {}
        self._client = async_client(url, timeout=TIMEOUT_SECONDS)
        self._pubsub: Any = self._client.pubsub()
        self._sending = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Wait]:
        """Listens to one job; when this begins, no later change goes unnoticed.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        news = asyncio.Event()
        self._listeners.setdefault(job_id, set()).add(news)
        try:
            await self._until_subscribed(job_id)
            yield _waiter(news)
        finally:
            await self._leave(job_id, news)

    async def aclose(self) -> None:
        """Ends the reader and closes the connection."""
        if self._reader is not None:
            await stop(self._reader)
        await self._pubsub.aclose()
        await self._client.aclose()

    async def _until_subscribed(self, job_id: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if job_id not in self._subscribed:
                    confirmed = self._subscribed[job_id] = asyncio.Event()
                    await self._send(self._pubsub.subscribe, job_id)
                else:
                    confirmed = self._subscribed[job_id]
                await confirmed.wait()
        except (RedisError, OSError) as error:
            self._subscribed.pop(job_id, None)
            raise StoreUnavailable(
                f"The job store at {hide_password(self._url)} did not answer: {str(error) or 'no answer in time'}"
            ) from error

    async def _leave(self, job_id: str, news: asyncio.Event) -> None:
        listeners = self._listeners[job_id]
        listeners.discard(news)
        if listeners:
            return
        del self._listeners[job_id]
        if self._subscribed.pop(job_id, None) is not None:
            # It may fail together with the connection; a new one subscribes afresh.
            with contextlib.suppress(RedisError, OSError):
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await self._send(self._pubsub.unsubscribe, job_id)

    async def _send(self, command: Callable[[str], Awaitable[Any]], job_id: str) -> None:
        async with self._sending:
            await command(self._prefix + job_id)
            if self._reader is None:
                self._reader = asyncio.create_task(self._read(), name="aijobs-notices")

    async def _read(self) -> None:
        while True:
            try:
                message = await self._pubsub.get_message(timeout=IDLE_SECONDS)
            except (RedisError, OSError, RuntimeError):
                await asyncio.sleep(RECONNECT_SECONDS)
                await self._connect_again()
            else:
                if message is not None:
                    self._receive(message["type"], message["channel"].decode().removeprefix(self._prefix))

    def _receive(self, kind: str, job_id: str) -> None:
        if kind == "message":
            self._wake(job_id)
        elif kind == "subscribe" and job_id in self._subscribed:
            if self._subscribed[job_id].is_set():
                # After a reconnection, whatever happened in between is still to be read.
                self._wake(job_id)
            self._subscribed[job_id].set()

    async def _connect_again(self) -> None:
        with contextlib.suppress(RedisError, OSError, RuntimeError):
            await self._pubsub.connect()

    def _wake(self, job_id: str) -> None:
        for news in self._listeners.get(job_id, ()):
            news.set()


def _waiter(news: asyncio.Event) -> Wait:
    async def wait(timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await news.wait()
        except TimeoutError:
            return False
        news.clear()
        return True

    return wait
