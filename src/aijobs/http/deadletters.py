"""Dead letters over HTTP, for admins: to be listed, run again and thrown away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Body, Query, Request
from starlette.responses import Response

from aijobs._deadsearch import DeadLetterFilter, Search
from aijobs._procedure import run_async
from aijobs.dead import ReplayReport, purge_page, replay_page
from aijobs.http import docs
from aijobs.http.cursor import read_cursor, write_cursor
from aijobs.http.filters import DeadLetterAction, DeadLetterRetry, PagedDeadLetters
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import INVALID_REQUEST, Problem
from aijobs.http.render import json_bytes, json_response, page_json
from aijobs.http.schemas import AdminJobPage, PurgeReport, RetryReport
from aijobs.http.service import JobService
from aijobs.job import Job

#: After so many seconds a request answers with what it has done; `next_cursor` leads to the rest.
WORK_SECONDS = 2.0
#: The same for one that only looks.
LOOK_SECONDS = 0.5


class DeadLetters:
    """The routes about dead letters; there are none when nobody can be an admin.

    Args:
        service: of the router.
    """

    def __init__(self, service: JobService) -> None:
        self._service = service

    def operations(self) -> Iterator[Operation]:
        """The operations, each for admins only."""
        if not self._service.access.has_admins:
            return
        problems = docs.problems(400, 403, 422, 503)
        listed = describe("List dead letters", "A page of failed jobs.", AdminJobPage, problems)
        yield Operation("dead", "GET", "/dead", self.list, listed, has_head=True, for_admins=True)
        sent = describe(
            "Run dead letters again", "What was done.", RetryReport, docs.problems(400, 403, 413, 415, 422, 503)
        )
        yield Operation("dead_retry", "POST", "/dead/retry", self.retry, sent, for_admins=True)
        purged = describe("Purge dead letters", "What was done.", PurgeReport, problems)
        yield Operation("dead_purge", "DELETE", "/dead", self.purge, purged, for_admins=True)

    async def list(self, request: Request, query: Annotated[PagedDeadLetters, Query()]) -> Response:
        """Failed jobs of all owners, those submitted last first, a page at a time."""
        search, where = await self._search(query)
        found: list[Job] = []
        for _ in _in_time(search, LOOK_SECONDS):
            found += await run_async(self._service.store, search.page())
        view = self._service.access.view(request, 1)
        return json_response(page_json(found, view, await self._cursor(search, where)))

    async def retry(self, body: Annotated[DeadLetterRetry, Body()]) -> Response:
        """Begins a new run of each dead letter that matches, as the retry of a single job does."""
        _check_meant(body)
        service = self._service
        search, where = await self._search(body)
        report = ReplayReport()
        for _ in _in_time(search, WORK_SECONDS):
            page = replay_page(service.runtime, search, dry_run=body.dry_run)
            report += await run_async(service.store, page)
        told = {"matched": report.matched, "replayed": report.replayed, "refused": dict(report.refused)}
        return _report(told, await self._cursor(search, where))

    async def purge(self, query: Annotated[DeadLetterAction, Query()]) -> Response:
        """Removes the dead letters that match for good: records, arguments, events and results."""
        _check_meant(query)
        service = self._service
        search, where = await self._search(query)
        purged = 0
        for _ in _in_time(search, WORK_SECONDS):
            purged += await run_async(service.store, purge_page(service.runtime, search, dry_run=query.dry_run))
        return _report({"purged": purged}, await self._cursor(search, where))

    async def _search(self, query: PagedDeadLetters) -> tuple[Search, DeadLetterFilter]:
        service = self._service
        where = query.filter(service.tasks.values())
        secret = await service.signing_secret()
        after = None if query.cursor is None else read_cursor(secret, where, query.cursor)
        return Search(service.store, where, query.limit, after), where

    async def _cursor(self, search: Search, where: DeadLetterFilter) -> str | None:
        if search.position is None:
            return None
        return write_cursor(await self._service.signing_secret(), where, search.position)


def _in_time(search: Search, seconds: float) -> Iterator[None]:
    """A step for each page of a search, until its end or until the time has passed."""
    until = time.monotonic() + seconds
    while search.goes_on:
        yield
        if time.monotonic() >= until:
            return


def _check_meant(query: DeadLetterAction) -> None:
    """Refuses to take all dead letters when that was not said."""
    if not (query.all or query.dry_run or query.chooses):
        detail = "Say which dead letters are meant, by a filter such as task, or all=true for every one."
        raise Problem(INVALID_REQUEST, detail)


def _report(told: dict[str, Any], cursor: str | None) -> Response:
    return json_response(json_bytes({**told, "next_cursor": cursor, "has_more": cursor is not None}))
