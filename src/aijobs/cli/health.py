"""`aijobs health`: whether the API, the worker or the scheduler of this container is well, for health checks."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aijobs._vitals import API_PORT, HEALTH_PATH, SCHEDULER, VARIABLE, WORKER, complaint, last_sign

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from aijobs.cli import Subparsers

#: Exit status for a service that is not well; container engines know no other.
UNWELL = 1
#: How long the API may take to answer, seconds.
ANSWER_SECONDS = 4.0
_MAX_BODY_BYTES = 65_536
_DESCRIPTION = (
    "Says in one line whether a service on this machine is well; the exit status is 0 or 1. It imports nothing of the "
    "app. The worker and the scheduler (beat) leave signs of life in the folder that AIJOBS_HEALTH_FOLDER names."
)


class Unwell(Exception):
    """A service is not well; the argument says why."""


def register(subparsers: Subparsers) -> None:
    """Adds the command."""
    parser = subparsers.add_parser("health", help="say whether a service is well", description=_DESCRIPTION)
    services = parser.add_subparsers(title="services", metavar="SERVICE", required=True)
    api = services.add_parser("api", help="whether the API answers, and its store and broker do")
    api.add_argument("--port", type=int, default=API_PORT, help="where it listens on 127.0.0.1 (default: %(default)s)")
    api.add_argument("--path", default=HEALTH_PATH, help="of the health route (default: %(default)s)")
    api.add_argument("--live", action="store_true", help="be content with any answer, such as that the store is away")
    api.set_defaults(run=_run, look=_api)
    worker = services.add_parser(WORKER, help="whether the worker's process and its main loop run")
    worker.set_defaults(run=_run, look=lambda _: _signs(WORKER))
    scheduler = services.add_parser(SCHEDULER, help="whether the scheduler looks at its schedule")
    scheduler.set_defaults(run=_run, look=lambda _: _signs(SCHEDULER))


def _run(arguments: argparse.Namespace) -> int:
    try:
        print(f"ok: {arguments.look(arguments)}")
    except Unwell as problem:
        print(f"unwell: {problem}")
        return UNWELL
    return 0


def _signs(name: str) -> str:
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise Unwell(f"{VARIABLE} is not set; give the {name} and this command the same folder.")
    try:
        sign = last_sign(Path(folder), name)
    except (OSError, ValueError) as error:
        raise Unwell(f"the sign of life in {folder} cannot be read: {type(error).__name__}.") from None
    now = time.monotonic()
    # One from the future is older than the machine's last start.
    if sign is None or sign.left > now:
        raise Unwell(f"no {name} has left a sign of life in {folder}; it may still be starting.")
    if problem := complaint(sign, now):
        raise Unwell(f"{name} {problem}.")
    return f"{name} process {sign.pid}, sign of life {max(0.0, now - sign.left):.1f} s ago"


def _api(arguments: argparse.Namespace) -> str:
    status, detail = _answer(arguments.port, arguments.path)
    if not arguments.live:
        if status == 404:
            raise Unwell(f"the API has no {arguments.path}; name its health route with --path.")
        if status >= 500:
            raise Unwell(f"the API answers {status}. {detail}".rstrip())
    # Who is asked for a login, or sent elsewhere, has been answered all the same.
    return f"the API answers {status}"


def _answer(port: int, path: str) -> tuple[int, str]:
    """Status, and what the answer says of a problem."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, _detail(response)
    except TimeoutError:
        raise Unwell(f"the API on port {port} does not answer within {ANSWER_SECONDS:g} s.") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unwell(f"nothing that speaks HTTP answers on port {port}: {type(error).__name__}.") from None
    finally:
        connection.close()


def _detail(response: HTTPResponse) -> str:
    from aijobs.cli._text import printable

    try:
        detail = json.loads(response.read(_MAX_BODY_BYTES))["detail"]
    except (ValueError, TypeError, KeyError):
        return ""
    return printable(str(detail))
