"""Broker connections that stay with our transport, whichever of an app's broker addresses they come to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kombu
from redis.backoff import NoBackoff
from redis.retry import Retry

#: The names that kombu knows our transports by, and shows in a worker's log.
TRANSPORT_ALIAS = "aijobs-redis"
SENTINEL_ALIAS = "aijobs-sentinel"

#: How long a server may take to answer, and to take a connection, where an app does not say, seconds.
SOCKET_SECONDS = 5.0
CONNECT_SECONDS = 2.0

_OURS = {"redis": TRANSPORT_ALIAS, "rediss": TRANSPORT_ALIAS, "sentinel": SENTINEL_ALIAS}


def sentinel_options(transport_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of connections to sentinels, of which each is asked once before the next one is.

    By itself redis-py asks a sentinel that is down four times, with pauses of seconds, for each channel anew.

    Args:
        transport_options: the app's; its `sentinel_kwargs` come before all else, then its `socket_…`.
    """
    sockets = {name: value for name, value in transport_options.items() if name.startswith("socket_")}
    return {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **sockets,
        **(transport_options.get("sentinel_kwargs") or {}),
    }


class JobConnection(kombu.Connection):
    """A connection that reads a broker address as kombu does and then takes our transport in the place of kombu's.

    With `transport=` alone kombu forgets it at the first fail-over and for a socket's address, and forgets the TLS of a
    `rediss://` one.
    """

    transport_cls: Any

    def __init__(self, hostname: Any = "localhost", *args: Any, **kwargs: Any) -> None:
        self._stays = kwargs.get("transport") in _OURS.values()
        if self._stays and (not isinstance(hostname, str) or "://" in hostname):
            kwargs["transport"] = None
        super().__init__(hostname, *args, **kwargs)

    def _init_params(self, **params: Any) -> None:
        super()._init_params(**params)
        if self._stays:
            self.transport_cls = _OURS.get(self.transport_cls, self.transport_cls)
