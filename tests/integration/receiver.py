"""A server that webhooks are sent to: it answers as it is told, and remembers what it got."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers import wait_until


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes


#: Answers a request through the handler's own means; the count of requests to the same path comes with it, from 1.
Reply = Callable[[BaseHTTPRequestHandler, int], None]


def status(code: int, **headers: str) -> Reply:
    """An answer without a body."""

    def reply(handler: BaseHTTPRequestHandler, count: int) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return reply


@dataclass
class Receiver:
    """What was sent to a server, and how it answers."""

    port: int = 0
    replies: dict[str, Reply] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def at(self, path: str) -> list[Got]:
        return [one for one in self.got if one.path == path]

    def wait(self, path: str, count: int = 1) -> list[Got]:
        wait_until(lambda: len(self.at(path)) >= count, f"request {count} to {path}")
        return self.at(path)


@contextmanager
def receiving(
    port: int = 0, context: ssl.SSLContext | None = None, known: Receiver | None = None
) -> Iterator[Receiver]:
    """A receiver on loopback; it answers 204 to what it was told nothing about."""
    receiver = known or Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            receiver.replies.get(self.path, status(204))(self, len(receiver.at(self.path)))

        do_GET = do_POST

        def log_message(self, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None: ...

    with Server(("127.0.0.1", port), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
