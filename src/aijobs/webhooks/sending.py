"""One request to a webhook's receiver: to an address that was checked, within a time, with no detours.

Nothing here follows redirects or asks the environment for a proxy. The host is looked up once, and one of the addresses
that were checked is connected to; TLS is checked against the host's name all the same.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import httpcore
from typing_extensions import override

from aijobs.store.deliveries import ErrorKind
from aijobs.webhooks.address import Endpoint
from aijobs.webhooks.network import is_allowed

#: Seconds for everything: looking up, connecting, sending and the answer.
TIMEOUT_SECONDS = 10.0
#: How much of an answer's body is read, before it is thrown away, bytes.
MOST_READ = 65_536
#: So many of a host's addresses are tried.
MOST_ADDRESSES = 4

#: Gives the IP addresses of a host, as text. It raises OSError when there are none.
Resolve: TypeAlias = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: a status code, or the kind of error that there was instead."""

    status_code: int | None = None
    error: ErrorKind | None = None
    retry_after: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status_code is not None and 200 <= self.status_code < 300


def look_up(host: str) -> Sequence[str]:
    """The IP addresses of a host, by the system's resolver, the best first.

    Raises:
        OSError: there are none.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def post(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    body: bytes,
    *,
    resolve: Resolve = look_up,
    allow_private: bool = False,
    timeout: float = TIMEOUT_SECONDS,
) -> Answer:
    """Sends a body to a receiver.

    Args:
        endpoint: where to.
        headers: beside those that the length and the host ask for.
        body: what is sent.
        resolve: looks the host up.
        allow_private: whether private addresses are allowed.
        timeout: seconds for everything.
    """
    deadline = time.monotonic() + timeout
    try:
        addresses = [endpoint.host] if endpoint.is_literal else _resolve_in_time(resolve, endpoint.host, timeout)
    except TimeoutError:
        return Answer(error="timeout")
    except (OSError, UnicodeError):
        return Answer(error="dns")
    if not addresses:
        return Answer(error="dns")
    # A host that has any address which is not allowed is not to be trusted with the others.
    if not all(is_allowed(address, allow_private) for address in addresses):
        return Answer(error="address")
    try:
        return _exchange(endpoint, headers, body, _PinnedBackend(addresses[:MOST_ADDRESSES], deadline))
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        return Answer(error=_kind(error))


@cache
def tls_context() -> ssl.SSLContext:
    """Trusts what the system trusts; made once, since reading all of that takes longer than a request."""
    return ssl.create_default_context()


def _exchange(endpoint: Endpoint, headers: Mapping[str, str], body: bytes, backend: httpcore.NetworkBackend) -> Answer:
    url = httpcore.URL(
        scheme=endpoint.scheme.encode(),
        host=endpoint.host.encode(),
        port=endpoint.port,
        target=endpoint.target.encode(),
    )
    context = tls_context() if endpoint.scheme == "https" else None
    with httpcore.ConnectionPool(ssl_context=context, network_backend=backend) as pool:
        with pool.stream("POST", url, headers=list(headers.items()), content=body) as response:
            known = {name.lower(): value for name, value in response.headers}
            _throw_away(response)
            return Answer(response.status, retry_after=known.get(b"retry-after", b"").decode("latin-1") or None)


def _throw_away(response: httpcore.Response) -> None:
    """Reads a short body, so that the receiver can end its answer; how that ends says nothing about what it took."""
    size = 0
    try:
        for part in response.iter_stream():
            size += len(part)
            if size >= MOST_READ:
                return
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        return


def _kind(error: Exception) -> ErrorKind:
    if isinstance(error, httpcore.TimeoutException):
        return "timeout"
    if isinstance(error, httpcore.ConnectError):
        return "tls" if isinstance(error.__context__, ssl.SSLError) else "connect"
    return "protocol"


def _resolve_in_time(resolve: Resolve, host: str, timeout: float) -> Sequence[str]:
    """What a resolver says; the system's own cannot be told how long it may take.

    Raises:
        OSError: the host has no address; a TimeoutError when that was not known in time.
    """
    found: Future[Sequence[str]] = Future()

    def look() -> None:
        try:
            found.set_result(resolve(host))
        except Exception as error:  # noqa: BLE001 (raised where the result is wanted)
            found.set_exception(error)

    threading.Thread(target=look, name="aijobs-resolve", daemon=True).start()
    return found.result(timeout)


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to given addresses, whatever the host's name, and lets nothing take longer than a deadline."""

    def __init__(self, addresses: Sequence[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        *others, last = self._addresses
        for tried, address in enumerate(others):
            # An address that does not answer must leave time for those after it.
            share = _left(self._deadline) / (len(self._addresses) - tried)
            try:
                return self._connect(address, port, share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(last, port, _left(self._deadline))

    def _connect(self, address: str, port: int, timeout: float) -> httpcore.NetworkStream:
        return _TimedStream(self._backend.connect_tcp(address, port, timeout), self._deadline)


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step ends by a deadline: a receiver that sends a byte now and then gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    @override
    def close(self) -> None:
        self._stream.close()

    @override
    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    """Seconds until a deadline.

    Raises:
        httpcore.TimeoutException: it has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("The deadline has passed.")
    return left
