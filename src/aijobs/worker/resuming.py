"""What a job has done stays done, whatever happens to the process that did it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from aijobs.job import LogEntry
from aijobs.worker.attempt import Attempt, InAttempt
from aijobs.worker.checkpoints import keep_aside
from aijobs.worker.jsonform import Form, form_of, is_coroutine_function, kind_of, result_kind
from aijobs.worker.reporting import in_step
from aijobs.worker.scopes import key_of

T = TypeVar("T")
P = ParamSpec("P")

_CHECKPOINT = "checkpoint"


class Resuming(InAttempt):
    """The part of `ProgressTask` that keeps what the next attempt goes on with."""

    def checkpoint(self, value: Any) -> None:
        """Keeps a value for the attempts after this one; it is in the store when this returns.

        Args:
            value: what JSON can hold, a pydantic model or a dataclass; it takes the place of the one before.

        Raises:
            TypeError: JSON cannot hold it.
            ValueError: it is too large: see `AIJOBS_CHECKPOINT_BYTES`.
            StoreUnavailable: the store stayed away.
            JobCancelled: somebody asked for the job to be cancelled.
        """
        try:
            text = form_of().encode(value)
        except TypeError as error:
            raise TypeError(f"This checkpoint cannot be kept: {error}.") from error
        attempt = self._attempt()
        if attempt is not None:
            attempt.keep(_CHECKPOINT, text)

    @overload
    def resume(self) -> Any: ...

    @overload
    def resume(self, default: T) -> T: ...

    def resume(self, default: Any = None) -> Any:
        """Gives the value that `checkpoint` kept last, in this attempt or one before.

        Args:
            default: given when there is none. When it is a pydantic model or a dataclass, what was kept becomes one.

        Raises:
            StoreUnavailable: the store stayed away.
        """
        attempt = self._attempt()
        if attempt is None:
            return default
        known = _read(attempt, attempt.kept(), _CHECKPOINT, form_of(kind_of(default)))
        return default if known is None else known.value

    def run_step(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function, unless an attempt before has done so: then it gives what the function returned.

        The result is kept as JSON before this returns, and made anew of that each time, the first time as well: by the
        function's return annotation, where it has one. With a coroutine function this gives a coroutine.

        Args:
            name: of the step; another for each call of an attempt.
            function: what is to be done once.
            *args: for the function.
            **kwargs: for the function.

        Raises:
            ValueError: the name was used before in this attempt, or the result is too large.
            TypeError: JSON cannot hold the result.
            StoreUnavailable: the store stayed away.
            JobCancelled: somebody asked for the job to be cancelled.
        """
        step = _step(self._attempt(), name, function)

        def call() -> Any:
            return function(*args, **kwargs)

        carry_out: Callable[[Callable[[], Any]], Any] = step.run_async if is_coroutine_function(function) else step.run
        given: T = carry_out(call)
        return given


@dataclass(frozen=True, slots=True)
class _Known:
    """A value that was kept."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Step:
    """A call that is made once for a job."""

    attempt: Attempt | None
    name: str
    form: Form

    def run(self, call: Callable[[], Any]) -> Any:
        if self.attempt is None:
            return self._written(call())[1]
        with self._named(self.attempt):
            known = self._known(self.attempt, self.attempt.kept())
            if known is not None:
                return known.value
            with self._entered(self.attempt):
                text, value = self._written(call())
                self.attempt.keep(self._key, text)
            return value

    async def run_async(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self.attempt is None:
            return self._written(await call())[1]
        with self._named(self.attempt):
            known = self._known(self.attempt, await asyncio.to_thread(self.attempt.kept))
            if known is not None:
                return known.value
            with self._entered(self.attempt):
                text, value = self._written(await call())
                await keep_aside(self.attempt, self._key, text)
            return value

    @property
    def _key(self) -> str:
        return key_of("step", self.name)

    @contextlib.contextmanager
    def _named(self, attempt: Attempt) -> Iterator[None]:
        attempt.names.take(self.name)
        try:
            yield
        except BaseException:
            # The task may try it once more.
            attempt.names.give_back(self.name)
            raise

    def _entered(self, attempt: Attempt) -> AbstractContextManager[None]:
        """To be left after the result was kept: leaving it may say that the job was cancelled."""
        return in_step(attempt, self.name, attempt.names.scope.of_call(self.name))

    def _known(self, attempt: Attempt, kept: Mapping[str, str]) -> _Known | None:
        return _read(attempt, kept, self._key, self.form)

    def _written(self, result: Any) -> tuple[str, Any]:
        """A result as JSON text, and what that is read as."""
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"The function of step {self.name!r} gave a coroutine, but is not declared with `async def`: give "
                "run_step() a coroutine function, such as one that awaits it."
            )
        try:
            text = self.form.encode(result)
            return text, self.form.decode(text)
        except TypeError as error:
            raise TypeError(
                f"The result of step {self.name!r} cannot be kept: {error}. Return something that JSON can hold, and "
                "annotate the function with what it returns."
            ) from error


def _step(attempt: Attempt | None, name: str, function: Callable[..., Any]) -> _Step:
    if not callable(function):
        raise TypeError(
            f"Step {name!r} has nothing to call: {type(function).__name__} is no function. Give run_step() the "
            "function itself, and its arguments after it."
        )
    try:
        form = form_of(result_kind(function))
    except TypeError as error:
        raise TypeError(f"The result of step {name!r} could not be kept: {error}.") from error
    return _Step(attempt, name, form)


def _read(attempt: Attempt, kept: Mapping[str, str], name: str, form: Form) -> _Known | None:
    """What was kept by a name; what another version of the program kept, and this one cannot read, is not there."""
    text = kept.get(name)
    if text is None:
        return None
    try:
        return _Known(form.decode(text))
    except TypeError as error:
        attempt.log(LogEntry(f"What was kept as {name} cannot be read, and counts as not there: {error}", "warning"))
        return None
