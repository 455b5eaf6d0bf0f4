"""Retry and time-limit presets for the kinds of work that AI backends do. Pure values, no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from aijobs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Preset:
    """How a kind of job is retried, limited, acknowledged and queued.

        @celery_app.task(base=ProgressTask, bind=True, **LLM_CALL.but(max_retries=2).options())
        def answer(self, question: str) -> str: ...

    Raises:
        ConfigurationError: a value is out of range or two contradict each other; the message names them.
    """

    #: Exceptions after which the task is retried by itself.
    retry_for: tuple[type[BaseException], ...] = ()
    #: Retries after the first attempt; None is without end.
    max_retries: int | None = 3
    #: Whole seconds before the first retry, doubled before each further one; 0 retries at once.
    backoff: int = 1
    #: The longest wait between two attempts, whole seconds.
    backoff_max: int = 600
    #: Whether waits are drawn at random up to their length, so that jobs that failed together do not return together.
    jitter: bool = True
    #: After so many seconds `SoftTimeLimitExceeded` is raised inside the task; None is never.
    soft_time_limit: float | None = None
    #: After so many seconds the task's process is killed; None is never.
    time_limit: float | None = None
    #: Acknowledge the message when the job has ended, not when it begins: a killed worker's job runs again.
    acks_late: bool = True
    #: Whether failures of networks and providers are retried beside what `retry_for` names (`ProgressTask` only).
    retry_transient: bool = False
    #: Whether what providers say is obeyed: rate limits are waited for as they ask, and take no attempt; what
    #: cannot end better is not retried (`ProgressTask` only).
    obey_providers: bool = True
    #: For how many seconds in all a job waits for providers that limit requests; 0 is not at all.
    patience: float = 3_600
    #: Route jobs to this queue; None leaves it to the app's routing.
    queue: str | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ConfigurationError(f"Preset: {problem}")

    def options(self) -> dict[str, Any]:
        """The preset as keyword arguments of `@celery_app.task(…)`."""
        options: dict[str, Any] = {
            "max_retries": self.max_retries,
            "acks_late": self.acks_late,
            "soft_time_limit": self.soft_time_limit,
            "time_limit": self.time_limit,
            # For `self.retry()`, and for automatic retries without a backoff.
            "default_retry_delay": self.backoff,
            "retry_transient": self.retry_transient,
            "obey_providers": self.obey_providers,
            "patience": self.patience,
        }
        if self.retry_for:
            options["autoretry_for"] = self.retry_for
        if (self.retry_for or self.retry_transient) and self.backoff:
            options |= {
                "retry_backoff": self.backoff,
                "retry_backoff_max": self.backoff_max,
                "retry_jitter": self.jitter,
            }
        if self.queue is not None:
            options["queue"] = self.queue
        return options

    def but(self, **changes: Any) -> Self:
        """The same preset with some values changed.

        Raises:
            ConfigurationError: a name is not one of the preset's values, or a value is wrong.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigurationError(f"Preset has no value named {name!r}; it has {', '.join(known)}.")
        return replace(self, **changes)

    def _problems(self) -> list[str]:
        limits = {"soft_time_limit": self.soft_time_limit, "time_limit": self.time_limit}
        counts = {"backoff": self.backoff, "backoff_max": self.backoff_max, "max_retries": self.max_retries}
        if not isinstance(self.retry_for, tuple):
            return [f"retry_for takes a tuple of exception classes, not {self.retry_for!r}."]
        found = [
            *(
                f"{name} must be a number of seconds above 0, or None, not {value!r}."
                for name, value in _bad_limits(limits)
            ),
            *(f"{name} must be a whole number from 0 up, not {value!r}." for name, value in _bad_counts(counts)),
            *(
                f"patience must be a number of seconds from 0 up, not {value!r}."
                for value in _bad_patience(self.patience)
            ),
            *(f"retry_for takes exception classes, not {one!r}." for one in self.retry_for if not _is_exception(one)),
        ]
        if not found and self.soft_time_limit and self.time_limit and self.soft_time_limit >= self.time_limit:
            found.append(
                f"soft_time_limit ({self.soft_time_limit} s) must be below time_limit ({self.time_limit} s), or the "
                "task is killed before it can clean up."
            )
        return found


def _bad_limits(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            yield name, value


def _bad_counts(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if not (isinstance(value, int) and value >= 0) and not (name == "max_retries" and value is None):
            yield name, value


def _bad_patience(value: Any) -> Iterator[Any]:
    if not (isinstance(value, int | float) and value >= 0):
        yield value


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


#: What goes wrong between two machines and may go right the next time. Where `retry_transient` is on, the errors of the
#: usual client libraries are known beside these; others can be named: `LLM_CALL.but(retry_for=(*TRANSIENT, NotReady))`.
TRANSIENT: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError)

#: What all kinds of AI work have in common.
_OVER_NETWORKS = Preset(retry_for=TRANSIENT, retry_transient=True)

#: One call of a language model. Providers close a request after ten minutes at the latest (the time-out that the OpenAI
#: and Anthropic clients set), a call that has not ended after two is stuck far more often than it is slow; five
#: retries with doubling waits (2, 4, 8, 16, 32 s, each drawn at random up to that) outlast a provider that restarts.
LLM_CALL = _OVER_NETWORKS.but(max_retries=5, backoff=2, backoff_max=60, soft_time_limit=120, time_limit=150)

#: One document: fetched, parsed, chunked. Parsers of hostile files hang rather than fail, hence a hard limit not far
#: above the soft one; a file that failed three times will fail again.
DOCUMENT = _OVER_NETWORKS.but(max_retries=2, backoff=5, backoff_max=60, soft_time_limit=300, time_limit=330)

#: A batch of embeddings: dozens of calls that each may fail. Retrying repeats paid work, so the waits are
#: long (10, 20, 40, 80 s) rather than many; half an hour is about 100,000 chunks at what providers allow.
EMBEDDING_BATCH = _OVER_NETWORKS.but(
    max_retries=4, backoff=10, backoff_max=300, soft_time_limit=1_800, time_limit=1_860
)

#: An agent that runs for minutes. It may have acted on the world, so one retry, and only after a network or a provider
#: failed; the minute between the limits lets it say where it stopped.
AGENT = _OVER_NETWORKS.but(max_retries=1, backoff=5, backoff_max=60, soft_time_limit=900, time_limit=960)

#: A report: queries and a document at the end. Nothing is lost by doing it over, and nobody waits for it by the second.
REPORT = _OVER_NETWORKS.but(max_retries=3, backoff=15, backoff_max=300, soft_time_limit=600, time_limit=660)
