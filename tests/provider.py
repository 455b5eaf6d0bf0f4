"""A provider on this machine that answers as a test tells it, and remembers when it was asked."""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What one call gets."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


@dataclass(frozen=True)
class Call:
    """A call, by the server's monotonic clock, seconds."""

    came: float
    #: When its answer was begun.
    answered: float
    status: int


class Provider:
    """Gives each address its own answers, one after the other, and 200 from then on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._scripts: dict[str, deque[Answer]] = {}
        self.calls: dict[str, list[Call]] = defaultdict(list)

    def that_answers(self, *answers: Answer) -> str:
        """An address with these answers."""
        path = f"/{uuid.uuid4()}"
        self._scripts[path] = deque(answers)
        return self._url + path

    def calls_to(self, url: str) -> list[Call]:
        """When this address was called."""
        return list(self.calls["/" + url.rpartition("/")[2]])

    def gaps(self, url: str) -> list[float]:
        """Seconds from each answer to the next call."""
        calls = self.calls_to(url)
        return [after.came - before.answered for before, after in pairwise(calls)]

    def take(self, path: str) -> Answer:
        """The next answer of an address."""
        script = self._scripts.get(path)
        return script.popleft() if script else Answer(200)


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that is there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    told: Any = server
    told.provider = found = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        came = time.monotonic()
        told: Any = self.server
        # Clients go on from the address that they are given.
        path = "/" + self.path.partition("?")[0].split("/")[1]
        answer = told.provider.take(path)
        told.provider.calls[path].append(Call(came, time.monotonic(), answer.status))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
