"""What aijobs holds for one Celery app: its settings and its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from aijobs.errors import ConfigurationError
from aijobs.files.opening import open_files
from aijobs.files.store import FileStore
from aijobs.settings import Settings, current
from aijobs.store.base import JobStore
from aijobs.store.connect import hide_password, is_store_url, normalize, open_store

_runtimes: WeakKeyDictionary[Celery, Runtime] = WeakKeyDictionary()


@dataclass(eq=False)
class Runtime:
    """The parts that belong to one Celery app; `aijobs.attach.setup` makes it.

    The store is opened when it is first asked for, since an app's configuration may come after its setup.
    """

    app: Celery
    settings: Settings = field(default_factory=current)

    @cached_property
    def store_url(self) -> str:
        """Where the records live: `AIJOBS_STORE_URL`, else the result backend, else the broker.

        Raises:
            ConfigurationError: none of the three is a Redis or Valkey server.
        """
        conf = self.app.conf
        for url in (self.settings.store_url, conf.result_backend, conf.broker_read_url):
            # A wrong AIJOBS_STORE_URL must not be passed over in silence.
            if url and (is_store_url(url) or url == self.settings.store_url):
                return normalize(url)
        raise ConfigurationError(
            "aijobs found no place for the job records: neither the result backend "
            f"({_shown(conf.result_backend)}) nor the broker ({_shown(conf.broker_read_url)}) is Redis or Valkey. "
            "Set AIJOBS_STORE_URL to a redis:// URL that the API and the workers reach."
        )

    @cached_property
    def store(self) -> JobStore:
        """The job store."""
        return open_store(self.store_url, self.settings)

    @cached_property
    def files(self) -> FileStore:
        """Where uploaded files are.

        Raises:
            ConfigurationError: `AIJOBS_FILES_URL` cannot be used.
        """
        return open_files(self.settings.files_url)


def runtime_of(app: Celery) -> Runtime:
    """The runtime of an app, made on first use."""
    runtime = _runtimes.get(app)
    if runtime is None:
        runtime = _runtimes.setdefault(app, Runtime(app))
    return runtime


def _shown(url: Any) -> str:
    return repr(hide_password(str(url))) if url else "none"
