"""Carries out the plan of troubles, one tick after the other, and notes what was done when."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import psutil

from tests.chaos.plan import Trouble, TroubleKind
from tests.chaos.world import Crew, Server, Worker


@dataclass(frozen=True, slots=True)
class Incident:
    """A trouble that came; times are of the monotonic clock."""

    kind: TroubleKind
    began: float
    ended: float
    #: The worker that was hit; empty when it was the server.
    worker: str = ""


class Disorder:
    """Brings the planned troubles over servers and workers.

    Args:
        servers: to strike.
        crew: the workers to strike.
        troubles: what to do when, by time.
        began: when it all began, on the monotonic clock.
        random: chooses among what is there only at the time, such as the processes of a pool.
    """

    def __init__(
        self, servers: Sequence[Server], crew: Crew, troubles: Sequence[Trouble], began: float, random: Random
    ) -> None:
        self._servers = servers
        self._crew = crew
        self._waiting = list(troubles)
        self._lasting: list[tuple[Trouble, float, Worker | None]] = []
        self._began = began
        self._random = random
        self.incidents: list[Incident] = []

    @property
    def is_over(self) -> bool:
        """Whether all troubles have come and gone."""
        return not self._waiting and not self._lasting

    def tick(self) -> None:
        """Ends and begins what is due, and has ended workers replaced."""
        for lasting in list(self._lasting):
            if self._is_due(lasting[0].until):
                self._end(*lasting)
                self._lasting.remove(lasting)
        while self._waiting and self._is_due(self._waiting[0].at):
            self._begin(self._waiting.pop(0))
        self._crew.replace_ended()

    def end(self) -> None:
        """Ends what lasts."""
        while self._lasting:
            self._end(*self._lasting.pop())

    def _is_due(self, seconds: float) -> bool:
        return time.monotonic() >= self._began + seconds

    def _begin(self, trouble: Trouble) -> None:
        began = time.monotonic()
        worker = None if trouble.kind.hits_server else self._crew.workers[trouble.slot]
        if worker is None:
            self._servers[trouble.slot].strike(trouble.kind)
        else:
            self._strike(worker, trouble.kind)
        if trouble.seconds:
            self._lasting.append((trouble, began, worker))
        else:
            self._note(trouble, began, worker)

    def _strike(self, worker: Worker, kind: TroubleKind) -> None:
        match kind:
            case TroubleKind.KILL_WORKER | TroubleKind.KILL_GROUP:
                worker.kill(whole_group=kind is TroubleKind.KILL_GROUP)
            case TroubleKind.FREEZE_WORKER | TroubleKind.FREEZE_GROUP:
                worker.signal(signal.SIGSTOP, whole_group=kind is TroubleKind.FREEZE_GROUP)
            case TroubleKind.END_WORKER:
                worker.ask()
            case _:
                self._kill_child(worker)

    def _kill_child(self, worker: Worker) -> None:
        # Celery gives up a worker whose processes die before it is ready.
        if (children := worker.children()) and worker.is_ready:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._random.choice(children).kill()

    def _end(self, trouble: Trouble, began: float, worker: Worker | None) -> None:
        if worker is None:
            self._servers[trouble.slot].recover(trouble.kind)
        else:
            worker.signal(signal.SIGCONT, whole_group=True)
        self._note(trouble, began, worker)

    def _note(self, trouble: Trouble, began: float, worker: Worker | None) -> None:
        name = "" if worker is None else worker.name
        self.incidents.append(Incident(trouble.kind, began, time.monotonic(), name))
