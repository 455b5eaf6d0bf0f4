"""A task's message as Celery makes it, with room for the next job's id and arguments.

Celery takes a third of a millisecond for each message, and nearly all of that for what is the same each time: routes,
options, headers. A stencil is drawn from a message that Celery made, and used only where it gives that very message
again; whatever looks at each message, or makes it different from the one before, has Celery make all of them.
"""

from __future__ import annotations

import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery, Task, current_task, signals, uuid
from celery.app.amqp import AMQP
from celery.utils.saferepr import saferepr
from kombu.utils.json import dumps, loads

from aijobs.runtime import Runtime
from aijobs.store.values import Message, NewJob
from aijobs.worker.messages import encode_arguments
from aijobs.worker.task import ProgressTask

#: How Celery calls what JSON text of a message's body is.
_JSON = {"content-type": "application/json", "content-encoding": "utf-8"}


@dataclass(frozen=True, slots=True)
class Stencil:
    """A message without id and arguments, and the record that goes with it."""

    job: NewJob
    message: Message
    #: The message's text, read.
    envelope: Mapping[str, Any]
    #: What follows the arguments in the message's body.
    embed: Mapping[str, Any]
    #: As `Settings.arguments_bytes`.
    arguments_bytes: int
    #: How arguments are written for people, who see them in logs.
    args_repr: Callable[[Any], str]
    kwargs_repr: Callable[[Any], str]

    def fill(self, job_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[NewJob, Message]:
        """Record and message of a job.

        Args:
            job_id: of the job.
            args: positional arguments, JSON values.
            kwargs: keyword arguments, JSON values.
        """
        body = dumps([args, kwargs, self.embed])
        headers = {
            **self.envelope["headers"],
            "id": job_id,
            "root_id": job_id,
            "argsrepr": self.args_repr(tuple(args)),
            "kwargsrepr": self.kwargs_repr(dict(kwargs)),
        }
        properties = {**self.envelope["properties"], "correlation_id": job_id, "delivery_tag": uuid()}
        envelope = {**self.envelope, "headers": headers, "properties": properties}
        envelope["body"] = b64encode(body.encode()).decode()
        arguments, rest = encode_arguments(self.arguments_bytes, [args, kwargs], self.job.options_json or "")
        job = replace(self.job, id=job_id, arguments_json=arguments, options_json=rest)
        return job, replace(self.message, body=dumps(envelope).encode())


def stencil_of(runtime: Runtime, task: Task[Any, Any]) -> Stencil | None:
    """The stencil of a task's messages from this thread, when there is one and nobody looks at each message."""
    if _is_watched():
        return None
    return _drawn(runtime).get(str(task.name))


def draw(
    runtime: Runtime,
    task: Task[Any, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    drafted: tuple[NewJob, Message],
) -> None:
    """Keeps a stencil for a task, if it can have one.

    Args:
        runtime: of the app.
        task: that Celery made a message for, without any options but the id.
        args: of that message.
        kwargs: of that message.
        drafted: what Celery made, and the record without what only the caller knows.
    """
    drawn = _drawn(runtime)
    if str(task.name) in drawn or _is_watched():
        return
    drawn[str(task.name)] = _sound(runtime, args, kwargs, *drafted) if _is_plain(task) else None


def _is_watched() -> bool:
    """Whether somebody may want to see, or change, the very message; or it says which task sends it."""
    return bool(signals.before_task_publish.receivers or signals.after_task_publish.receivers or current_task)


def _is_plain(task: Task[Any, Any]) -> bool:
    """Whether nothing but Celery's and our own code makes the task's messages, by rules that do not change."""
    app = task.app
    return (
        type(task).apply_async in (Task.apply_async, ProgressTask.apply_async)
        and type(app).send_task is Celery.send_task
        and type(app.amqp) is AMQP
        and _goes_by_name(app.conf.task_routes)
        and not app.conf.task_send_sent_event
    )


def _goes_by_name(routes: Any) -> bool:
    """Whether Celery's `task_routes` say the same of each message of a task: a mapping does, a function may not."""
    return not routes or (
        isinstance(routes, Mapping) and all(isinstance(one, str | Mapping) for one in routes.values())
    )


def _sound(
    runtime: Runtime, args: Sequence[Any], kwargs: Mapping[str, Any], job: NewJob, message: Message
) -> Stencil | None:
    """The stencil of a message, if filling it with the same gives the same."""
    envelope = loads(message.body)
    headers = envelope["headers"]
    if job.arguments_json is None or not _JSON.items() <= envelope.items() or "id" not in headers:
        return None
    if any(headers.get(name) for name in ("compression", "eta", "expires", "stamped_headers")):
        return None
    *_, embed = loads(b64decode(envelope["body"]))
    sizes = runtime.app.amqp.argsrepr_maxsize, runtime.app.amqp.kwargsrepr_maxsize
    reprs = [partial(saferepr, maxlen=size, maxlevels=runtime.app.conf.task_repr_maxlevels) for size in sizes]
    stencil = Stencil(job, message, envelope, embed, runtime.settings.arguments_bytes, *reprs)
    same_job, same_message = stencil.fill(job.id, args, kwargs)
    is_sound = same_job == job and _comparable(same_message.body) == _comparable(message.body)
    return stencil if is_sound else None


def _comparable(text: bytes) -> Any:
    envelope = loads(text)
    del envelope["properties"]["delivery_tag"]
    return envelope


def _drawn(runtime: Runtime) -> dict[str, Stencil | None]:
    # A message says which thread of which process it is from.
    return _stencils.setdefault(runtime, {}).setdefault(threading.get_ident(), {})


_stencils: WeakKeyDictionary[Runtime, dict[int, dict[str, Stencil | None]]] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_stencils.clear)
