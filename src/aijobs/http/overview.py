"""How many jobs there are, and whether they can be run."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from starlette.responses import Response

from aijobs.http import docs
from aijobs.http.health import HealthCheck
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import UNHEALTHY, Problem
from aijobs.http.render import json_bytes, json_response
from aijobs.http.schemas import Health, JobStats
from aijobs.http.service import JobService, deadline


class Overview:
    """The routes about all jobs together.

    Args:
        service: of the router.
        health: looks after store and broker.
    """

    def __init__(self, service: JobService, health: HealthCheck) -> None:
        self._service = service
        self._health = health

    def operations(self) -> Iterator[Operation]:
        """The operations."""
        counted = describe("Count jobs", "The counts.", JobStats, docs.problems(403, 503))
        yield Operation("stats", "GET", "/stats", self.stats, counted, has_head=True)
        unhealthy = docs.problems(_503="The store or the broker does not answer: see `detail`.")
        healthy = describe("Check health", "Store and broker answer.", Health, unhealthy)
        yield Operation("health", "GET", "/health", self.health, healthy, owned=False, has_head=True)

    async def stats(self, request: Request) -> Response:
        """How many jobs have which status; callers with jobs of their own see only those."""
        service = self._service
        owner = service.access.owner_seen(request)
        async with deadline():
            stats = await service.store.run_async(service.store.stats(list(service.tasks), owner))
        return json_response(
            json_bytes(
                {
                    "statuses": stats.statuses,
                    "tasks": stats.tasks,
                    "queues": stats.queues if service.access.sees_all(request) else None,
                    "workers": len(stats.workers),
                }
            )
        )

    async def health(self) -> Response:
        """Whether store and broker answer, and how many workers report."""
        report = await self._health.report()
        if report["status"] != "ok":
            members = {name: report[name] for name in ("store", "broker", "workers")}
            raise Problem(UNHEALTHY, report["detail"], members=members)
        return json_response(json_bytes(report))
