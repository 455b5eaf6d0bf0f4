"""Request bodies: bounded, declared as JSON, and parsed strictly."""

from __future__ import annotations

import json
from email.message import Message
from functools import lru_cache
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.types import Receive, Scope

from aijobs.http.problems import BODY_TOO_LARGE, INVALID_JSON, INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, Problem


class JsonRequest(Request):
    """A request whose body is read as JSON or refused.

    Args:
        scope: of ASGI.
        receive: of ASGI.
        max_body_bytes: a larger body is refused as soon as that is known.
    """

    def __init__(self, scope: Scope, receive: Receive, max_body_bytes: int) -> None:
        super().__init__(scope, receive)
        self._max_body_bytes = max_body_bytes

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            Problem: it is too large, or not declared as JSON.
        """
        if not hasattr(self, "_body"):
            self._body = await self._read()
            if self._body and not self._is_declared_json():
                raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body with Content-Type: application/json.")
        return self._body

    async def json(self) -> Any:
        """The decoded body.

        Raises:
            Problem: it is not JSON as RFC 8259 has it, or nested too deeply, or null.
        """
        try:
            value = from_json(await self.body(), allow_inf_nan=False)
            # The parser takes a number that is too large for a float for infinite. Encoding tells that ten times faster
            # than a search for large numbers, but not from a text that says so.
            if b"Infinity" in to_json(value, inf_nan_mode="constants"):
                json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise Problem(INVALID_JSON, f"The body cannot be read as JSON: {error}.") from None
        if value is None:
            raise Problem(INVALID_REQUEST, "#: The body must not be null.", members={"errors": [_NULL_BODY]})
        return value

    async def _read(self) -> bytes:
        self._check(int(length) if (length := self.headers.get("content-length", "")).isdecimal() else 0)
        chunks, size = [], 0
        async for chunk in self.stream():
            size += len(chunk)
            self._check(size)
            chunks.append(chunk)
        return b"".join(chunks)

    def _check(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise Problem(BODY_TOO_LARGE, f"The body may have {self._max_body_bytes} bytes at most.")

    def _is_declared_json(self) -> bool:
        # Without a declared type a browser could send the request across origins and ask nobody.
        declared = self.headers.getlist("content-type")
        return len(declared) == 1 and _is_json(declared[0])


_NULL_BODY = {"pointer": "#", "detail": "The body must not be null", "type": "missing"}


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    kind, _, subtype = message.get_content_type().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))
