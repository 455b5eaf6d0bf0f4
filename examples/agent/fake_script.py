"""What the fake provider is told to do, and what it has seen."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

Kind = Literal["plan", "look_up", "answer", "report", "other"]


class Trouble(BaseModel):
    """Some calls that the provider does not serve as it should."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The status that is answered; with `break_after`, the one of a stream that begins well.
    status: Annotated[int, Field(ge=200, le=599)] = 429
    #: `Retry-After`, in seconds.
    retry_after: NonNegativeFloat | None = None
    #: Only calls of this kind.
    kind: Kind | None = None
    #: The first of them that is refused, counted from 1.
    start: PositiveInt = 1
    #: How many of them; None for all that come.
    count: PositiveInt | None = 1
    #: Of those, one out of so many.
    every: PositiveInt = 1
    #: A stream is broken off after so many tokens.
    break_after: PositiveInt | None = None

    def meets(self, number: int) -> bool:
        """Whether it meets the call with this number, among those of its kind."""
        place = number - self.start
        refused, rest = divmod(place, self.every)
        return place >= 0 and rest == 0 and (self.count is None or refused < self.count)


class Script(BaseModel):
    """How fast the provider is, and what goes wrong there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Before each answer, in seconds.
    thinking_seconds: NonNegativeFloat = 0.4
    #: Before each token of a stream, in seconds.
    token_seconds: NonNegativeFloat = 0.03
    #: Without this key, calls are answered 401; None takes any.
    api_key: str | None = None
    troubles: tuple[Trouble, ...] = ()


@dataclass(slots=True)
class Call:
    """One request for a completion."""

    kind: Kind
    #: What was asked, in short; the same call of another attempt has the same.
    about: str
    status: int = 200
    #: When it came, in seconds of a clock of no meaning.
    at: float = field(default_factory=time.monotonic)
    #: The tokens that were sent.
    tokens: int = 0
    #: `closed` is a stream whose client did not wait for its end.
    state: Literal["open", "complete", "refused", "closed"] = "open"


@dataclass(slots=True)
class Log:
    """All calls, and how many came since the script was set."""

    script: Script = field(default_factory=Script)
    calls: list[Call] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)

    def follow(self, script: Script) -> None:
        """Begins with another script."""
        self.script = script
        self._seen.clear()

    def add(self, call: Call) -> Trouble | None:
        """Notes a call, and says what goes wrong with it."""
        self.calls.append(call)
        self._seen.update({"": 1, call.kind: 1})
        met = (one for one in self.script.troubles if one.kind in (None, call.kind))
        return next((one for one in met if one.meets(self._seen[one.kind or ""])), None)
