"""What the steps and loops of an attempt go by, so that the next attempt finds what each of them kept."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TypeAlias

#: The names of the steps, and the names and numbers of the loops, that something is in.
Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """A stretch of a task's code in which its loops are counted: all of it, a call, or what is done with one item."""

    names: Names
    #: What it is in.
    path: Path = ()
    #: For each of the loops that it is in, which item is being done.
    place: tuple[str, ...] = ()
    #: The step that the code has reported.
    step: str | None = None
    _counts: dict[str | None, Iterator[int]] = field(default_factory=dict)

    def next_loop(self) -> Path:
        """The path of the loop that begins now."""
        return (*self.path, self.step or "", next(self._counts.setdefault(self.step, itertools.count(1))))

    def in_step(self, name: str) -> Scope:
        """The same stretch, while it reports a step."""
        return replace(self, step=name)

    def of_call(self, name: str) -> Scope:
        """The stretch of a call, which the next attempt may not make."""
        return Scope(self.names, (*self.path, name), self.place, name)

    def of_item(self, loop: Path, item: str) -> Scope:
        """The stretch in which a loop does an item."""
        return Scope(self.names, loop, (*self.place, item), self.step)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Has the code inside the `with` block be in this scope."""
        outer = _current.get()
        _current.set(self)
        try:
            yield
        finally:
            # A loop that is left for good may be closed much later, when another job runs.
            if _current.get() is self:
                _current.set(outer)


class Names:
    """The names that one attempt has used."""

    def __init__(self) -> None:
        self._steps: dict[str, object] = {}
        self._whole = Scope(self)

    def take(self, name: str) -> None:
        """Takes the name of a step that is run now.

        Raises:
            ValueError: another step of this attempt has it.
        """
        mine = object()
        if self._steps.setdefault(name, mine) is not mine:
            raise ValueError(
                f"This attempt has run a step named {name!r} already, and the next attempt could not tell which is "
                f'which. Number them: run_step(f"{name} {{number}}", …).'
            )

    def give_back(self, name: str) -> None:
        """Says that a step failed, and may be run once more."""
        self._steps.pop(name, None)

    @property
    def scope(self) -> Scope:
        """The scope of the running code."""
        current = _current.get()
        return current if current is not None and current.names is self else self._whole


def key_of(kind: str, path: str | Path) -> str:
    """The name in the store of what a step or loop keeps; plain ASCII, whatever it is called."""
    return f"{kind}:{json.dumps(path)}"


_current: ContextVar[Scope | None] = ContextVar("aijobs_scope", default=None)
