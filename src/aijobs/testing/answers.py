"""What a provider of models may answer: text, tokens, vectors, and the ways in which it fails."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """The HTTP response that a failure came with, with the names that httpx and requests have."""

    status_code: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    def json(self) -> Mapping[str, Any]:
        """The body."""
        return self.body


class ProviderError(Exception):
    """A call that a provider refused, in the shape of the errors of the usual clients.

    Attributes:
        status_code: of the HTTP response.
        response: with `status_code` and `headers`.
        body: of the response, decoded.
        code: the provider's word for it.
        type: the provider's word for its kind.
    """

    def __init__(self, response: ProviderResponse) -> None:
        error = response.body["error"]
        super().__init__(f"Error code: {response.status_code} - {error['message']}")
        self.response = response
        self.status_code = response.status_code
        self.body = error
        self.code = error["code"]
        self.type = error["type"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that is answered with an error."""

    status: int
    #: The provider's word for its kind, such as `rate_limit_error`.
    kind: str
    message: str
    #: The provider's word for it, when it has one beside the kind.
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": None, "code": self.code}}

    def exception(self) -> Exception:
        """What a client raises."""
        return ProviderError(ProviderResponse(self.status, self.headers, self.body))


@dataclass(frozen=True, slots=True)
class Disconnection:
    """A connection that breaks."""

    def exception(self) -> Exception:
        """What a client raises."""
        return ConnectionResetError("The provider closed the connection.")


Mishap = Refusal | Disconnection


@dataclass(frozen=True, slots=True)
class Tokens:
    """An answer that comes in parts."""

    parts: Sequence[str]
    #: What ends it instead of its proper end.
    then: Mishap | None = None
    #: Between two parts, when it is sent over HTTP, seconds.
    pause_seconds: float = 0.0

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)

    def stream(self) -> Iterator[str]:
        """Its parts, and what ends it."""
        yield from self.parts
        if self.then is not None:
            raise self.then.exception()

    async def stream_async(self) -> AsyncIterator[str]:
        """The same for `async for`."""
        for part in self.stream():
            yield part


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings: given ones, or some that depend on nothing but the text."""

    rows: Sequence[Sequence[float]] = ()
    dimensions: int = 8

    def of(self, texts: Sequence[Any]) -> list[list[float]]:
        """A vector for each text.

        Raises:
            AssertionError: the script has not as many as there are texts.
        """
        if not self.rows:
            return [self._made_up(str(text)) for text in texts]
        if len(self.rows) != len(texts):
            raise AssertionError(f"The script has {len(self.rows)} vectors for {len(texts)} texts.")
        return [list(row) for row in self.rows]

    def _made_up(self, text: str) -> list[float]:
        digest = hashlib.shake_128(text.encode()).digest(self.dimensions)
        return [round(byte / 127.5 - 1, 4) for byte in digest]


def rate_limited(retry_after: float | None = None) -> Refusal:
    """Too many requests (429).

    Args:
        retry_after: seconds that the provider asks to wait.
    """
    return Refusal(
        429, "rate_limit_error", "Rate limit reached.", "rate_limit_exceeded", headers=_retry_after(retry_after)
    )


def overloaded(retry_after: float | None = None) -> Refusal:
    """The provider has too much to do (529).

    Args:
        retry_after: seconds that the provider asks to wait.
    """
    return Refusal(529, "overloaded_error", "Overloaded.", headers=_retry_after(retry_after))


def server_error(status: int = 500) -> Refusal:
    """The provider failed."""
    return Refusal(status, "server_error", "The server had an error while processing your request.")


def unauthorized() -> Refusal:
    """The key is not valid (401)."""
    return Refusal(401, "invalid_request_error", "Incorrect API key provided.", "invalid_api_key")


def bad_request(message: str = "Your input is too long.", code: str | None = "context_length_exceeded") -> Refusal:
    """The request can never be answered (400)."""
    return Refusal(400, "invalid_request_error", message, code)


def disconnected() -> Disconnection:
    """The connection breaks before the answer, or, after `tokens(…, then=…)`, in the middle of it."""
    return Disconnection()


def tokens(*parts: str, then: Mishap | None = None, pause_seconds: float = 0.0) -> Tokens:
    """An answer that is streamed.

    Args:
        *parts: of it.
        then: what breaks it off.
        pause_seconds: between two parts, when it is sent over HTTP.
    """
    return Tokens(parts, then, pause_seconds)


def vectors(*rows: Sequence[float], dimensions: int = 8) -> Vectors:
    """Embeddings.

    Args:
        *rows: one for each text of the call; by default any, the same for the same text.
        dimensions: of those.
    """
    return Vectors(rows, dimensions)


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"retry-after": f"{seconds:g}"}
