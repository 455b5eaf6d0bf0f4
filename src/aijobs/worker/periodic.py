"""What a worker does again and again beside its jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from aijobs.errors import AijobsError

logger = logging.getLogger(__name__)


class Periodic:
    """A thread that calls something at intervals; what goes wrong is logged, and tried again the next time.

    Args:
        name: of the thread.
        interval: between two calls, and before the first one, seconds.
        act: what is called; after True it is called again at once, since there is more to do.
        complaint: a line for the log, such as "Lost jobs are looked for later".
    """

    def __init__(self, name: str, interval: float, act: Callable[[], object], complaint: str) -> None:
        self._interval = interval
        self._act = act
        self._complaint = complaint
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begins to wait for the first call."""
        self._thread.start()

    def stop(self) -> None:
        """Calls no more."""
        self._stopped.set()

    def _run(self) -> None:
        more = False
        while not self._stopped.wait(0 if more else self._interval):
            more = False
            try:
                more = self._act() is True
            except (AijobsError, RedisError, OSError) as error:
                logger.warning("%s: %s", self._complaint, error)
            except Exception:
                logger.exception("%s", self._complaint)
