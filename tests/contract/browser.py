"""A real browser on a page of ours, which tells what it sees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from tests.helpers import wait_until

from .conftest import DEADLINE_SECONDS

EXAMPLE = Path(__file__).parents[2] / "examples" / "following" / "follow.js"

#: What a page's own script can use: `tell(something)`, in order.
_PAGE = """<!doctype html><script type="module">
import {{ follow, followWithHeaders, withOutput }} from "/follow.js";
let told = Promise.resolve();
const tell = (what) => {{ told = told.then(() => fetch("/told", {{ method: "POST", body: JSON.stringify(what) }})); }};
const kinds = "snapshot status attempt progress output completed".split(" ").map((kind) => `job.${{kind}}`);
kinds.push("stream.gap");
const handlers = Object.fromEntries(kinds.map((kind) => [kind, (data) => tell({{ kind, data }})]));
{script}
</script>"""

_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@dataclass
class Page:
    """A page that a browser has opened."""

    script: str
    told: list[dict[str, Any]] = field(default_factory=list)

    def kinds(self) -> list[str]:
        """What it has told, by kind."""
        return [one["kind"] for one in self.told]

    def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The last of so many things of a kind that it tells."""
        wait_until(lambda: self.kinds().count(kind) >= count, f"{kind} in the browser, which told {self.kinds()}")
        return [one for one in self.told if one["kind"] == kind][count - 1]


@contextmanager
def opened(script: str, folder: Path) -> Iterator[Page]:
    """Opens a page with this script in a browser; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium")
    page = Page(_PAGE.format(script=script))
    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder}",
    )
    with _served(page) as url, (folder / "browser.log").open("wb") as log:
        running = subprocess.Popen([program, *options, url], stdout=log, stderr=log, start_new_session=True)
        try:
            yield page
        finally:
            # Its helper processes are in its session.
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(DEADLINE_SECONDS)


@contextmanager
def _served(page: Page) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"page": page})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    page: Page

    def do_GET(self) -> None:
        kind, text = {
            "/": ("text/html", self.page.script),
            "/follow.js": ("text/javascript", EXAMPLE.read_text()),
        }.get(self.path, ("text/plain", ""))
        self._answer(kind, text.encode())

    def do_POST(self) -> None:
        self.page.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer("text/plain", b"")

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
