"""What the endpoints of one router share: the store, the tasks, and who may see what."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Annotated, Any

from fastapi import Path, Request

from aijobs.errors import StoreUnavailable
from aijobs.http.access import Access, job_not_found
from aijobs.http.exposure import ExposedTask
from aijobs.http.waiting import Waiting
from aijobs.job import Job
from aijobs.runtime import Runtime
from aijobs.store.base import JobStore

logger = logging.getLogger(__name__)

#: Whatever the store does, a request that only needs the store is answered after so long.
DEADLINE_SECONDS = 0.9

#: A longer id is no id of a job.
_LONGEST_ID = 255

JobId = Annotated[str, Path(description="As `job_id` of the submission's answer.")]


class JobService:
    """Finds jobs for requests.

    Args:
        runtime: of the Celery app.
        tasks: by registered name.
        access: who may do what.
        callbacks: what OpenAPI says of the requests that submissions bring about, if any.
    """

    def __init__(
        self, runtime: Runtime, tasks: Mapping[str, ExposedTask], access: Access, callbacks: Mapping[str, Any]
    ) -> None:
        self.runtime = runtime
        self.waiting = Waiting(runtime)
        self.callbacks = callbacks
        self.tasks = tasks
        self.access = access
        self._secret: bytes | None = None
        self._announced = False

    @property
    def store(self) -> JobStore:
        """The job store; named in the log when it is first used."""
        store = self.runtime.store
        if not self._announced:
            self._announced = True
            logger.info("aijobs serves the jobs in %s; tasks: %s", store.url, ", ".join(self.tasks) or "none")
            if any(task.body.files for task in self.tasks.values()):
                logger.info("aijobs keeps uploaded files in %s", self.runtime.files.url)
        return store

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Names the store when the API starts, and lets go of it when that ends."""
        store = self.store
        # What is loaded by now stays. Looking through it at every collection would stop all requests for 50 ms.
        gc.collect()
        gc.freeze()
        yield
        await store.aclose()

    async def visible(self, request: Request, job_id: str) -> Job:
        """A job that the caller may see.

        Raises:
            Problem: 404, for jobs of others as for ids that nobody knows.
            StoreUnavailable: the job store does not answer.
        """
        if not is_possible_id(job_id):
            raise job_not_found()
        return await self.access.visible(request, await self.store.run_async(self.store.get(job_id)))

    async def signing_secret(self) -> bytes:
        """With what page cursors are signed.

        Raises:
            StoreUnavailable: the job store does not answer.
        """
        if self._secret is None:
            self._secret = await self.store.run_async(self.store.secret())
        return self._secret


def is_possible_id(given: str) -> bool:
    """Whether a job or a batch could have this id; others are not even looked for."""
    return len(given) <= _LONGEST_ID and given.isprintable()


def deadline() -> AbstractAsyncContextManager[None]:
    """Bounds what a request waits for the store.

    Raises:
        StoreUnavailable: it took too long.
    """
    return _Deadline()


class _Deadline:
    # A generator with `asynccontextmanager` would cost as much again as the time-out itself.

    async def __aenter__(self) -> None:
        self._timeout = asyncio.timeout(DEADLINE_SECONDS)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise StoreUnavailable(f"The job store did not answer within {DEADLINE_SECONDS:g} s.") from None
