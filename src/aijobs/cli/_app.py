"""The Celery app that a command is about."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aijobs._targets import describe
from aijobs.cli._text import printable
from aijobs.errors import AijobsError, ConfigurationError

if TYPE_CHECKING:
    from aijobs.runtime import Runtime

#: Names the app where no option does.
VARIABLE = "CELERY_APP"


def app_option() -> argparse.ArgumentParser:
    """A parser to be the parent of a command's, with the option that names the app."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "-A",
        "--app",
        metavar="MODULE:APP",
        help=f"the Celery app, as `celery -A` takes it, e.g. shop.worker:celery_app (default: ${VARIABLE})",
    )
    return parser


def open_app(given: str | None) -> Runtime:
    """Loads an app as `celery` does, with its tasks, and opens it for aijobs.

    Args:
        given: `module`, `module:attribute` or `module.attribute`; by default what `CELERY_APP` says.

    Raises:
        ConfigurationError: there is no such app, or it cannot be loaded; the message says why in one line.
    """
    name = given or os.environ.get(VARIABLE)
    if not name:
        raise ConfigurationError(f"Name the Celery app with -A, as in -A shop.worker:celery_app, or in {VARIABLE}.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        # What the modules print must not get into the output.
        with contextlib.redirect_stdout(sys.stderr):
            return _load(name)
    except AijobsError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError(printable(f"The app {name!r} cannot be loaded: {_why(name, error)}.")) from error


def _load(name: str) -> Runtime:
    from celery import Celery
    from celery.app.utils import find_app

    from aijobs.attach import setup

    app = find_app(name)
    if not isinstance(app, Celery):
        raise ConfigurationError(f"{name} is not a Celery app but of the type {type(app).__name__}.")
    runtime = setup(app)
    app.loader.import_default_modules()
    return runtime


def _why(name: str, error: BaseException) -> str:
    module, _, attribute = name.partition(":")
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if attribute and missing == name:
        return f"{module} has no {attribute!r}"
    if missing and f"{name.replace(':', '.')}.".startswith(f"{missing}."):
        return f"there is no module {missing!r}; run the command in the folder where it is (this is {Path.cwd()})"
    return describe(error)
