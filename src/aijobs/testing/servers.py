"""The server that tests share, and how apps of the test process and of workers come to use it."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import redis
from celery import Celery

from aijobs.attach import setup
from aijobs.embedded import EmbeddedServer, EmbeddedServerError, start_server
from aijobs.errors import ConfigurationError
from aijobs.store.connect import hide_password, normalize

#: Where tests find a server that runs already; without it they start one.
URL_VARIABLE = "AIJOBS_TEST_REDIS_URL"
#: What a worker is told of its server. Celery takes its two before what the code says.
_VARIABLES = ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "AIJOBS_STORE_URL")
#: A worker that was killed is missed after so many seconds; the least that there is.
LEASE_SECONDS = 5.0


class Server:
    """A Redis or Valkey server for tests, for a `with` block.

    Attributes:
        url: of it, with a database of this process's own when it is shared.
    """

    def __init__(self, embedded: EmbeddedServer) -> None:
        self.url = embedded.url
        self._embedded = embedded

    def use(self, app: Celery) -> None:
        """Has an app of this process use the server as broker, backend and store, whatever its code says.

        Raises:
            ConfigurationError: the app has used another store already.
        """
        runtime = setup(app)
        if "store" in vars(runtime) and runtime.store_url != normalize(self.url):
            raise ConfigurationError(
                f"The app {app.main!r} has used {runtime.store.url} already: have the test take the fixture of the "
                "server before it uses the app."
            )
        runtime.settings = runtime.settings.model_copy(update={"store_url": self.url, "lease_seconds": LEASE_SECONDS})
        _point(app, self.url)

    def environment(self) -> dict[str, str]:
        """What a process is told so that it uses the server."""
        return {**dict.fromkeys(_VARIABLES, self.url), "AIJOBS_LEASE_SECONDS": f"{LEASE_SECONDS:g}"}

    def stop(self) -> None:
        """Ends it, if it was started here."""
        self._embedded.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_test_server() -> Server:
    """The server of `AIJOBS_TEST_REDIS_URL`, else one that is started now and keeps nothing.

    Processes of pytest-xdist that share a server get a database each: the one in the URL, and those that follow.

    Raises:
        EmbeddedServerError: there is no server to start, or the one of the variable does not answer.
    """
    url = os.environ.get(URL_VARIABLE)
    if not url:
        return Server(_started())
    own = _own_database(url, os.environ.get("PYTEST_XDIST_WORKER", ""))
    _check(own)
    return Server(EmbeddedServer(own))


def _started() -> EmbeddedServer:
    try:
        # Not REDIS_URL: it often is that of somebody's work.
        return start_server(use_environment=False)
    except EmbeddedServerError as error:
        raise EmbeddedServerError(f"{error} Tests read {URL_VARIABLE} instead of REDIS_URL.") from error


def _own_database(url: str, worker: str) -> str:
    """The URL with the database of a process of pytest-xdist, such as "gw3"."""
    parts = urlsplit(url)
    number = int(parts.path.strip("/") or 0) + int(worker.removeprefix("gw") or 0)
    return urlunsplit(parts._replace(path=f"/{number}"))


def _check(url: str) -> None:
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        raise EmbeddedServerError(
            f"{URL_VARIABLE}: {hide_password(url)} does not answer: {error}. Start it, have it offer as many databases "
            "as pytest-xdist has processes, or leave the variable out to have a server started."
        ) from error


def _point(app: Any, url: str) -> None:
    app.conf.update(broker_url=url, broker_read_url=url, broker_write_url=url, result_backend=url)
    # What was made before, for another server.
    app._backend_cache = None
    app._local.backend = None
    app._pool = None
    app.amqp._producer_pool = None
