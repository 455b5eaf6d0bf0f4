"""Asks a model behind an OpenAI-compatible endpoint: for a whole answer, or for one token after the other.

It tries nothing twice and waits for nobody. What goes wrong is raised as it is, and the library decides by the
provider's own answer (its status, `Retry-After`) whether and when the job is tried again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import override

from agent.config import Settings

#: How long a connection to the endpoint may take to be made, in seconds.
CONNECT_SECONDS = 10.0


class Function(BaseModel):
    """A tool's name, and what it is given as JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """The model wants a tool to be used."""

    id: str
    type: Literal["function"] = "function"
    function: Function


class Message(BaseModel):
    """One message of a conversation, in the words of the OpenAI API."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Usage(BaseModel):
    """What a call cost, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class Reply(BaseModel):
    """A whole answer."""

    message: Message
    usage: Usage = Usage()


class _Choice(BaseModel):
    message: Message


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Usage | None = None


class Refused(Exception):
    """The endpoint answered with an error. Status, headers and body are there for who decides about a retry."""

    def __init__(self, message: str, status_code: int | None, headers: Mapping[str, str], body: Any) -> None:
        super().__init__(message, status_code, headers, body)
        self.status_code = status_code
        self.headers = headers
        self.body = body

    @override
    def __str__(self) -> str:
        return str(self.args[0])


class BadAnswer(Exception):
    """The endpoint answered something that is no answer of the OpenAI API, or the model something unusable."""


class ChatClient:
    """Talks to one endpoint; use it in an `async with` block, which closes its connections.

    Args:
        settings: where the endpoint is, the key, the model.
    """

    def __init__(self, settings: Settings) -> None:
        key = settings.api_key
        self._model = settings.model
        self._client = httpx.AsyncClient(
            base_url=settings.base_url,
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=httpx.Timeout(settings.timeout_seconds, connect=CONNECT_SECONDS),
            verify=_certificates(),
        )

    async def ask(self, messages: Sequence[Message], **options: Any) -> Reply:
        """Asks for a whole answer.

        Args:
            messages: the conversation so far.
            options: further members of the request, such as `tools`.

        Raises:
            ConnectionError: the endpoint cannot be reached.
            httpx.TransportError: the connection broke, or it was silent for too long.
            Refused: it answered with an error.
            BadAnswer: the answer makes no sense.
        """
        with _reaching():
            response = await self._client.post("/chat/completions", json=self._body(messages, options))
        await _check(response)
        try:
            answer = _Answer.model_validate_json(response.content)
        except ValidationError as error:
            raise BadAnswer("The endpoint is no OpenAI API, by its answer; check OPENAI_BASE_URL.") from error
        return Reply(message=answer.choices[0].message, usage=answer.usage or Usage())

    def stream(self, messages: Sequence[Message]) -> TokenStream:
        """Asks for an answer token by token. The request is sent when the first one is asked for."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return TokenStream(self._client, self._body(messages, options))

    def _body(self, messages: Sequence[Message], options: dict[str, Any]) -> dict[str, Any]:
        plain = [message.model_dump(exclude_none=True) for message in messages]
        return {"model": self._model, "messages": plain, **options}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()


@dataclass(slots=True)
class TokenStream:
    """The tokens of one answer, for one `async for`. Closing the iterator closes the connection."""

    _client: httpx.AsyncClient = field(repr=False)
    _body: dict[str, Any] = field(repr=False)
    #: What it cost, as far as the endpoint said so.
    usage: Usage = field(default_factory=Usage)

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yields the tokens.

        Raises:
            ConnectionError: the endpoint cannot be reached, or ended its answer too soon. Half an answer is never taken
                for a whole one.
            httpx.TransportError: the connection broke, or it was silent for too long.
            Refused: it answered with an error, at once or after it had begun.
            BadAnswer: the answer makes no sense.
        """
        complete = False
        async with contextlib.AsyncExitStack() as stack:
            with _reaching():
                answer = self._client.stream("POST", "/chat/completions", json=self._body)
                response = await stack.enter_async_context(answer)
            await _check(response)
            async for chunk in _chunks(response):
                self.usage = self.usage + Usage.model_validate(chunk.get("usage") or {})
                for choice in chunk.get("choices", ()):
                    complete = complete or bool(choice.get("finish_reason"))
                    if token := choice.get("delta", {}).get("content"):
                        yield token
        if not complete:
            raise ConnectionError("The endpoint ended its answer before it was complete.")


@contextlib.contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ConnectionError("The endpoint cannot be reached; check OPENAI_BASE_URL.") from error


async def _chunks(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON in a stream of server-sent events, up to `[DONE]`."""
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        value = value.strip()
        if name != "data" or value == "[DONE]":
            continue
        try:
            chunk = json.loads(value)
        except ValueError as error:
            raise BadAnswer("The endpoint streamed something that is not JSON; check OPENAI_BASE_URL.") from error
        if "error" in chunk:  # after it has begun, an endpoint can only say so here
            raise Refused("The endpoint failed in the middle of its answer.", None, {}, chunk)
        yield chunk


async def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    await response.aread()
    try:
        body = response.json()
    except ValueError:
        body = None
    status = response.status_code
    # Clients of the job read this: they need not know where the endpoint is.
    text = f"The endpoint answered {status} {response.reason_phrase}. {_HINTS.get(status, '')}".rstrip()
    raise Refused(text, status, dict(response.headers), body)


_HINTS = {
    401: "Check OPENAI_API_KEY.",
    403: "Check OPENAI_API_KEY.",
    404: "Check OPENAI_BASE_URL and OPENAI_MODEL.",
}


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Read once for all jobs of a process: it takes tens of milliseconds."""
    return httpx.create_ssl_context()
