"""What `aijobs dead` can do with dead letters: replay and purge them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from aijobs.cli._app import open_app
from aijobs.cli._filters import chosen, has_filters
from aijobs.cli._text import counted, printable
from aijobs.errors import ConfigurationError, JobNotFound, NotReplayable

if TYPE_CHECKING:
    from celery import Celery

    from aijobs.dead import DeadLetterFilter

#: Exit status when something of what was asked for was refused.
REFUSED = 1
#: What is said when there is nothing to do.
NO_MATCH = "No dead letter matches."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the jobs that were meant."""

    done: int
    #: Why the others were refused.
    refused: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """Something that is done with dead letters."""

    verb: str
    done: str
    help: str
    #: Does it to one job, or only looks whether it can: app, id, only look. Says why it was refused.
    one: Callable[[Celery, str, bool], str | None]
    #: Does it to all that match, or only counts: app, filter, limit, only count.
    many: Callable[[Celery, DeadLetterFilter, int | None, bool], Outcome]

    def run(self, arguments: argparse.Namespace) -> int:
        """Does what was asked for, and says what was done.

        Raises:
            ConfigurationError: it does not say which dead letters are meant, or nobody confirms it.
        """
        filtered = arguments.all or has_filters(arguments)
        if arguments.ids and (filtered or arguments.limit):
            raise ConfigurationError(f"aijobs dead {self.verb} takes ids or filters, not both.")
        if not arguments.ids and not filtered:
            raise ConfigurationError(f"aijobs dead {self.verb} needs ids, filters such as --since 2h, or --all.")
        app = open_app(arguments.app).app
        outcome = self._named(app, arguments) if arguments.ids else self._matching(app, arguments)
        return REFUSED if outcome is None else self._tell(outcome, dry_run=arguments.dry_run)

    def _named(self, app: Celery, arguments: argparse.Namespace) -> Outcome | None:
        ids = list(dict.fromkeys(arguments.ids))
        if not self._may(len(ids), arguments):
            return None
        refused = [why for job_id in ids if (why := self.one(app, job_id, arguments.dry_run))]
        return Outcome(len(ids) - len(refused), refused)

    def _matching(self, app: Celery, arguments: argparse.Namespace) -> Outcome | None:
        count, where = _count(app, chosen(arguments), arguments.limit)
        if not count:
            return Outcome(0)
        return self.many(app, where, arguments.limit, arguments.dry_run) if self._may(count, arguments) else None

    def _may(self, count: int, arguments: argparse.Namespace) -> bool:
        """Whether so many may be taken; a person is asked."""
        if count < 2 or arguments.yes or arguments.dry_run:
            return True
        print(f"{self.verb.capitalize()} {_letters(count)}? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            print(file=sys.stderr)
            raise ConfigurationError("Nobody answers, so nothing was done: --yes goes on without asking.")
        agreed = answer.strip().lower() in ("y", "yes")
        if not agreed:
            print("Nothing was done.")
        return agreed

    def _tell(self, outcome: Outcome, *, dry_run: bool) -> int:
        for why in outcome.refused:
            print(printable(why), file=sys.stderr)
        if not outcome.done and not outcome.refused:
            print(NO_MATCH)
            return 0
        begin = f"Would {self.verb}" if dry_run else self.done
        end = f", {len(outcome.refused):,} refused" if outcome.refused else ""
        print(f"{begin} {_letters(outcome.done)}{end}.")
        return REFUSED if outcome.refused else 0


def _letters(count: int) -> str:
    return counted(count, "dead letter")


def _count(app: Celery, where: DeadLetterFilter, limit: int | None) -> tuple[int, DeadLetterFilter]:
    """How many match, and the filter that leaves out those that fail from now on."""
    from aijobs.dead import dead_letters

    count, newest = 0, None
    for job in dead_letters(app, where, limit):
        ended = job.completed_at or job.created_at
        count, newest = count + 1, max(ended, newest or ended)
    # The newest tells the time by the store's clock, which this machine's may not agree with.
    return count, where if newest is None else replace(where, failed_before=newest + timedelta(microseconds=1))


def _replay_one(app: Celery, job_id: str, dry_run: bool) -> str | None:
    from aijobs.dead import replay

    try:
        replay(app, job_id, dry_run=dry_run)
    except (JobNotFound, NotReplayable) as error:
        return str(error)
    return None


def _replay_many(app: Celery, where: DeadLetterFilter, limit: int | None, dry_run: bool) -> Outcome:
    from aijobs.dead import replay_all

    report = replay_all(app, where, limit=limit, dry_run=dry_run)
    return Outcome(report.replayed, list(report.refused.values()))


def _purge_one(app: Celery, job_id: str, dry_run: bool) -> str | None:
    from aijobs.dead import DeadLetterFilter, purge

    purged = purge(app, DeadLetterFilter(ids=frozenset({job_id})), dry_run=dry_run)
    return None if purged else f"No dead letter has the id {job_id!r}."


def _purge_many(app: Celery, where: DeadLetterFilter, limit: int | None, dry_run: bool) -> Outcome:
    from aijobs.dead import purge

    return Outcome(purge(app, where, limit=limit, dry_run=dry_run))


#: The actions, in the order of the help.
ACTIONS = (
    Action("replay", "Replayed", "run failed or revoked jobs again, under their ids", _replay_one, _replay_many),
    Action("purge", "Purged", "remove dead letters for good", _purge_one, _purge_many),
)
