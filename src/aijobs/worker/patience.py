"""What must not be lost is tried again while store or broker are away, within bounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from aijobs._waiting import pause as rest
from aijobs.errors import StoreUnavailable
from aijobs.store.base import JobStore, Operation

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: How long the end of an attempt is tried to be written, seconds.
PATIENCE_SECONDS = 120.0
#: The same for what the main process of a worker writes, which must go on with its other jobs.
SHORT_PATIENCE_SECONDS = 10.0
#: Pauses double up to this, seconds.
LONGEST_PAUSE_SECONDS = 2.0


def run_patiently(store: JobStore, operation: Operation[T], patience: float = PATIENCE_SECONDS) -> T:
    """Executes an operation, again and again while the store does not answer.

    Args:
        store: to execute it.
        operation: one that may be executed twice.
        patience: for how long, seconds.

    Raises:
        StoreUnavailable: the store stayed away for longer.
    """
    return call_patiently(lambda: store.run(operation), (StoreUnavailable,), patience)


def call_patiently(call: Callable[[], T], away: tuple[type[Exception], ...], patience: float = PATIENCE_SECONDS) -> T:
    """Makes a call, again and again while it raises one of some errors.

    Args:
        call: one that may be made twice.
        away: the errors that say so.
        patience: for how long, seconds.
    """
    deadline = time.monotonic() + patience
    pause = 0.1
    while True:
        try:
            return call()
        except away as error:
            if time.monotonic() + pause > deadline:
                raise
            logger.warning("%s; trying again in %.1f seconds", error, pause)
            rest(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
