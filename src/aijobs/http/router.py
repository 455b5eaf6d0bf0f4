"""`job_router()`: a Celery app's tasks as routes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property
from itertools import chain, product
from typing import Annotated, Any

from celery import Celery
from fastapi import APIRouter, Body, Request
from fastapi.params import Depends
from fastapi.routing import APIRoute
from fastapi.utils import generate_unique_id
from starlette.responses import Response
from starlette.routing import compile_path

from aijobs.attach import setup
from aijobs.errors import ConfigurationError
from aijobs.http.access import Access, Authorize
from aijobs.http.events import Events
from aijobs.http.exposure import Tasks, expose_tasks
from aijobs.http.health import HealthCheck
from aijobs.http.jobs import Jobs
from aijobs.http.operations import Endpoints, Operation
from aijobs.http.overview import Overview
from aijobs.http.problems import METHOD_NOT_ALLOWED, ROUTE_NOT_FOUND, TASK_NOT_FOUND, Problem
from aijobs.http.route import BELOW, route_classes
from aijobs.http.service import JobService
from aijobs.http.sse import StreamLimits
from aijobs.http.submissions import Submissions

logger = logging.getLogger(__name__)

_NO_TASKS = (
    "job_router() found no task to expose in the Celery app %r. Give tasks the base ProgressTask, as in "
    "@celery_app.task(base=ProgressTask), or name others with job_router(tasks=…); and list their modules in the "
    "app's `include`, so that they are imported."
)

_FALLBACK = "jobs:fallback"

#: Enough for a document's text; files have a route of their own.
MAX_BODY_BYTES = 1_048_576


def job_router(
    celery_app: Celery,
    *,
    prefix: str = "/jobs",
    tasks: Tasks | None = None,
    dependencies: Sequence[Depends] | None = None,
    owner: Callable[..., Any] | None = None,
    authorize: Authorize | None = None,
    admin: Callable[..., Any] | None = None,
    tags: list[str | Enum] | None = None,
    finished_cancel_status: int = 409,
    max_body_bytes: int = MAX_BODY_BYTES,
    stream_limits: StreamLimits | None = None,
) -> JobRouter:
    """Makes the routes of a Celery app's tasks, to be included in a FastAPI app.

        app = FastAPI()
        app.include_router(job_router(celery_app))

    Every registered task whose base is `ProgressTask` gets a typed `POST` route, unless it says `expose = False`.

    Args:
        celery_app: its task modules (`include=`, `imports=`, autodiscovery) are imported first.
        prefix: of all paths.
        tasks: exposed as well: tasks or their names, or a mapping from path segments to them, which also renames.
        dependencies: run before each request, e.g. `[Depends(authenticate)]`.
        owner: a dependency that returns the caller's id; then callers see nothing but jobs of their own.
        authorize: called with action, owner and job (None for `submit`); what it answers with False, or what its
            awaitable result denies, is refused.
        admin: a dependency that returns whether the caller is an admin, and does not raise for others. Admins see the
            jobs of everybody.
        tags: under which OpenAPI lists the routes.
        finished_cancel_status: for cancelling a finished job: 409, or 400 for clients that expect that.
        max_body_bytes: a larger request body is refused.
        stream_limits: time limits of event streams.

    Raises:
        ConfigurationError: a task cannot have a route, or an argument is wrong; the message says what to do.
    """
    return JobRouter(
        celery_app,
        prefix=prefix,
        tasks=tasks,
        dependencies=dependencies,
        access=Access(owner, authorize, admin),
        tags=["jobs"] if tags is None else tags,
        finished_cancel_status=finished_cancel_status,
        max_body_bytes=max_body_bytes,
        stream_limits=stream_limits or StreamLimits(),
    )


class JobRouter(APIRouter):
    """What `job_router()` returns.

    Attributes:
        exposed: the tasks that have a route, in the order of their paths.
    """

    def __init__(
        self,
        celery_app: Celery,
        *,
        prefix: str,
        tasks: Tasks | None,
        dependencies: Sequence[Depends] | None,
        access: Access,
        tags: list[str | Enum],
        finished_cancel_status: int,
        max_body_bytes: int,
        stream_limits: StreamLimits,
    ) -> None:
        _check(prefix, finished_cancel_status, max_body_bytes)
        runtime = setup(celery_app)
        self.exposed = expose_tasks(celery_app, tasks)
        if not self.exposed:
            logger.warning(_NO_TASKS, celery_app.main)
        service = JobService(runtime, {task.name: task for task in self.exposed}, access)
        health = HealthCheck(runtime)
        # In this order, since the first path that fits is taken: those with a job's id come last.
        endpoints: Sequence[Endpoints] = (
            Submissions(service, self.exposed, health),
            Overview(service, health),
            Jobs(service, finished_cancel_status),
            Events(service, stream_limits),
        )
        route_class, self._fallback_class = route_classes(max_body_bytes)
        super().__init__(
            prefix=prefix,
            tags=tags,
            dependencies=dependencies,
            route_class=route_class,
            lifespan=service.lifespan,
            generate_unique_id_function=self._operation_id,
        )
        #: The place of each route below the router, by the route's name.
        self._places = {_FALLBACK: ""}
        self._owned = access.dependencies()
        self._for_admins = [*self._owned, Depends(access.check_admin)]
        for operation in chain.from_iterable(one.operations() for one in endpoints):
            self._add(operation)
        self._add_fallbacks()

    def _add(self, operation: Operation) -> None:
        # The list of jobs is at the prefix itself, with and without a slash.
        paths = ("", "/") if operation.path == "/" and self.prefix else (operation.path,)
        methods = ("GET", "HEAD") if operation.has_head else (operation.method,)
        for path, method in product(paths, methods):
            self._add_route(operation, path, method, shown=(path, method) == (paths[0], methods[0]))

    def _add_route(self, operation: Operation, path: str, method: str, *, shown: bool) -> None:
        name = f"jobs:{operation.action}"
        self._places[name] = path
        self.add_api_route(
            path,
            operation.endpoint,
            methods=[method],
            name=name,
            dependencies=self._for_admins if operation.for_admins else self._owned if operation.owned else None,
            include_in_schema=shown,
            **operation.description,
        )

    def _add_fallbacks(self) -> None:
        self._add_fallback("/{task}", _refuse_task, ["POST"])
        for path in ("", BELOW) if self.prefix else (BELOW,):
            self._add_fallback(path, self._refuse, [])

    def _add_fallback(self, path: str, endpoint: Callable[..., Any], methods: list[str]) -> None:
        self.add_api_route(
            path,
            endpoint,
            methods=methods,
            name=_FALLBACK,
            include_in_schema=False,
            route_class_override=self._fallback_class,
        )

    async def _refuse(self, request: Request) -> Response:
        place = "/" + request.path_params.get("path", "")
        methods = {method for pattern, method in self._patterns if pattern.fullmatch(place)}
        if not methods:
            detail = "There is nothing here. Paths have no slash at their end."
            raise Problem(ROUTE_NOT_FOUND, detail)
        allowed = ", ".join(sorted(methods))
        raise Problem(METHOD_NOT_ALLOWED, f"This path takes {allowed}.", headers={"Allow": allowed})

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        """What is routed below the prefix: patterns of paths with their methods."""
        routes = [route for route in self.routes if type(route) is self.route_class]
        below = [(route.path.removeprefix(self.prefix) or "/", route.methods or ()) for route in routes]
        return [(compile_path(path)[0], method) for path, methods in below for method in methods]

    def _operation_id(self, route: APIRoute) -> str:
        """Unique over the routers of an app, and short: `jobs_get`, `v1_jobs_submit_embed`."""
        place = self._places.get(route.name)
        if place is None:
            return generate_unique_id(route)
        prefix = re.sub(r"[^A-Za-z0-9]+", "_", route.path_format.removesuffix(place)).strip("_")
        return "_".join(filter(None, (prefix, route.name.removeprefix("jobs:"))))


async def _refuse_task(body: Annotated[Any, Body()] = None) -> Response:
    # The body is read only so that known and unknown tasks refuse a bad one alike.
    raise Problem(TASK_NOT_FOUND, "No task of this name is offered here.")


def _check(prefix: str, finished_cancel_status: int, max_body_bytes: int) -> None:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ConfigurationError(f"job_router(prefix={prefix!r}): it begins with a slash and does not end with one.")
    if finished_cancel_status not in (400, 409):
        raise ConfigurationError(f"job_router(finished_cancel_status={finished_cancel_status!r}): use 409 or 400.")
    if max_body_bytes < 1:
        raise ConfigurationError(f"job_router(max_body_bytes={max_body_bytes!r}): at least 1 is needed.")
