"""Broker connections that stay with our transport, whichever of an app's broker addresses they come to use."""

from __future__ import annotations

from typing import Any

import kombu

#: The names that kombu knows our transports by, and shows in a worker's log.
TRANSPORT_ALIAS = "aijobs-redis"
SENTINEL_ALIAS = "aijobs-sentinel"

_OURS = {"redis": TRANSPORT_ALIAS, "rediss": TRANSPORT_ALIAS, "sentinel": SENTINEL_ALIAS}


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
