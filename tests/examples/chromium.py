"""A real browser, driven over a pipe: opens a page, waits for what it shows, clicks, takes pictures."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.helpers import wait_until

DEADLINE_SECONDS = 60.0
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--window-size=1200,1000", "--remote-debugging-pipe"),
)
#: It reads requests at descriptor 3 and writes answers to 4.
_LAUNCHER = """
import fcntl, os, sys
for descriptor, given in enumerate([fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]], start=3):
    os.dup2(given, descriptor)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser, by the Chrome DevTools protocol: JSON messages, each with a zero byte at its end."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._requests = requests
        self._answers = answers
        self._numbers = itertools.count(1)
        self._found: dict[int, dict[str, Any]] = {}
        #: What went wrong in the page.
        self.errors: list[str] = []
        self._session: str | None = None
        threading.Thread(target=self._read, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._requests.write(json.dumps(message).encode() + b"\0")
        self._requests.flush()
        answer = wait_until(lambda: self._found.pop(number, None), f"an answer to {method}")
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        """Opens an address, or the same one again."""
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> Any:
        """Waits until an expression is true in the page, which may be one that is still loading."""
        try:
            return wait_until(lambda: self._try(condition), condition)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page shows {self.text()!r}, and had {self.errors}") from None

    def text(self, selector: str = "main") -> str:
        """What can be read in a part of the page."""
        return str(self._try(f"document.querySelector({selector!r})?.innerText") or "")

    def fill(self, selector: str, text: str) -> None:
        """Types a text into a field."""
        self.run(f"document.querySelector({selector!r}).focus()")
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Clicks on something."""
        self.run(f"document.querySelector({selector!r}).click()")

    def picture(self, path: Path) -> None:
        """Takes a picture of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _try(self, script: str) -> Any:
        try:
            return self.run(script)
        except AssertionError:  # the page has just been left
            return None

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._answers.fileno(), 65_536):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._found[message["id"]] = message
                else:
                    self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        if message["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(message["params"]))


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """A browser with an empty page; skips the test where there is none.

    Args:
        folder: where it keeps what it needs.
    """
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium")
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()
    with (folder / "browser.log").open("wb") as log:
        running = subprocess.Popen(
            [
                *(sys.executable, "-c", _LAUNCHER, str(to_browser), str(to_us)),
                *(program, *_OPTIONS, f"--user-data-dir={folder / 'profile'}"),
            ],
            stdout=log,
            stderr=log,
            pass_fds=(to_browser, to_us),
            start_new_session=True,
        )
    os.close(to_browser)
    os.close(to_us)
    with os.fdopen(from_us, "wb") as requests, os.fdopen(from_browser, "rb") as answers:
        try:
            yield Browser(requests, answers)
        finally:
            # Its helper processes are in its session.
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(DEADLINE_SECONDS)
