"""`job_router()`: a Celery app's tasks as routes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cached_property
from itertools import chain, count, product
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
from aijobs.http.batches import BatchBounds, Batches
from aijobs.http.deadletters import DeadLetters
from aijobs.http.envelope import ClientFields
from aijobs.http.events import Events
from aijobs.http.examples import add_examples
from aijobs.http.exposure import ExposedTask, Tasks, expose_tasks
from aijobs.http.health import HealthCheck
from aijobs.http.jobs import Jobs
from aijobs.http.operations import Endpoints, Operation
from aijobs.http.overview import Overview
from aijobs.http.problems import METHOD_NOT_ALLOWED, ROUTE_NOT_FOUND, TASK_NOT_FOUND, Problem
from aijobs.http.retry import Retry
from aijobs.http.route import BELOW, route_classes, with_bound
from aijobs.http.service import JobService
from aijobs.http.sse import StreamLimits
from aijobs.http.submissions import Submissions
from aijobs.http.webhooks import Webhooks, address_check, callbacks

logger = logging.getLogger(__name__)

_NO_TASKS = (
    "job_router() found no task to expose in the Celery app %r. Give tasks the base ProgressTask, as in "
    "@celery_app.task(base=ProgressTask), or name others with job_router(tasks=…); and list their modules in the "
    "app's `include`, so that they are imported."
)

_FALLBACK, _SHORTCUT = "jobs:fallback", "jobs:shortcut"

#: Enough for a document's text; files have a route of their own.
MAX_BODY_BYTES = 1_048_576
MAX_BATCH_BYTES = 10_485_760
MAX_BATCH_ITEMS = 1_000


def job_router(
    celery_app: Celery,
    *,
    prefix: str = "/jobs",
    tasks: Tasks | None = None,
    dependencies: Sequence[Depends] | None = None,
    owner: Callable[..., Any] | None = None,
    authorize: Authorize | None = None,
    admin: Callable[..., Any] | None = None,
    client_fields: Iterable[str] = (),
    client_queues: Sequence[str] = (),
    webhooks: bool = False,
    tags: list[str | Enum] | None = None,
    finished_cancel_status: int = 409,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_batch_items: int = MAX_BATCH_ITEMS,
    max_batch_bytes: int = MAX_BATCH_BYTES,
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
            jobs of everybody, and more of each, and have the routes of dead letters.
        client_fields: what clients may send beside a task's own fields: `metadata`, `priority`, `countdown`, `expires`.
        client_queues: the queues that clients may choose from with the field `queue`.
        webhooks: whether clients may name, with the field `webhook`, an address that is told of a job's events.
        tags: under which OpenAPI lists the routes.
        finished_cancel_status: for cancelling a finished job: 409, or 400 for clients that expect that.
        max_body_bytes: a larger request body is refused.
        max_batch_items: a batch with more items is refused.
        max_batch_bytes: a larger batch is refused; each of its inputs is bounded as a body of its own.
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
        fields=ClientFields(client_fields, client_queues, address_check(setup(celery_app)) if webhooks else None),
        webhooks=webhooks,
        tags=["jobs"] if tags is None else tags,
        finished_cancel_status=finished_cancel_status,
        max_body_bytes=max_body_bytes,
        batch_bounds=BatchBounds(max_batch_items, max_batch_bytes, max_body_bytes),
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
        fields: ClientFields,
        webhooks: bool,
        tags: list[str | Enum],
        finished_cancel_status: int,
        max_body_bytes: int,
        batch_bounds: BatchBounds,
        stream_limits: StreamLimits,
    ) -> None:
        _check(prefix, finished_cancel_status, max_body_bytes)
        runtime = setup(celery_app)
        self.exposed = expose_tasks(celery_app, tasks)
        if not self.exposed:
            logger.warning(_NO_TASKS, celery_app.main)
        tasks_by_name = {task.name: task for task in self.exposed}
        service = JobService(runtime, tasks_by_name, access, callbacks() if webhooks else {})
        health = HealthCheck(runtime)
        submissions = Submissions(service, [task for task in self.exposed if not task.body.files], fields, health)
        # In the order in which the documentation shows them.
        endpoints: Sequence[Endpoints] = (
            submissions,
            *_uploads(service, [task for task in self.exposed if task.body.files], fields, submissions),
            Jobs(service, finished_cancel_status),
            Events(service, stream_limits),
            Retry(service),
            Webhooks(service),
            Batches(service, self.exposed, prefix, batch_bounds, stream_limits, health),
            DeadLetters(service),
            Overview(service, health),
        )
        self._job_route_class, self._fallback_class = route_classes(max_body_bytes)
        super().__init__(
            prefix=prefix,
            tags=tags,
            dependencies=dependencies,
            route_class=self._job_route_class,
            lifespan=service.lifespan,
            generate_unique_id_function=self._operation_id,
        )
        #: The place of each route below the router, by the route's name.
        self._places = {_FALLBACK: ""}
        self._owned = access.dependencies()
        self._for_admins = [*self._owned, Depends(access.check_admin)]
        operations = list(chain.from_iterable(one.operations() for one in endpoints))
        # What is asked most is also found first: to look through all others before it would take longer than to answer.
        self._add(next(one for one in operations if one.action == "get"), shown=False)
        for operation in operations:
            self._add(operation)
        self._add_fallbacks()

    def _add(self, operation: Operation, *, shown: bool = True) -> None:
        # The list of jobs is at the prefix itself, with and without a slash.
        paths = ("", "/") if operation.path == "/" and self.prefix else (operation.path,)
        methods = ("GET", "HEAD") if operation.has_head else (operation.method,)
        name = self._free_name(operation.action) if shown else _SHORTCUT
        if "{" not in operation.path:
            self._job_route_class.written_out.add(operation.path.removeprefix("/"))
        for path, method in product(paths, methods):
            self._add_route(operation, name, path, method, shown=shown and (path, method) == (paths[0], methods[0]))

    def _free_name(self, action: str) -> str:
        # Tasks at `a-b` and `a_b`, say, would have the same.
        names = (f"jobs:{action}{suffix}" for suffix in chain([""], (f"_{number}" for number in count(2))))
        return next(name for name in names if name not in self._places)

    def _add_route(self, operation: Operation, name: str, path: str, method: str, *, shown: bool) -> None:
        self._places[name] = path
        self.add_api_route(
            path,
            operation.endpoint,
            methods=[method],
            name=name,
            dependencies=self._for_admins if operation.for_admins else self._owned if operation.owned else None,
            include_in_schema=shown,
            route_class_override=with_bound(self._job_route_class, operation.max_body_bytes),
            **operation.description,
        )
        if shown and isinstance(route := self.routes[-1], APIRoute):
            add_examples(route)

    def _add_fallbacks(self) -> None:
        self._add_fallback("/{task}", self._refuse_task, ["POST"])
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

    async def _refuse_task(self, task: str, body: Annotated[Any, Body()] = None) -> Response:
        # The body is read only so that known and unknown tasks refuse a bad one alike.
        if f"/{task}" in self._methods:
            raise _not_allowed(self._methods[f"/{task}"])
        raise Problem(TASK_NOT_FOUND, "No task of this name is offered here.")

    async def _refuse(self, request: Request) -> Response:
        place = "/" + request.path_params.get("path", "")
        # A path that is written out is no job's id.
        fitting = [place] if place in self._methods else [path for path in self._methods if _fits(path, place)]
        if not fitting:
            detail = "There is nothing here. Paths have no slash at their end."
            raise Problem(ROUTE_NOT_FOUND, detail)
        raise _not_allowed(set().union(*(self._methods[path] for path in fitting)))

    @cached_property
    def _methods(self) -> dict[str, set[str]]:
        """The methods of each path below the prefix."""
        found: dict[str, set[str]] = {}
        for route in self.routes:
            if isinstance(route, APIRoute) and issubclass(type(route), self._job_route_class):
                found.setdefault(route.path.removeprefix(self.prefix) or "/", set()).update(route.methods or ())
        return found

    def _operation_id(self, route: APIRoute) -> str:
        """Unique over the routers of an app, and short: `jobs_get`, `v1_jobs_submit_embed`."""
        place = self._places.get(route.name)
        if place is None:
            return generate_unique_id(route)
        prefix = re.sub(r"[^A-Za-z0-9]+", "_", route.path_format.removesuffix(place)).strip("_")
        return "_".join(filter(None, (prefix, route.name.removeprefix("jobs:"))))


def _fits(path: str, place: str) -> bool:
    return compile_path(path)[0].fullmatch(place) is not None


def _not_allowed(methods: set[str]) -> Problem:
    allowed = ", ".join(sorted(methods))
    return Problem(METHOD_NOT_ALLOWED, f"This path takes {allowed}.", headers={"Allow": allowed})


def _uploads(
    service: JobService, tasks: Sequence[ExposedTask], fields: ClientFields, submissions: Submissions
) -> Sequence[Endpoints]:
    """The endpoints for tasks that take files; what these need is loaded only when there are any."""
    if not tasks:
        return []
    try:
        from aijobs.http.filebatch import FileBatches
        from aijobs.http.form import TaskForm
        from aijobs.http.uploads import UploadDesk, Uploads
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ConfigurationError(
            f"Task {tasks[0].name!r} takes a file, for which {missing} is not installed: pip install 'aijobs[uploads]'"
        ) from error
    desk, forms = UploadDesk(service), [TaskForm(task, fields) for task in tasks]
    return [Uploads(desk, forms, submissions), FileBatches(desk, forms, submissions)]


def _check(prefix: str, finished_cancel_status: int, max_body_bytes: int) -> None:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ConfigurationError(f"job_router(prefix={prefix!r}): it begins with a slash and does not end with one.")
    if finished_cancel_status not in (400, 409):
        raise ConfigurationError(f"job_router(finished_cancel_status={finished_cancel_status!r}): use 409 or 400.")
    if max_body_bytes < 1:
        raise ConfigurationError(f"job_router(max_body_bytes={max_body_bytes!r}): at least 1 is needed.")
