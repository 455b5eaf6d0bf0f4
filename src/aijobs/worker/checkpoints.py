"""What the attempts of a job keep for those after them, as one of them sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from aijobs.store.base import JobStore
from aijobs.store.values import Claim
from aijobs.worker.attempt import Attempt
from aijobs.worker.exceptions import JobCancelled, LeaseLost
from aijobs.worker.interrupt import interruption_for, interruption_underway
from aijobs.worker.patience import PATIENCE_SECONDS, run_patiently


class Checkpoints:
    """What a job keeps, for the code of one of its attempts.

    It is read when it is first asked for. Each value is in the store when `keep` returns; while the store is away, that
    waits, except on an event loop, which must not stand still.

    Args:
        store: that keeps it.
        claim: of the attempt.
        most_bytes: how much all of it may be.
    """

    def __init__(self, store: JobStore, claim: Claim, most_bytes: int) -> None:
        self._store = store
        self._claim = claim
        self._most_bytes = most_bytes
        self._known: dict[str, str] = {}
        self._is_read = False
        # Never held while the store is asked: an event loop must not stand still for a thread that waits.
        self._lock = threading.Lock()

    def kept(self) -> Mapping[str, str]:
        """JSON text by name.

        Raises:
            StoreUnavailable: the store stayed away.
        """
        if not self._is_read:
            found = run_patiently(self._store, self._store.kept(self._claim.job_id), _patience())
            with self._lock:
                # What this attempt has kept is newer.
                self._known = {**found, **self._known}
                self._is_read = True
        return self._known

    def keep(self, name: str, value_json: str) -> None:
        """Keeps a value.

        Raises:
            ValueError: all of it would be too large.
            JobCancelled: somebody asked for the job to be cancelled; the value is kept all the same.
            LeaseLost: the job was given to another attempt, or ended.
            StoreUnavailable: the store stayed away.
        """
        # What can never fit need not travel.
        check_size(len(value_json), self._most_bytes)
        answer = run_patiently(
            self._store, self._store.keep(self._claim, name, value_json, self._most_bytes), _patience()
        )
        check_size(answer.size, self._most_bytes)
        with self._lock:
            self._known[name] = value_json
        interruption = interruption_for(answer.change)
        # What cleans up after the first one may keep something as well.
        if interruption is not None and interruption_underway() is None:
            raise interruption


async def keep_aside(attempt: Attempt, name: str, value_json: str) -> None:
    """Has an attempt keep a value, without holding up the event loop; raises what that raises."""
    underway = interruption_underway()
    try:
        await asyncio.to_thread(attempt.keep, name, value_json)
    except (JobCancelled, LeaseLost):
        # The thread does not see what is handled here.
        if underway is None:
            raise


def check_size(size: int, most_bytes: int) -> None:
    """Checks how much a job keeps.

    Raises:
        ValueError: it is too much.
    """
    if size > most_bytes:
        raise ValueError(
            f"All that this job keeps would be {size:,} bytes, and AIJOBS_CHECKPOINT_BYTES allows {most_bytes:,}: keep "
            "large data in files or a database of your own, and here where it is; or raise the setting for the workers."
        )


def _patience() -> float:
    # Nothing else of an event loop would run meanwhile.
    return PATIENCE_SECONDS if asyncio._get_running_loop() is None else 0
