"""A real browser follows jobs: through a killed API, from another origin, and until it is told to stop."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from aijobs.embedded import EmbeddedServer
from aijobs.runtime import Runtime
from aijobs.store.values import Claim
from tests.docs.pages import read
from tests.helpers import PATIENT

from .browser import EXAMPLE, Page, opened
from .conftest import DEADLINE_SECONDS, Api, make_celery
from .processes import PATIENCE, Service
from .streaming import Attempt

#: The same as in the example, without its `close()`: then the browser comes back, and is sent away.
STUBBORN = """
const source = new EventSource("{url}");
for (const kind of kinds) source.addEventListener(kind, (event) => handlers[kind](JSON.parse(event.data)));
source.onerror = () => tell({{ kind: "error", state: source.readyState }});
"""
EASY = 'follow("{url}", handlers);'
WITH_HEADERS = """
await followWithHeaders("{url}", handlers, {{ headers: {{ Authorization: "Bearer me" }} }});
tell({{ kind: "over" }});
"""
WITH_OUTPUT = 'follow("{url}", withOutput((text, pieces) => tell({{ kind: "text", text, pieces }}), handlers));'
REFUSED = 'try {{ await followWithHeaders("{url}", handlers); }} catch (error) {{ tell({{ kind: error.message }}); }}'

CONNECTING, CLOSED = 0, 2


@pytest.fixture(scope="module")
def url(server: EmbeddedServer, databases: Iterator[int]) -> str:
    return server.url.removesuffix("0") + str(next(databases))


@pytest.fixture(scope="module")
def service(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = json.dumps({"retry_seconds": 0.3})
    log = tmp_path_factory.mktemp("service") / "api.log"
    with Service({"TEST_URL": url, "TEST_STREAM_LIMITS": limits, **PATIENCE}, log, "browsed:app") as service:
        yield service


@pytest.fixture
def api(url: str, service: Service) -> Iterator[Api]:
    with httpx.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client:
        yield Api(service.url, Runtime(make_celery(url), PATIENT), client)


@pytest.fixture
def claim(api: Api) -> Claim:
    return api.start(api.queue(task="count", body={"items": 1}))


def script(template: str, api: Api, claim: Claim) -> str:
    return template.format(url=f"{api.url}/jobs/{claim.job_id}/events")


@pytest.mark.parametrize("template", [STUBBORN, EASY, WITH_HEADERS], ids=["EventSource", "follow", "with headers"])
def test_a_browser_goes_on_after_the_api_was_killed(
    template: str, service: Service, api: Api, claim: Claim, tmp_path: Path
) -> None:
    with opened(script(template, api, claim), tmp_path) as page:
        page.until("job.snapshot")
        api.report(claim, 0.25)
        page.until("job.progress")
        service.end(signal.SIGKILL)
        api.report(claim, 0.5)
        if template is not STUBBORN:
            # An EventSource by itself would take that for the end.
            refuse_one(service.port)
        service.start()
        page.until("job.progress", 2)
        api.report(claim, 0.75)
        page.until("job.progress", 3)
        api.succeed(claim, "done")
        assert page.until("job.completed")["data"]["result"] == "done"
        if template is STUBBORN:
            assert page.until("error")["state"] == CONNECTING
            wait_for_the_end(page)
        elif template is WITH_HEADERS:
            page.until("over")
    seen = [one["data"]["seq"] for one in page.told if "data" in one]
    assert seen == list(range(seen[0], api.job(claim.job_id).seq + 1))
    assert "stream.gap" not in page.kinds()


def test_a_page_shows_what_a_job_gives_out(service: Service, api: Api, claim: Claim, tmp_path: Path) -> None:
    first = Attempt(api, claim)
    first.emit("Of the ")
    with opened(script(WITH_OUTPUT, api, claim), tmp_path) as page:
        page.until("job.snapshot")
        first.emit("first")
        page.until("job.output")
        service.end(signal.SIGKILL)
        second = first.retry()
        second.emit("Once ", {"source": 1})
        api.command("XTRIM", f"aijobs:job:{claim.job_id}:events", "MAXLEN", 1)
        refuse_one(service.port)
        service.start()
        page.until("stream.gap")
        second.emit("upon ")
        third = second.retry()
        third.emit("Only ")
        page.until("job.output", 3)
        third.emit("this")
        api.succeed(third.claim)
        page.until("job.completed")
    texts = [one["text"] for one in page.told if one["kind"] == "text"]
    assert texts == ["Of the ", "Of the first", "Once ", "Once upon ", "", "Only ", "Only this"]
    shown = [[one.get("text", one.get("data")) for one in told["pieces"]] for told in page.told if "pieces" in told]
    assert shown[3:] == [["Once ", {"source": 1}, "upon "], [], ["Only "], ["Only this"]]


class Refusal(BaseHTTPRequestHandler):
    """What a proxy answers whose API is away."""

    def do_GET(self) -> None:
        self.send_error(502)

    do_OPTIONS = do_GET

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def refuse_one(port: int) -> None:
    """Refuses the next request to a port."""
    with HTTPServer(("127.0.0.1", port), Refusal) as proxy:
        proxy.timeout = DEADLINE_SECONDS
        proxy.handle_request()


def wait_for_the_end(page: Page) -> None:
    """Until the browser has come back for more, and been told that there is none."""
    count = 1
    while page.until("error", count)["state"] != CLOSED:
        count += 1
    assert page.kinds()[-1] == "error"


def test_who_is_refused_does_not_come_back(api: Api, claim: Claim, tmp_path: Path) -> None:
    url = f"{api.url}/jobs/unknown/events"
    with opened(REFUSED.format(url=url), tmp_path) as page:
        page.until(f"{url} answered 404")


def test_the_page_shows_the_code_that_was_tried() -> None:
    blocks = re.findall(r"^```text\n(export .*?\n)```", read("following.md"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    assert all(block in EXAMPLE.read_text() for block in blocks)
