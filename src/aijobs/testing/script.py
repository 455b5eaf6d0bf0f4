"""`scripted`: a provider of models that answers what a test says, and remembers what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aijobs.testing.answers import Disconnection, Refusal, Tokens, Vectors

if TYPE_CHECKING:
    from aijobs.testing.endpoint import Endpoint

#: What a script may hold: text or JSON as it is, tokens, vectors, failures, exceptions of your own, or a function of
#: the call.
Answer = (
    str
    | Mapping[str, Any]
    | Sequence[Any]
    | Tokens
    | Vectors
    | Refusal
    | Disconnection
    | Exception
    | Callable[..., Any]
)


class ScriptEnded(AssertionError):
    """The provider was called more often than its script has answers."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the provider was asked."""

    #: Counted from 1.
    number: int
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    #: Of the request, when it came over HTTP.
    path: str = ""
    #: What it was answered; None after the script's end.
    answer: Any = None
    #: On the monotonic clock, seconds.
    at: float = field(default_factory=time.monotonic)


class ProviderScript:
    """Answers one call after the other from a script; `scripted` makes it.

    Call it in place of a client: it returns text, iterates over tokens, or raises. `call_async` is the same for code
    that awaits. `serve` makes it an HTTP endpoint for a real client.

    Args:
        answers: one for each call.
        then: the answer to all calls after those; without it they are an error.

    Attributes:
        calls: what came, in order.
    """

    def __init__(self, answers: Sequence[Answer], then: Answer | None = None) -> None:
        self._answers = list(answers)
        self._then = then
        self._lock = threading.Lock()
        self.calls: list[Call] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Answers a call; the arguments are remembered.

        Raises:
            ScriptEnded: there is no answer left.
            ProviderError: the script has a refusal here.
            ConnectionError: the script has a disconnection here.
        """
        answer = self._answer(args, kwargs)
        return answer.stream() if isinstance(answer, Tokens) else answer

    async def call_async(self, *args: Any, **kwargs: Any) -> Any:
        """Answers a call of code that awaits it; tokens are for `async for` then. It raises what a call raises."""
        answer = self._answer(args, kwargs)
        return answer.stream_async() if isinstance(answer, Tokens) else answer

    def _answer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        answer = self.take(args, kwargs)
        if isinstance(answer, Refusal | Disconnection):
            raise answer.exception()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Vectors):
            return answer.of(_texts(args, kwargs))
        return answer(*args, **kwargs) if callable(answer) else answer

    def take(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, path: str = "") -> Any:
        """The next answer as the script has it; the call is remembered.

        Raises:
            ScriptEnded: there is none left.
        """
        with self._lock:
            number = len(self.calls) + 1
            answer = self._answers[number - 1] if number <= len(self._answers) else self._then
            self.calls.append(Call(number, args, kwargs or {}, path, answer))
        if answer is None:
            raise ScriptEnded(self._overrun(number))
        return answer

    def assert_done(self) -> None:
        """Checks that each answer was asked for, and nothing else.

        Raises:
            AssertionError: the message has the answers that are left.
            ScriptEnded: there were more calls than answers.
        """
        if self._then is None and len(self.calls) > len(self._answers):
            raise ScriptEnded(self._overrun(len(self.calls)))
        if left := self._answers[len(self.calls) :]:
            raise AssertionError(f"After {len(self.calls)} calls, the script has answers left: {left!r}")

    def serve(self, *, models: Sequence[str] = ("scripted",)) -> Endpoint:
        """An HTTP endpoint on this machine, for a `with` block, that speaks as OpenAI does.

        Args:
            models: the names that it lists.
        """
        from aijobs.testing.endpoint import Endpoint

        return Endpoint(self, models)

    def _overrun(self, number: int) -> str:
        return (
            f"The script has {len(self._answers)} answers, and this is call number {number}. Add one, or say "
            "scripted(…, then=…) for all that follow."
        )


def scripted(*answers: Answer, then: Answer | None = None) -> ProviderScript:
    """A provider that answers what it is told.

        ask = scripted(rate_limited(retry_after=20), "42")

    Args:
        *answers: one for each call: text, `tokens(…)`, `vectors(…)`, what JSON can hold, a failure such as
            `overloaded()`, an exception, or a function that is given the call's arguments.
        then: the answer to all calls after those; without it they raise `ScriptEnded`.
    """
    return ProviderScript(answers, then)


def _texts(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
    """What is to be embedded: the argument `input`, else the first one."""
    given = kwargs.get("input", args[0] if args else ())
    return [given] if isinstance(given, str) else given
