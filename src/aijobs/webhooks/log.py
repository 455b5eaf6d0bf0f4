"""What became of a job's webhooks, and switching the app's own on again."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery

from aijobs.runtime import runtime_of
from aijobs.store.deliveries import Delivery


def deliveries(app: Celery, job_id: str) -> Sequence[Delivery]:
    """The newest attempts to tell of a job's events, oldest first.

    Raises:
        StoreUnavailable: the job store does not answer.
    """
    store = runtime_of(app).store
    return store.run(store.deliveries(job_id))


async def deliveries_async(app: Celery, job_id: str) -> Sequence[Delivery]:
    """The same for an event loop.

    Raises:
        StoreUnavailable: the job store does not answer in time.
    """
    store = runtime_of(app).store
    return await store.run_async(store.deliveries(job_id))


def enable(app: Celery, url: str) -> bool:
    """Switches the app's own webhook on again, after its receiver had answered 410 (Gone).

    Args:
        app: whose webhook it is.
        url: as `AIJOBS_WEBHOOK_URL` has it.

    Returns:
        Whether it was off.

    Raises:
        StoreUnavailable: the job store does not answer.
    """
    store = runtime_of(app).store
    return store.run(store.enable_webhook(url))


async def enable_async(app: Celery, url: str) -> bool:
    """The same for an event loop.

    Raises:
        StoreUnavailable: the job store does not answer in time.
    """
    store = runtime_of(app).store
    return await store.run_async(store.enable_webhook(url))
