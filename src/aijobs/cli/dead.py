"""`aijobs dead`: reads dead letters, runs them again, throws them away."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from typing import TYPE_CHECKING

from aijobs.cli._app import app_option, open_app
from aijobs.cli._filters import chosen, filter_options
from aijobs.cli._letter import HEAD, columns, letter_json, letter_lines
from aijobs.cli._replay import ACTIONS, NO_MATCH
from aijobs.cli._text import json_line, table
from aijobs.errors import JobNotFound

if TYPE_CHECKING:
    from aijobs.cli import Subparsers

_DESCRIPTION = """
A dead letter is the record of a failed job: it is kept for AIJOBS_FAILED_RETENTION_SECONDS, with its reason and its
arguments. All times are UTC. Exit status: 0 done, 1 something was refused, 2 a mistake in what was asked for.
"""


def register(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("dead", help="read, replay and purge failed jobs", description=_DESCRIPTION)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser(
        "list", help="list dead letters, those submitted last first", parents=[app_option(), filter_options(limit=100)]
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=_list)
    showing = commands.add_parser("show", help="show a job, with arguments and traceback", parents=[app_option()])
    showing.add_argument("id", metavar="ID", help="of the job")
    showing.add_argument("--json", action="store_true", help="as one JSON object")
    showing.set_defaults(run=_show)
    for action in ACTIONS:
        acting = commands.add_parser(action.verb, help=action.help, parents=[app_option(), filter_options()])
        acting.add_argument("ids", metavar="ID", nargs="*", help="of a job; without ids, all that the filters leave")
        acting.add_argument("--all", action="store_true", help="needed where neither ids nor filters are given")
        acting.add_argument("--dry-run", action="store_true", help="only say what would be done")
        acting.add_argument("--yes", action="store_true", help="do not ask before more than one is taken")
        acting.set_defaults(run=action.run)


def _list(arguments: argparse.Namespace) -> int:
    from aijobs.dead import dead_letters

    found = dead_letters(open_app(arguments.app).app, chosen(arguments))
    shown = islice(found, arguments.limit)
    if arguments.json:
        for job in shown:
            print(json_line(letter_json(job)))
    else:
        rows = [columns(job) for job in shown]
        print(*(table(HEAD, rows) if rows else [NO_MATCH]), sep="\n")
    if next(found, None) is not None:
        print(f"There are more than {arguments.limit:,}: --limit N shows more.", file=sys.stderr)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    store = open_app(arguments.app).store
    job = store.run(store.get(arguments.id))
    if job is None:
        raise JobNotFound(arguments.id)
    if arguments.json:
        print(json_line(letter_json(job, whole=True)))
    else:
        print(*letter_lines(job), sep="\n")
    return 0
