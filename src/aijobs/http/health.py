"""Whether store, broker and workers are there."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from redis.exceptions import RedisError

from aijobs.errors import StoreUnavailable
from aijobs.runtime import Runtime
from aijobs.store.connect import async_client, hide_password, plain_server_url

logger = logging.getLogger(__name__)

#: Store and broker have so long to answer.
ANSWER_SECONDS = 0.5
#: Missing workers are looked for, and complained of, at most this often.
COMPLAINT_SECONDS = 60.0

_NO_WORKER = (
    "No worker reports to the job store at {url}. Is a worker running, does it use the same store, and does its app "
    "have a ProgressTask or call aijobs.setup(celery_app)?"
)


class HealthCheck:
    """Looks after the servers that the API needs.

    Args:
        runtime: of the Celery app.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._connecting: asyncio.Task[None] | None = None
        self._looked_at = -COMPLAINT_SECONDS
        # An event loop does not hold on to its tasks.
        self._looking: asyncio.Task[None] | None = None

    async def report(self) -> dict[str, Any]:
        """What the health route shows; `status` is `ok` when both servers answer."""
        store = self._runtime.store
        workers, broker = await asyncio.gather(self._workers(), self._broker_answers())
        named = {"the job store": workers is not None, "the broker": broker}
        silent = [name for name, answers in named.items() if not answers]
        return {
            "status": "unavailable" if silent else "ok",
            "store": {"ok": workers is not None, "url": store.url},
            "broker": {"ok": broker, "url": hide_password(str(self._runtime.app.conf.broker_write_url))},
            "workers": workers,
            "detail": self._advice(silent, workers),
        }

    def look_for_workers(self) -> None:
        """Warns, at most once a minute, when no worker is there to run what was just submitted; nobody waits for it."""
        if time.monotonic() - self._looked_at >= COMPLAINT_SECONDS:
            self._looked_at = time.monotonic()
            self._looking = asyncio.create_task(self._complain_of_missing_workers())

    async def _complain_of_missing_workers(self) -> None:
        if await self._workers() == 0:
            logger.warning("A job was submitted, but nobody may run it. %s", self._advice([], 0))

    def _advice(self, silent: list[str], workers: int | None) -> str | None:
        if silent:
            return f"No answer within {ANSWER_SECONDS:g} s from {' and '.join(silent)}."
        return None if workers else _NO_WORKER.format(url=self._runtime.store.url)

    async def _workers(self) -> int | None:
        """How many workers report to the store; None when it does not answer."""
        store = self._runtime.store
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await store.run_async(store.ping())
                return len((await store.run_async(store.stats([]))).workers)
        except (StoreUnavailable, TimeoutError):
            return None

    async def _broker_answers(self) -> bool:
        url = self._redis_url()
        return await (self._connects() if url is None else _answers_ping(url))

    def _redis_url(self) -> str | None:
        """The broker's URL, when asking it takes no more than that."""
        conf = self._runtime.app.conf
        return None if conf.broker_use_ssl else plain_server_url(conf.broker_write_url)

    async def _connects(self) -> bool:
        # A connection attempt that hangs is waited for again next time, so there is never more than one.
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(asyncio.to_thread(self._connect))
        done, _ = await asyncio.wait({self._connecting}, timeout=ANSWER_SECONDS)
        return bool(done) and self._connecting.exception() is None

    def _connect(self) -> None:
        with self._runtime.app.connection_for_write(connect_timeout=ANSWER_SECONDS) as connection:
            connection.connect()


async def _answers_ping(url: str) -> bool:
    client = async_client(url, ANSWER_SECONDS)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()
