"""`Prefer: wait=N` (RFC 7240): requests that are held until there is something to tell."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from starlette.requests import Request

from aijobs._tasks import stop
from aijobs.errors import StoreUnavailable
from aijobs.http.drain import draining
from aijobs.http.render import entity_tag
from aijobs.http.sse import until_left
from aijobs.job import Job
from aijobs.runtime import Runtime
from aijobs.store.base import JobStore, Wait

#: Who wants to wait for longer waits so long, seconds: what is between client and server may give up on it later.
LONGEST_SECONDS = 30

#: While somebody waits, the store is looked after so often, and has so long to answer, seconds.
_LOOK_SECONDS = 0.4
_ANSWER_SECONDS = 0.5

#: Preferences longer than this are not looked at.
_MOST_CHARACTERS = 1_000
#: One preference of a list; commas in quotes do not end it.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_NAME = re.compile(r"\s*([^\s=;]+)")
_WAIT = re.compile(r'\s*wait\s*=\s*(?:"([0-9]+)"|([0-9]+))\s*(?:;.*)?', re.ASCII | re.IGNORECASE | re.DOTALL)


def seconds_to_wait(request: Request) -> int | None:
    """How long the client prefers to wait, at most `LONGEST_SECONDS`; None when it does not say, or not properly."""
    given = ",".join(request.headers.getlist("prefer"))
    if not given or len(given) > _MOST_CHARACTERS:
        return None
    for preference in _PREFERENCE.findall(given):
        name = _NAME.match(preference)
        if name is not None and name[1].lower() == "wait":
            # Of a preference that is there twice, the first one counts.
            return _seconds(preference)
    return None


def applied(seconds: int | None) -> dict[str, str]:
    """The header that says which preference was honoured."""
    return {} if seconds is None else {"Preference-Applied": f"wait={seconds}"}


def is_up_to_date(request: Request, job: Job) -> bool:
    """Whether the client knows this revision of the job, or does not say what it knows, so that it has to wait.

    That its place in the queue is another by now is no change of the job, and not worth an answer.
    """
    given = ",".join(request.headers.getlist("if-none-match"))
    revision, _, _ = entity_tag(job).rpartition("-")
    return given.strip() in ("", "*") or f"{revision}-" in given


class Waiting:
    """Holds requests until their job is as they want it.

    Args:
        runtime: of the Celery app.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lookouts: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lookout] = WeakKeyDictionary()

    async def hold(
        self,
        request: Request,
        job_id: str,
        seconds: float,
        look: Callable[[], Awaitable[Job]],
        over: Callable[[Job], bool],
    ) -> Job:
        """The job when the wait is over, and when the time is up, the client has left or the server goes down.

        Args:
            request: which waits.
            job_id: of the job.
            seconds: to wait, at most.
            look: reads the job.
            over: whether the wait is over.

        Raises:
            StoreUnavailable: the store went away meanwhile.
        """
        store = self._runtime.store
        end = asyncio.get_running_loop().time() + seconds
        leaving = asyncio.create_task(until_left(request.receive))
        try:
            with draining() as drained, self._lookout(store).raised() as lost:
                # Listening begins before the first look, so nothing can happen unseen in between.
                async with store.watch(job_id) as wait:
                    job = await look()
                    while not over(job) and await _news(wait, end, drained, lost, leaving):
                        job = await look()
        finally:
            await stop(leaving)
        return job if over(job) else await look()

    def _lookout(self, store: JobStore) -> _Lookout:
        return self._lookouts.setdefault(asyncio.get_running_loop(), _Lookout(store))


class _Lookout:
    """Tells all who wait in one event loop when the store is gone: nobody would hear of a job's end then."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._waiting: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def raised(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the store does not answer."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="aijobs-lookout")
        try:
            yield future
        finally:
            self._waiting.discard(future)
            future.cancel()
            if not self._waiting:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if await self._answers():
                continue
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._store.run_async(self._store.ping())
        except (StoreUnavailable, TimeoutError):
            return False
        return True


async def _news(
    wait: Wait,
    end: float,
    drained: asyncio.Future[None],
    lost: asyncio.Future[None],
    leaving: asyncio.Future[None],
) -> bool:
    """Whether there is something to look at before the wait ends for whatever reason."""
    rest = end - asyncio.get_running_loop().time()
    if rest <= 0:
        return False
    listening = asyncio.ensure_future(wait(rest))
    ends: set[asyncio.Future[Any]] = {listening, drained, lost, leaving}
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await stop(listening)
    if lost in done:
        raise StoreUnavailable("The job store went away while a request waited for news of a job.")
    return done == {listening} and listening.result()


def _seconds(preference: str) -> int | None:
    match = _WAIT.fullmatch(preference)
    if match is None:
        return None
    digits = (match[1] or match[2]).lstrip("0") or "0"
    return LONGEST_SECONDS if len(digits) > 2 else min(int(digits), LONGEST_SECONDS)
