"""What runs inside Celery: in workers, and wherever tasks are sent from."""

import sys

from celery.concurrency import ALIASES

#: What the pool of this package is called on command lines, and in the setting `worker_pool`.
ASYNCIO_POOL = "asyncio"


def _offer_pool() -> None:
    """Makes the asyncio pool one that Celery knows."""
    ALIASES[ASYNCIO_POOL] = f"{__name__}.pool:TaskPool"
    # The command line that imports an app has read the names of the pools before.
    command = sys.modules.get("celery.bin.worker")
    if command is not None and ASYNCIO_POOL not in command.WORKERS_POOL.choices:
        command.WORKERS_POOL.choices = (*command.WORKERS_POOL.choices, ASYNCIO_POOL)


_offer_pool()
