"""Looks into the user's modules, in a process of its own: an import cannot be undone.

    python -m aijobs.cli.dev.probe '{"worker": …, "api": …, "ours": […]}'

The answer, one line of JSON on standard output, has the fields of `Found`, or `problem`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aijobs._targets import ASGI_APP, CELERY_APP, answer, describe, resolve
from aijobs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Found:
    """What the user's modules say."""

    #: `module:attribute` of the Celery app.
    worker: str
    #: `module:attribute` of the API, if there is to be one.
    api: str | None
    #: Path of the API's interactive documentation.
    docs: str | None
    #: The app's broker and result backend; None where it says nothing.
    broker: str | None
    backend: str | None


def examine(worker: str, api: str | None, ours: Sequence[str]) -> Found:
    """Imports the modules and reads the app's configuration.

    Args:
        worker: `module:attribute` of the Celery app; without an attribute, the module's only app.
        api: the same for the API, or None.
        ours: the environment variables that are not the user's; Celery would prefer them to what the app
            says.

    Raises:
        ConfigurationError: a module or an attribute is missing or not what it should be; the message says
            what to do.
    """
    sys.path.insert(0, str(Path.cwd()))
    worker, app = resolve(worker, CELERY_APP)
    docs = None
    if api:
        api, asgi = resolve(api, ASGI_APP)
        docs = getattr(asgi, "docs_url", None)
    for name in ours:
        os.environ.pop(name, None)
    try:
        conf = app.conf  # type: ignore[attr-defined]
        broker, backend = _address(conf.broker_url), _address(conf.result_backend)
    except Exception as error:
        raise ConfigurationError(f"The configuration of {worker} cannot be read: {describe(error)}") from error
    return Found(worker, api, docs, broker, backend)


def _address(value: object) -> str | None:
    """The first of the addresses that a setting may hold."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first.split(";")[0] if isinstance(first, str) else None


if __name__ == "__main__":
    answer(examine)
