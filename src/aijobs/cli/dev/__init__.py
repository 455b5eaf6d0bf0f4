"""`aijobs dev`: broker, worker and API of a project in one terminal, reloaded when a file changes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aijobs.cli import Subparsers

_LEVELS = ("debug", "info", "warning", "error", "critical")
_DESCRIPTION = """
Runs a Celery worker and, with --api, a FastAPI app in one terminal, and starts them anew when a Python file
changes. When the app's broker is Redis on this machine and nothing listens there, a server is started in its
place, on the same port, which keeps its data in the data folder. Ctrl-C stops everything; a second Ctrl-C
does not wait.
"""


def register(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "dev", help="run broker, worker and API of a project, with reload", description=_DESCRIPTION
    )
    parser.add_argument("worker", metavar="MODULE:APP", help="the Celery app, e.g. shop.worker:celery_app")
    parser.add_argument("--api", metavar="MODULE:APP", help="the FastAPI (ASGI) app, e.g. shop.main:app")
    parser.add_argument("--host", default="127.0.0.1", help="where the API listens (%(default)s)")
    parser.add_argument("--port", type=_port, default=8000, help="the API's port, 0 for a free one (%(default)s)")
    parser.add_argument("--data", type=Path, default=Path(".aijobs"), help="the data folder (%(default)s)")
    parser.add_argument("--queues", metavar="A,B", help="the queues that the worker takes (all that the app has)")
    parser.add_argument("--concurrency", type=_positive, help="how many jobs at once (as many as there are cores)")
    parser.add_argument("--pool", help="Celery's pool: prefork, asyncio, threads, solo, … (as the app says)")
    parser.add_argument("--loglevel", type=str.lower, choices=_LEVELS, default="info", help="(%(default)s)")
    parser.add_argument("--no-reload", dest="reload", action="store_false", help="leave changed files alone")
    parser.add_argument(
        "--reload-dir",
        type=Path,
        action="append",
        metavar="DIR",
        help="a folder to watch; may be repeated (.)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from aijobs.cli.dev.run import Options, run

    given = vars(arguments) | {"reload_dirs": tuple(arguments.reload_dir or (Path(),))}
    return run(Options(**{name: given[name] for name in Options.__dataclass_fields__}))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs: 1 or more")
    return int(text)
