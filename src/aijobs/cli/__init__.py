"""The command line. Each command is a module of this package with a function `register(subparsers)`.

`register` adds the command's parser and sets its default `run`, a function from the parsed arguments to the
exit status. What a command needs beyond argparse is imported when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from aijobs.errors import AijobsError

if TYPE_CHECKING:
    #: What `register` is given.
    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

#: The modules of the commands, in the order of the help.
COMMANDS = ("dev", "compose", "dead", "workers", "health")

#: Exit status after Ctrl-C, as a shell has it.
INTERRUPTED = 130
#: Exit status when nobody reads the output any longer, as a shell has it.
CUT_OFF = 141
#: Exit status for a command that could not do its work, with one message that says why.
FAILED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments without the program's name; by default those of the process.

    Returns:
        The exit status: 0 success, 2 a mistake in what was asked for, 130 interrupted; commands add their
        own.
    """
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(words).parse_args(words)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except AijobsError as error:
        print(f"aijobs: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; Python must not complain of that at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_OFF
    return status


class _Version(argparse.Action):
    """Prints the version, which takes a while to find out."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        print(f"aijobs {importlib.metadata.version('aijobs')}")
        parser.exit()


def _parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aijobs", description="Job APIs for AI backends, on Celery and FastAPI.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and end")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # A health check runs every few seconds: it shall not load what other commands need.
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"{__name__}.{name}").register(subparsers)
    return parser
