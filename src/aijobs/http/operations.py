"""One method at one path, as the router adds it and OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aijobs.http import docs


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path."""

    #: Its name, unique in the router.
    action: str
    method: str
    #: Below the router.
    path: str
    endpoint: Callable[..., Any]
    #: What FastAPI is told of it.
    description: Mapping[str, Any]
    #: Whether it asks who the caller is.
    owned: bool = True
    #: Whether it answers `HEAD` as well.
    has_head: bool = False
    #: Whether it is for admins only.
    for_admins: bool = False
    #: What the body may have at most, when that is not what the router says.
    max_body_bytes: int | None = None


class Endpoints(Protocol):
    """Some of a router's operations."""

    def operations(self) -> Iterator[Operation]:
        """The operations, in the order in which they are looked through."""


def describe(summary: str, answer: str, model: Any, responses: docs.Responses, **more: Any) -> dict[str, Any]:
    """What FastAPI is told of an operation.

    Args:
        summary: a line.
        answer: what the response of success is.
        model: its schema.
        responses: the others.
        **more: further arguments of FastAPI's `add_api_route`.
    """
    return {
        "summary": summary,
        "response_description": answer,
        "response_model": model,
        "responses": responses,
        **more,
    }
