"""The route class below the prefix: errors leave as problems, bodies are read within their bounds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from aijobs.errors import AijobsError
from aijobs.http.body import JsonRequest
from aijobs.http.problems import problem_response
from aijobs.http.render import path_below_root


class _BelowConvertor(Convertor[str]):
    """Everything below a path; unlike Starlette's own convertor for that, line feeds as well."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("aijobs_below", _BelowConvertor())

#: A path that takes everything, as the parameter `path`.
BELOW = "/{path:aijobs_below}"


class ProblemRoute(APIRoute):
    """A route whose errors are `application/problem+json`.

    FastAPI includes a router by making its routes anew from their class, so what a route has to know is on the class.
    """

    max_body_bytes: ClassVar[int]
    #: The paths below the router that look like a job's, and are none: those of tasks, of batches, …
    written_out: ClassVar[set[str]]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, between a strict request and a translated error."""
        handle = super().get_route_handler()
        max_body_bytes = self.max_body_bytes

        async def handle_with_problems(request: Request) -> Response:
            try:
                return await handle(JsonRequest(request.scope, request.receive, max_body_bytes))
            except (HTTPException, RequestValidationError, AijobsError) as error:
                response = problem_response(error)
                if response is None:
                    raise
                return response

        return handle_with_problems

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Takes no part when only the path fits: Starlette's own 405 would be no problem document."""
        if scope.get("method") not in (self.methods or ()):
            return Match.NONE, {}
        match, child_scope = super().matches(scope)
        if match is not Match.FULL or self._is_mistaken(scope["path"], child_scope["path_params"]):
            return Match.NONE, {}
        return match, child_scope

    def _is_mistaken(self, path: str, params: Mapping[str, Any]) -> bool:
        return params.get("job_id") in self.written_out or _overlooks_line_feed(path, params)


class FallbackRoute(ProblemRoute):
    """The route for whatever no other route takes, be it of this router or of another one in the same app."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Fits partially: the app comes back to it when nothing fits in full.

        Where a router has no prefix at all, what is left over is the app's.
        """
        match, child_scope = APIRoute.matches(self, scope)
        if match is not Match.FULL or _is_whole_path(scope, child_scope["path_params"]):
            return Match.NONE, {}
        return Match.PARTIAL, child_scope


def _overlooks_line_feed(path: str, params: Mapping[str, Any]) -> bool:
    """Whether the path ends in a line feed that no parameter holds; the `$` of Starlette's patterns lets it pass."""
    return path.endswith("\n") and not any(str(value).endswith("\n") for value in params.values())


def _is_whole_path(scope: Scope, params: Mapping[str, Any]) -> bool:
    return path_below_root(scope) in [f"/{value}" for value in params.values()]


def route_classes(max_body_bytes: int) -> tuple[type[ProblemRoute], type[FallbackRoute]]:
    """The two route classes of one router."""
    known = {"max_body_bytes": max_body_bytes, "written_out": set[str]()}
    return type("JobRoute", (ProblemRoute,), known), type("JobFallbackRoute", (FallbackRoute,), known)


def with_bound(route_class: type[ProblemRoute], max_body_bytes: int | None) -> type[ProblemRoute]:
    """The same route class with another bound of the body; the class itself without one."""
    if max_body_bytes is None:
        return route_class
    return type(route_class.__name__, (route_class,), {"max_body_bytes": max_body_bytes})
