"""The whole story: start everything, let trouble come, wait until it is quiet, look at what is left."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.chaos.clients import Callers
from tests.chaos.inspection import inspect, left_on_server
from tests.chaos.ledger import Ledger
from tests.chaos.plan import Scale, make_orders, make_troubles
from tests.chaos.report import plan_lines, report_lines
from tests.chaos.troubles import Disorder
from tests.chaos.world import LEASE_SECONDS, Crew, Server, environment

Say = Callable[[str], None]

_TICK_SECONDS = 0.05
_PROGRESS_SECONDS = 5.0
_START_SECONDS = 60.0
#: How long it may be until the next job ends; the server may be away for a minute, and leases pass after that.
QUIET_SECONDS = 150.0
#: How long the processes of a worker may stay after its main process has ended gracefully.
_LEAVE_SECONDS = 10.0


def run(scale: Scale, seed: int, folder: Path, say: Say) -> Sequence[str]:
    """Carries out one round.

    Args:
        scale: how much happens.
        seed: from which all of it follows, but for the timing of the machine.
        folder: for data, logs and evidence; empty.
        say: takes the lines that people read.

    Returns:
        What was violated, each a line; nothing is how it should be.
    """
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("messages", "records")[: 1 + scale.split]:
            servers.append(Server.begin(folder / name))
            stack.callback(servers[-1].stop)
        os.environ.update(environment(folder, servers))
        crew = Crew(folder, environment(folder, servers), scale.workers)
        stack.callback(crew.kill)
        return _Round(scale, seed, folder, say, servers, crew).run()


@dataclass(frozen=True, slots=True)
class _Round:
    scale: Scale
    seed: int
    folder: Path
    say: Say
    servers: Sequence[Server]
    crew: Crew

    def run(self) -> Sequence[str]:
        # Each has a generator of its own, so that the troubles stay the same when the number of jobs does not.
        random = Random(f"{self.seed} troubles")
        orders = make_orders(Random(f"{self.seed} jobs"), self.scale)
        troubles = make_troubles(random, self.scale, LEASE_SECONDS)
        for line in plan_lines(self.scale, self.seed, orders, troubles):
            self.say(line)
        module = importlib.import_module("tests.chaos.app")
        self._wait(self._is_ready, _START_SECONDS, lambda: "workers start")
        if failed := [worker for worker in self.crew.workers if not worker.is_ready]:
            return [f"worker {worker.name} did not start (see {worker.log})" for worker in failed]
        began = time.monotonic()
        ledger = Ledger()
        callers = Callers(module, ledger, self.servers[-1].url, began)
        disorder = Disorder(self.servers, self.crew, troubles, began, random)
        callers.start(orders)
        try:
            self._live(callers, disorder, ledger)
        finally:
            callers.stop()
            disorder.end()
        self.crew.stop()
        return self._judge(ledger, disorder)

    def _is_ready(self) -> bool:
        """Whether all workers are ready, or one never will be."""
        workers = self.crew.workers
        return all(worker.is_ready for worker in workers) or any(worker.ended for worker in workers)

    def _live(self, callers: Callers, disorder: Disorder, ledger: Ledger) -> None:
        """Until all orders are submitted, all troubles over and all jobs ended."""

        def state() -> str:
            open_jobs = len(_unfinished(ledger))
            return f"{len(ledger.ends):,} jobs ended, {open_jobs:,} open, {len(disorder.incidents)} troubles over"

        def tick() -> bool:
            disorder.tick()
            return disorder.is_over and not callers.are_busy

        def is_quiet() -> bool:
            self.crew.replace_ended()
            return not callers.are_busy and not _unfinished(ledger)

        self._wait(tick, QUIET_SECONDS, state)
        self.say("no more trouble")
        self._wait(is_quiet, QUIET_SECONDS, state)

    def _wait(self, condition: Callable[[], bool], seconds: float, state: Callable[[], str]) -> None:
        """Waits until the state has not changed for so long, and says it now and then.

        What is missing then, the invariants tell.
        """
        began = told = changed = time.monotonic()
        seen = state()
        while not condition() and time.monotonic() - changed < seconds:
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                if (now := state()) != seen:
                    seen, changed = now, told
                self.say(f"{told - began:6.0f} s  {seen}")
            time.sleep(_TICK_SECONDS)

    def _judge(self, ledger: Ledger, disorder: Disorder) -> Sequence[str]:
        findings = inspect(self.servers[-1].url, self.folder, ledger, disorder.incidents)
        self.say("")
        for line in report_lines(ledger, findings.dossiers, disorder.incidents):
            self.say(line)
        left = [line for server in self.servers for line in left_on_server(server.url)]
        return [*ledger.faults, *self.crew.faults, *findings.violations, *left, *self._left_processes()]

    def _left_processes(self) -> Iterator[str]:
        """Processes of workers that ended gracefully; those of killed workers are counted only."""
        self._wait(lambda: not self._have_stayed(), _LEAVE_SECONDS, lambda: "worker processes leave")
        for worker in self.crew.past:
            names = [" ".join(process.cmdline()) for process in worker.left_behind()]
            if worker.killed is None:
                yield f"worker {worker.name} ended, but left {len(names)} processes behind: {', '.join(names)}"
            else:
                self.say(f"{len(names):7,}  processes left behind by worker {worker.name}, which was killed")

    def _have_stayed(self) -> bool:
        self.crew.forget_gone()
        return bool(self.crew.past)


def _unfinished(ledger: Ledger) -> Sequence[str]:
    """The jobs that must exist and of which no end was seen."""
    return [entry.job_id for entry in ledger.open_entries() if ledger.must_exist(entry)]
