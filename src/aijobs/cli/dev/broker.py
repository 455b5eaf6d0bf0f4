"""Which server the app's messages go to, and whether it has to be started.

The user's code runs unchanged. Either it reads its addresses from the environment, then it gets those of the
server that is started; or they are in the code, then the server is started on that very port, if nothing
listens there.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aijobs._datafolder import locked
from aijobs.cli.dev.probe import Found
from aijobs.embedded import DEFAULT_PORT, EmbeddedServer, Login, start_server
from aijobs.errors import ConfigurationError
from aijobs.store.connect import hide_password, is_store_url, normalize

#: What the app's modules read from the environment while they are examined, before there is a server.
PLACEHOLDER = "redis://127.0.0.1:1/0"

_NAMES = ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "AIJOBS_STORE_URL")
_HERE = ("localhost", "127.0.0.1")
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """The Redis server behind the app."""

    #: Its address; None when the app uses no Redis that we know of.
    url: str | None
    #: For people: what it is, and why.
    note: str
    #: Set when it was started here.
    embedded: EmbeddedServer | None = None


def unset(environ: Mapping[str, str]) -> list[str]:
    """The variables that are ours to set, since the user did not."""
    return [name for name in _NAMES if not environ.get(name)]


def probe_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What the modules are examined with: `REDIS_URL` or a placeholder stands in for what is not set."""
    base = environ.get("REDIS_URL") or PLACEHOLDER
    return {**environ, **dict.fromkeys(unset(environ), base)}


def open_server(found: Found, data_dir: Path, environ: Mapping[str, str]) -> Server:
    """Finds the server that the app uses, or starts it.

    Args:
        found: the app's own addresses.
        data_dir: where a server that is started keeps its data.
        environ: the user's environment.

    Raises:
        ConfigurationError: what listens at the address is no Redis, or refuses us, or `REDIS_URL` leads
            nowhere.
        AijobsError: the server could not be started, or the data folder is in use.
    """
    given = environ.get("REDIS_URL")
    broker = found.broker or given or PLACEHOLDER
    addresses = [plain for url in (broker, found.backend) if url and _is_ours_to_serve(plain := _plain(url), given)]
    if not addresses:
        return Server(None, _why_none(broker))
    url = addresses[0]
    if _is_placeholder(url):
        server = start_server(data_dir, use_environment=False)
        return Server(server.url, "started here", server)
    if url == given:
        _ping(url, "REDIS_URL", "start it, or unset REDIS_URL so that a server is started here")
        return Server(url, "named by REDIS_URL")
    return _at(url, data_dir)


def child_environment(found: Found, server: Server, environ: Mapping[str, str]) -> dict[str, str]:
    """What worker and API run with; neither the user's variables nor the app's own addresses are changed."""
    broker = _actual(found.broker, server) if found.broker else server.url
    backend = _actual(found.backend, server) if found.backend else server.url
    store = next((_plain(url) for url in (backend, broker) if url and is_store_url(_plain(url))), None)
    values = {
        "REDIS_URL": server.url,
        "CELERY_BROKER_URL": broker,
        # A backend class of the app's own (`module.Class+redis://…`) cannot be put into this variable again.
        "CELERY_RESULT_BACKEND": backend if backend and backend == _plain(backend) else None,
        "AIJOBS_STORE_URL": store,
    }
    return {**environ, **{name: value for name in unset(environ) if (value := values[name])}}


def _at(url: str, data_dir: Path) -> Server:
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORT
    _wait_for_folder(data_dir)
    if _listens(parts.hostname or "localhost", port):
        _ping(url, "The app's Redis", "stop or repair what listens there, or change the address")
        return Server(url, "found running")
    login = Login(unquote(parts.password or ""), unquote(parts.username or ""))
    server = start_server(data_dir, port=port, login=login, use_environment=False)
    return Server(url, "started here, since nothing listened at the app's address", server)


def _wait_for_folder(data_dir: Path) -> None:
    """Sees to it that what listens at the app's address is no server of another session on this folder."""
    if data_dir.is_dir():
        with locked(data_dir.absolute()):
            pass


def _is_ours_to_serve(url: str, given: str | None) -> bool:
    if url == given:
        return is_store_url(url)
    parts = urlsplit(url)
    return parts.scheme == "redis" and (parts.hostname or "localhost") in _HERE


def _why_none(broker: str) -> str:
    shown = hide_password(_plain(broker))
    if urlsplit(shown).scheme != "redis":
        return f"none is started: the app's broker is {shown}, which is not Redis"
    return (
        f"none is started: the app's broker {shown} is not on this machine "
        "(CELERY_BROKER_URL=redis://localhost:6379/0 would bring it here)"
    )


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _ping(url: str, whose: str, advice: str) -> None:
    client = redis.Redis.from_url(
        normalize(url),
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        with client:
            client.ping()
    except redis.BusyLoadingError:
        return
    except redis.RedisError as error:
        raise ConfigurationError(
            f"{whose} is {hide_password(url)}, which does not answer ({error}): {advice}."
        ) from error


def _is_placeholder(url: str) -> bool:
    return urlsplit(url).netloc == urlsplit(PLACEHOLDER).netloc


def _actual(url: str, server: Server) -> str:
    """The app's address, with the real server in the placeholder's place."""
    return url.replace(urlsplit(PLACEHOLDER).netloc + "/", urlsplit(server.url or url).netloc + "/")


def _plain(url: str) -> str:
    """The address without the backend class that Celery lets one put before it (`module.Class+redis://…`)."""
    scheme, separator, rest = url.partition("://")
    known = "redis+socket" if scheme.endswith("redis+socket") else scheme.rpartition("+")[2]
    return f"{known}{separator}{rest}"
