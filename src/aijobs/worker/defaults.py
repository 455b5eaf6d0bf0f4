"""The Celery options that aijobs sets where an app is silent, and what an app's own choice costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from celery import Celery
from click.core import ParameterSource
from kombu.transport import TRANSPORT_ALIASES

from aijobs.broker.connection import SENTINEL_ALIAS, TRANSPORT_ALIAS, JobConnection
from aijobs.runtime import runtime_of
from aijobs.worker.claims import is_job

#: The transport for each kind of broker address that leases are for.
_TRANSPORTS = {
    "redis": TRANSPORT_ALIAS,
    "rediss": TRANSPORT_ALIAS,
    "redis+socket": TRANSPORT_ALIAS,
    "sentinel": SENTINEL_ALIAS,
}

#: What keeps the promise behind an option, and what is lost otherwise.
_PROMISES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("task_acks_late", bool, "a job is lost when its worker dies"),
    ("task_reject_on_worker_lost", bool, "a job is failed when its process dies, not run again"),
    ("task_track_started", bool, "Celery's own AsyncResult does not show STARTED (the job record still does)"),
    ("worker_prefetch_multiplier", (1).__eq__, "a worker hoards jobs behind a long one"),
    ("task_serializer", "json".__eq__, "arguments cannot be kept in the record, so a job cannot be retried from it"),
    ("worker_soft_shutdown_timeout", bool, "a stop by SIGQUIT cuts off jobs that are about to end"),
)


#: The priority of messages that nobody gave one. In Redis none means 0, the highest of 0, 3, 6 and 9, so that nothing
#: could ever go before them.
DEFAULT_PRIORITY = 3


def default_priority(app: Celery) -> int | None:
    """What a message without a priority gets; None leaves it without."""
    return DEFAULT_PRIORITY if app.conf.broker_transport in _TRANSPORTS.values() else None


def add_defaults(app: Celery) -> None:
    """Sets, once the app's configuration is read, what the app left open."""
    TRANSPORT_ALIASES[TRANSPORT_ALIAS] = "aijobs.broker.transport:Transport"
    TRANSPORT_ALIASES[SENTINEL_ALIAS] = "aijobs.broker.transport:SentinelTransport"
    amqp: Any = app.amqp
    amqp.Connection = JobConnection
    app.add_defaults(lambda: _silent(app, _defaults(app)))


def keep_prefetch(worker: Any) -> None:
    """Gives a worker the prefetch of its app's configuration, unless its command line names another.

    `celery worker` reads its option's default before the tasks are bound, and `setup` is called when they are. So it
    would be Celery's 4, whatever the configuration says by now.

    Args:
        worker: one that is being made; it has no consumer yet.
    """
    # Celery's command line is made with click, so it is there wherever Celery is.
    context = click.get_current_context(silent=True)
    if context is not None and context.get_parameter_source("prefetch_multiplier") is ParameterSource.DEFAULT:
        worker.prefetch_multiplier = worker.app.conf.worker_prefetch_multiplier


def weakened_promises(app: Celery) -> list[str]:
    """A line for each option the app chose that weakens what aijobs promises."""
    told = [
        f"{option} is {app.conf[option]!r}: {cost}." for option, keeps, cost in _PROMISES if not keeps(app.conf[option])
    ]
    early = sorted(task.name for task in app.tasks.values() if is_job(task.name) and not task.acks_late)
    if early and app.conf.task_acks_late:
        told.append(
            f"{', '.join(early)}: acks_late is off, so a job is lost when its worker dies. If that is not meant: tasks "
            "take their options when they are declared, so call aijobs.setup(app) right after the app is made."
        )
    return told


def _defaults(app: Celery) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_soft_shutdown_timeout": 5.0,
        "task_track_started": True,
        "worker_prefetch_multiplier": 1,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "result_expires": int(runtime_of(app).settings.retention_seconds),
        "result_backend_thread_safe": True,
        "broker_connection_retry_on_startup": True,
        # The time-out must be longer than the wait of a blocking read, which is a second.
        "redis_socket_timeout": 5.0,
        "redis_socket_connect_timeout": 2.0,
    }
    transport = _TRANSPORTS.get(_broker_scheme(app))
    return defaults | {"broker_transport": transport} if transport else defaults


def _broker_scheme(app: Celery) -> str:
    urls: Any = app.conf.broker_read_url or ""
    first = urls if isinstance(urls, str) else urls[0]
    return str(first).partition("://")[0]


def _silent(app: Celery, defaults: dict[str, Any]) -> dict[str, Any]:
    settings: Any = app.conf
    # The last layer holds Celery's defaults; whatever stands in one above it, the app has set.
    layers = settings.maps[:-1]
    return {
        option: value
        for option, value in defaults.items()
        if not any(name in layer for layer in layers for name in settings._to_keys(option))
    }
