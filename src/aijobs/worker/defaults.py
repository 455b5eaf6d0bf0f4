"""The Celery options that aijobs sets where an app is silent, and what an app's own choice costs."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from aijobs.runtime import runtime_of
from aijobs.worker.claims import is_job

_REDIS_SCHEMES = ("redis://", "rediss://")

#: The name that kombu knows `aijobs.worker.transport` by, and shows in a worker's log.
TRANSPORT_ALIAS = "aijobs-redis"

#: What an option must be for the promise behind it, and what is lost otherwise.
_PROMISES: tuple[tuple[str, Any, str], ...] = (
    ("task_acks_late", True, "a job is lost when its worker dies"),
    ("task_track_started", True, "Celery's own AsyncResult does not show STARTED (the job record still does)"),
    ("worker_prefetch_multiplier", 1, "a worker hoards jobs behind a long one"),
    ("task_serializer", "json", "arguments cannot be kept in the record, so a job cannot be retried from it"),
)


#: The priority of messages that nobody gave one. In Redis none means 0, the highest of 0, 3, 6 and 9, so that nothing
#: could ever go before them.
DEFAULT_PRIORITY = 3


def default_priority(app: Celery) -> int | None:
    """What a message without a priority gets; None leaves it without."""
    return DEFAULT_PRIORITY if app.conf.broker_transport == TRANSPORT_ALIAS else None


def add_defaults(app: Celery) -> None:
    """Sets, once the app's configuration is read, what the app left open."""
    TRANSPORT_ALIASES[TRANSPORT_ALIAS] = "aijobs.worker.transport:Transport"
    app.add_defaults(lambda: _silent(app, _defaults(app)))


def weakened_promises(app: Celery) -> list[str]:
    """A line for each option the app chose that weakens what aijobs promises."""
    told = [
        f"{option} is {app.conf[option]!r}: {cost}." for option, wanted, cost in _PROMISES if app.conf[option] != wanted
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
    if str(app.conf.broker_read_url or "").startswith(_REDIS_SCHEMES):
        defaults |= {
            "broker_transport": TRANSPORT_ALIAS,
            "broker_transport_options": {"socket_timeout": 5.0, "socket_connect_timeout": 2.0},
        }
    return defaults


def _silent(app: Celery, defaults: dict[str, Any]) -> dict[str, Any]:
    settings: Any = app.conf
    # The last layer holds Celery's defaults; whatever stands in one above it, the app has set.
    layers = settings.maps[:-1]
    return {
        option: value
        for option, value in defaults.items()
        if not any(name in layer for layer in layers for name in settings._to_keys(option))
    }
