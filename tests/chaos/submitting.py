"""From an order to jobs: what a submission sends, in each of the ways in which a team's code does it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from celery import chain, group

from aijobs import submit
from tests.chaos.ledger import Entry, Ledger
from tests.chaos.plan import Order, Way


def draft(order: Order) -> Sequence[Entry]:
    """The jobs that an order is to make, under ids of their own, so that they are known even if it is refused."""
    first = Entry(str(uuid.uuid4()), order, order.arguments, accepted=False)
    entries = [first]
    for place in range(1, first.kind.size):
        if order.kind == "chain":
            # Each link gives one more to the next.
            entries.append(Entry(str(uuid.uuid4()), order, (order.arguments[0] + place,), False, entries[-1].job_id))
        else:
            entries.append(replace(first, job_id=str(uuid.uuid4())))
    return entries


def send(module: ModuleType, ledger: Ledger, order: Order) -> Sequence[Entry]:
    """Submits an order and notes its jobs.

    Returns:
        The jobs that must exist from now on; none when the submission was refused, or nobody knows what became of it.
    """
    entries = draft(order)
    ledger.enter(*entries)
    try:
        first = _send(module, ledger, order, entries)
    except Exception as error:
        ledger.refuse(error)
        return []
    accepted = [replace(entry, accepted=True) for entry in entries]
    accepted[0] = replace(accepted[0], job_id=first)
    ledger.enter(*accepted)
    return accepted


def _send(module: ModuleType, ledger: Ledger, order: Order, entries: Sequence[Entry]) -> str:
    """Sends, and gives the id of the first job."""
    task = getattr(module, entries[0].kind.task)
    ids = [entry.job_id for entry in entries]
    options: dict[str, Any] = {} if order.countdown is None else {"countdown": order.countdown}
    if len(entries) > 1:
        _canvas(task, order, ids).apply_async()
    elif order.way is Way.DELAY:
        task.apply_async(order.arguments, task_id=ids[0], **options)
    else:
        key = f"order-{order.number}" if order.way is Way.KEYED else None
        if key is not None:
            ledger.keyed.setdefault(key, []).append(ids[0])
        return submit(task, order.arguments, idempotency_key=key, task_id=ids[0], **options).id
    return ids[0]


def _canvas(task: Any, order: Order, ids: Sequence[str]) -> Any:
    if order.kind == "group":
        return group(task.s(*order.arguments).set(task_id=job_id) for job_id in ids)
    first, *rest = ids
    return chain(task.s(*order.arguments).set(task_id=first), *(task.s().set(task_id=job_id) for job_id in rest))
