"""HTTP as bytes, for what no polite client sends."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from .complete import Complete

#: A server that says nothing for so long hangs.
HANG_SECONDS = 20.0

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def exchange(api: Complete, sent: bytes, *, close: bool = False) -> Reply | None:
    """What a server says to bytes; None when it only closes the connection. A stream is left after its head.

    Args:
        api: to talk to.
        sent: one request, whole or not.
        close: whether the client says that nothing follows.
    """
    address = urlsplit(api.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=HANG_SECONDS) as connection:
        try:
            connection.sendall(sent)
            if close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            # It has refused what came first.
            pass
        response = http.client.HTTPResponse(connection, method=sent.partition(b" ")[0].decode("latin-1"))
        try:
            response.begin()
            streamed = response.getheader("content-type", "").startswith("text/event-stream")
            body = b"" if streamed else response.read()
        except (http.client.BadStatusLine, ConnectionError):
            return None
        finally:
            response.close()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def request(
    method: bytes, target: bytes, headers: Sequence[Header] = (), body: bytes = b"", version: bytes = b"1.1"
) -> bytes:
    """A request of Alice; no header is added that is given."""
    named = {name.lower() for name, _ in headers}
    own = [(b"Host", b"x"), (b"Authorization", b"Bearer alice"), (b"Connection", b"close")]
    if body and not named & {b"content-length", b"transfer-encoding"}:
        own.append((b"Content-Length", str(len(body)).encode()))
    lines = [b"%s: %s" % header for header in (*(one for one in own if one[0].lower() not in named), *headers)]
    return b"%s %s HTTP/%s\r\n" % (method, target, version) + b"\r\n".join(lines) + b"\r\n\r\n" + body
