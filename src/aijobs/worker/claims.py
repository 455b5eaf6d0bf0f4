"""Who executes a job: the claim that a request carries from the worker's main process into the pool."""

from __future__ import annotations

import itertools
from typing import Any

from celery import Celery

from aijobs.broker.held import session_id
from aijobs.store.values import Claim

#: The request's attribute that holds the token.
TOKEN = "aijobs_claim"  # noqa: S105
#: The request's attribute that holds the attempt, for the task's own code.
ATTEMPT = "aijobs_attempt"
#: The request's attribute that says that who executes the task in place takes what it sends in its own stead.
TAKES_MESSAGES = "aijobs_takes_messages"
#: The request's attribute that says the store refused the start, so that the task must not run.
REFUSED = "aijobs_refused"
#: The request's attribute that holds when a retry is due, as ISO 8601 text.
DUE = "aijobs_due"
#: Headers of a message: how often it was sent again to wait until a provider takes requests, and for how many seconds
#: in all.
WAITS = "aijobs_waits"
WAITED = "aijobs_waited"
#: The request's attribute that holds what was decided on the exception that left the task.
VERDICT = "aijobs_verdict"
#: The request's attribute that holds the exception for which no retry is left.
GIVEN_UP = "aijobs_given_up"

_BUILT_IN = ("celery.", "aijobs.")

_counter = itertools.count(1)


def new_token() -> str:
    """A token for one delivery of a message: the id of this process's session, a dot, and a number."""
    return f"{session_id()}.{next(_counter):x}"


def is_job(task_name: str | None) -> bool:
    """Whether a task's executions are jobs; Celery's built-in tasks, and our own, are machinery."""
    return not (task_name or "").startswith(_BUILT_IN)


def claim_of(app: Celery, job_id: str, request: Any) -> Claim:
    """The claim under which a request's states are reported; without a request, that of a bystander."""
    if request is None:
        return Claim(job_id)
    task = getattr(request, "task", None)
    name = task if isinstance(task, str) else ""
    delivery = getattr(request, "delivery_info", None) or {}
    return Claim(
        job_id,
        token=getattr(request, TOKEN, "") or "",
        task=name,
        queue=delivery.get("routing_key") or "",
        worker=getattr(request, "hostname", None) or "",
        max_attempts=max_attempts(app, name),
        retries=getattr(request, "retries", None) or 0,
        replacements=getattr(request, "replaced_task_nesting", None) or 0,
        waits=waits_of(request),
    )


def waits_of(request: Any) -> int:
    """How often the job's message was sent again to wait until a provider takes requests."""
    return int(_header(request, WAITS))


def waited_of(request: Any) -> float:
    """How many seconds the job was made to wait for that, in all."""
    return float(_header(request, WAITED))


def _header(request: Any, name: str) -> Any:
    # Where a message speaks Celery's protocol 1, its headers are no attributes of its request.
    return (getattr(request, "headers", None) or {}).get(name) or 0


def max_attempts(app: Celery, task_name: str) -> int | None:
    """How often a task may start, by its `max_retries`; None when unlimited or unknown."""
    task = app.tasks.get(task_name) if task_name else None
    retries = getattr(task, "max_retries", None)
    return None if retries is None else retries + 1
