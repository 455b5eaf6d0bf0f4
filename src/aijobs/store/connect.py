"""From a store URL to clients that answer in time or fail in time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import parse_url

from aijobs.errors import ConfigurationError
from aijobs.settings import Settings
from aijobs.store.base import JobStore

#: How many connections one client opens at most; for operations, an event loop and each thread have one.
MAX_CONNECTIONS = 100

_SCHEMES = {"redis": "redis", "rediss": "rediss", "unix": "unix", "redis+socket": "unix", "socket": "unix"}
_PASSWORD = re.compile(r"([?&][^=&]*password=)[^&]*", re.IGNORECASE)
_CERTIFICATES = {"CERT_REQUIRED": "required", "CERT_OPTIONAL": "optional", "CERT_NONE": "none"}


def open_store(url: str, settings: Settings) -> JobStore:
    """The job store at a URL; nothing is connected yet.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://` (socket), as for redis-py or Celery.
        settings: time-outs, retention and key prefix.

    Raises:
        ConfigurationError: the URL names no store that aijobs knows.
    """
    from aijobs.store.redis import RedisStore

    return RedisStore(normalize(url), settings)


def is_store_url(url: str | None) -> bool:
    """Whether a broker or result backend URL names a server that can hold the records."""
    scheme, separator, _ = str(url).partition("://")
    return bool(separator) and scheme in _SCHEMES


def plain_server_url(url: Any) -> str | None:
    """The normalized URL of a broker that is one Redis or Valkey server, which can be asked directly; else None."""
    return normalize(url) if isinstance(url, str) and ";" not in url and is_store_url(url) else None


def hide_password(url: str) -> str:
    """The URL with its password replaced, fit for logs and responses."""
    # Not split as URLs are: a password with a slash or the like, not percent-encoded, would be in another part.
    scheme, separator, rest = url.partition("://")
    login, at, address = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return scheme + separator + _PASSWORD.sub(r"\1***", f"{user}{colon and ':***'}{at}{address}")


def normalize(url: str) -> str:
    """A Celery or kombu style Redis URL in the form that redis-py reads.

    Raises:
        ConfigurationError: not a Redis URL, or one with a mistake.
    """
    if not is_store_url(url):
        raise ConfigurationError(
            f"{hide_password(url)!r} cannot hold job records: aijobs needs a redis://, rediss:// or unix:// URL. "
            "Set AIJOBS_STORE_URL to one."
        )
    try:
        normal = _normalize(urlsplit(url))
        connection_options(normal)
    except ValueError:
        # What is wrong may be the password, which the cause would name.
        raise ConfigurationError(
            f"The store URL {hide_password(url)!r} cannot be read: port, database and options must be numbers where "
            "Redis wants numbers, and special characters in the password percent-encoded."
        ) from None
    return normal


def _normalize(parts: SplitResult) -> str:
    scheme = _SCHEMES[parts.scheme]
    query = [(name, _CERTIFICATES.get(value, value)) for name, value in parse_qsl(parts.query)]
    if scheme == "unix":
        query = [("db" if name == "virtual_host" else name, value) for name, value in query]
    elif parts.path in ("", "/") and "db" not in dict(query):
        parts = parts._replace(path="/0")
    netloc = parts.netloc or ("localhost" if scheme != "unix" else "")
    text = urlunsplit((scheme, netloc, parts.path, urlencode(query), ""))
    # urlunsplit drops the empty authority that redis-py expects of a socket URL.
    return re.sub(r"^unix:/*", "unix:///", text) if scheme == "unix" and not netloc else text


def database_of(url: str) -> int:
    """The number of the database that a normalized URL names."""
    return int(connection_options(url).get("db", 0))


def connection_options(url: str) -> dict[str, Any]:
    """Host, port, database and the rest, as redis-py reads them from a normalized URL."""
    return dict(parse_url(url))  # type: ignore[no-untyped-call]


def same_server(url: str, options: Mapping[str, Any]) -> bool:
    """Whether a normalized URL and redis-py connection options mean the same database of the same server."""
    mine = connection_options(url)
    defaults = {"host": "localhost", "port": 6379, "db": 0, "path": None}
    return all((mine.get(name) or default) == (options.get(name) or default) for name, default in defaults.items())


def connection_pool(url: str, timeout: float) -> redis.ConnectionPool:
    """Makes connections for threads; connecting, sending and receiving each take `timeout` seconds at most."""
    return redis.ConnectionPool.from_url(url, **_options(timeout))


def async_client(url: str, timeout: float) -> redis.asyncio.Redis:
    """A client for the running event loop, with the same bounds."""
    return redis.asyncio.Redis.from_pool(async_connection_pool(url, timeout))


def async_connection_pool(url: str, timeout: float) -> redis.asyncio.ConnectionPool:
    """Makes connections for the running event loop, with the same bounds."""
    return redis.asyncio.BlockingConnectionPool.from_url(
        url,
        timeout=timeout,
        retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        **_options(timeout),
    )


def _options(timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "max_connections": MAX_CONNECTIONS,
        "socket_keepalive": True,
    }
