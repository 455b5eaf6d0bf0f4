"""What a task message says of its job, and what the record kept of it: the message made again, what follows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from kombu.utils.json import dumps, loads

from aijobs.job import Job
from aijobs.runtime import runtime_of
from aijobs.store.values import NewJob
from aijobs.worker.claims import max_attempts

#: Message headers and the arguments of Celery's `as_task_v2` that make them.
_HEADERS = {
    "group": "group_id",
    "group_index": "group_index",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "shadow": "shadow",
    "expires": "expires",
    "retries": "retries",
    "ignore_result": "ignore_result",
    "replaced_task_nesting": "replaced_task_nesting",
    "stamped_headers": "stamped_headers",
}
#: Publishing options that are worth keeping; the queue is part of the record.
_SENDING = ("exchange", "routing_key", "priority", "headers", "compression")
#: What belongs to one run of a job, not to the job.
_OF_A_RUN = ("retries", "expires")


def head_of(message: Any) -> Mapping[str, Any]:
    """Where a message says what it is: in its headers, or in its body when it speaks Celery's task protocol 1."""
    head: Mapping[str, Any] = message.headers if "id" in message.headers else message.body
    return head


def new_job(app: Celery, name: str, message: Any, options: Mapping[str, Any]) -> NewJob:
    """What a task message says of its job.

    Args:
        app: that sends it.
        name: of the task.
        message: as Celery's `amqp` makes it, before it is serialized.
        options: for publishing it.
    """
    head = head_of(message)
    # Protocol 1 has a mapping as its body, protocol 2 a sequence.
    args, kwargs, embed = (head["args"], head["kwargs"], {}) if head is message.body else message.body
    kept = _rest(head, embed, options)
    arguments, rest = _encode(runtime_of(app).settings.arguments_bytes, [args, kwargs], kept)
    return NewJob(
        id=head["id"],
        task=name,
        queue=queue_name(app, options),
        max_attempts=max_attempts(app, name),
        scheduled_at=_read_time(head.get("eta")),
        arguments_json=arguments,
        options_json=rest,
        parent_id=head.get("parent_id"),
        group_id=head.get("group"),
    )


def encode_arguments(limit: int, arguments: Any, rest: str) -> tuple[str | None, str | None]:
    """Arguments as JSON text, and the rest of the message, which is; neither when they are too large together.

    Half a message could not be sent again.

    Raises:
        TypeError: the arguments are not JSON; a ValueError or a LookupError says the same.
    """
    text = str(dumps(arguments))
    return (text, rest or None) if len(text) + len(rest) <= limit else (None, None)


def queue_name(app: Celery, options: Mapping[str, Any]) -> str:
    """The queue that a message goes to, as far as its options tell."""
    queue = options.get("queue") or options.get("routing_key") or app.conf.task_default_queue
    return str(getattr(queue, "name", queue))


def rebuild(app: Celery, job: Job, *, anew: bool) -> tuple[Any, dict[str, Any]]:
    """A job's message made again, and the options to publish it with.

    Args:
        app: that sends it.
        job: whose `arguments_json` is there.
        anew: whether a new run begins, with all its retries and without the expiry of the one before.
    """
    args, kwargs = loads(job.arguments_json or "[[], {}]")
    options = _kept(job)
    sending, stamps = options.pop("sending", {}), options.pop("stamps", {})
    if anew:
        options = {name: value for name, value in options.items() if name not in _OF_A_RUN}
    else:
        # Attempts that were not lost, and did not end the job, asked for a retry.
        options["retries"] = max(options.get("retries", 0), job.attempt - job.lost_deliveries)
        options["eta"] = job.scheduled_at
    message = app.amqp.as_task_v2(job.id, job.task, args, kwargs, **options, **stamps)
    if "exchange" not in sending:
        sending["queue"] = job.queue
    return message, sending


def is_routed(job: Job) -> bool:
    """Whether an exchange decides which queue gets a job's message, so that it cannot be looked up."""
    return bool(_kept(job).get("sending", {}).get("exchange"))


def later_steps(job: Job) -> Iterator[str]:
    """Ids of what follows a job in its chain."""
    for step in _kept(job).get("chain") or ():
        if job_id := step.get("options", {}).get("task_id"):
            yield job_id


def _kept(job: Job) -> dict[str, Any]:
    """What `_rest` made of a job's message."""
    kept: dict[str, Any] = loads(job.options_json or "{}")
    return kept


def _rest(head: Mapping[str, Any], embed: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {argument: head.get(header) for header, argument in _HEADERS.items()}
    kept["time_limit"], kept["soft_time_limit"] = head.get("timelimit") or (None, None)
    kept |= embed
    if head.get("stamped_headers"):
        kept["stamps"] = head["stamps"]
    if kept["root_id"] == head["id"]:
        del kept["root_id"]
    kept["sending"] = _given({name: options.get(name) for name in _SENDING})
    return _given(kept)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, {}, [], 0, False, "")}


def _encode(limit: int, arguments: Any, rest: Any) -> tuple[str | None, str | None]:
    try:
        return encode_arguments(limit, arguments, str(dumps(rest)) if rest else "")
    except (TypeError, ValueError, LookupError):
        return None, None


def _read_time(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
