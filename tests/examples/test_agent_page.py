"""The page in a real browser: tokens, reloads, a lost worker, a wait, a cancel, and texts that mean no good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.demo_processes import api
from tests.examples import chromium
from tests.examples.agent_app import QUESTION, AgentApp, kill, paid, started
from tests.examples.chromium import Browser
from tests.helpers import wait_until

pytestmark = pytest.mark.timeout(180)

REPORT = "document.querySelector('#report').innerText"
STATUS = "document.querySelector('#status').innerText"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentApp]:
    with started(tmp_path_factory.mktemp("agent").resolve()) as app:
        yield app


@pytest.fixture
def browser(app: AgentApp, tmp_path: Path) -> Iterator[Browser]:
    with chromium.started(tmp_path) as browser:
        browser.open(f"{app.client.base_url}/")
        browser.until("document.readyState === 'complete'")
        yield browser
        assert browser.errors == []


def ask(app: AgentApp, browser: Browser, question: str = QUESTION) -> str:
    """Asks on the page, and gives the job's id."""
    app.before = len(app.calls()) + app.before
    browser.fill("#question", question)
    browser.click("#ask button")
    return str(browser.until("new URLSearchParams(location.search).get('job')"))


def until_written(browser: Browser, characters: int = 30) -> str:
    """What is written of the report, once there is so much of it."""
    browser.until("!!document.querySelector('#report h3')")
    return str(browser.until(f"{REPORT}.length > {characters} ? {REPORT} : ''"))


def result(app: AgentApp, job_id: str) -> dict[str, Any]:
    value: dict[str, Any] = app.client.get(f"/jobs/{job_id}/result").raise_for_status().json()
    return value


def plain(markdown: str) -> str:
    """What a page shows of a report, all white space apart."""
    return "".join(markdown.replace("**", "").replace("#", "").replace("- ", "").split())


def test_what_is_written_is_seen_at_once_and_survives_a_reload(app: AgentApp, browser: Browser) -> None:
    app.follow_script(token_seconds=0.1)
    with app.worker():
        job_id = ask(app, browser)
        before = until_written(browser)
        assert browser.run(STATUS) == "running"
        browser.open(browser.run("location.href"))
        after = until_written(browser)
        assert plain(after).startswith(plain(before))
        browser.until("document.querySelector('#log').innerText.includes('Planned')")
        app.follow_script()
        browser.until(f"{STATUS} === 'success'")
    report = result(app, job_id)["report"]
    assert plain(browser.text("#report")) == plain(report)
    assert browser.text("#asked") == QUESTION
    states = browser.run("[...document.querySelectorAll('#steps li')].map(one => one.dataset.state)")
    assert states == ["done"] * 5
    assert browser.run("document.querySelector('#cancel').hidden")
    browser.open(browser.run("location.href"))
    browser.until(f"{STATUS} === 'success'")
    assert plain(browser.text("#report")) == plain(report)


def test_a_lost_worker_is_a_new_attempt_that_pays_no_step_again(app: AgentApp, browser: Browser) -> None:
    app.follow_script(token_seconds=0.1)
    with app.worker() as first:
        job_id = ask(app, browser)
        until_written(browser, 60)
        kill(first)
    app.follow_script()
    browser.until("document.querySelector('#doing').innerText.includes('nothing new')")
    with app.worker():
        browser.until("document.querySelector('#attempt').innerText === 'attempt 2'")
        browser.until("document.querySelector('#log').innerText.includes('attempt 2')")
        browser.until(f"{STATUS} === 'success'")
    assert plain(browser.text("#report")) == plain(result(app, job_id)["report"])
    assert {name: times for name, times in paid(app.calls()).items() if times > 1} == {f"report: {QUESTION} (2)": 2}


def test_the_page_comes_back_after_the_api_has_gone(app: AgentApp, browser: Browser, tmp_path: Path) -> None:
    app.follow_script(token_seconds=0.1)
    with app.worker(), ExitStack() as first:
        service, url = first.enter_context(api(app.env, tmp_path, port=0))
        wait_until(lambda: answers(url), "the API")
        browser.open(f"{url}/")
        browser.until("document.readyState === 'complete'")
        job_id = ask(app, browser)
        until_written(browser)
        service.process.kill()
        browser.until("document.querySelector('#connection').innerText.includes('lost')")
        service.process.wait()
        with api(app.env, tmp_path, port=int(url.rpartition(":")[2])):
            browser.until("document.querySelector('#connection').hidden")
            app.follow_script()
            browser.until(f"{STATUS} === 'success'")
            assert plain(browser.text("#report")) == plain(result(app, job_id)["report"])


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_a_wait_for_the_provider_is_shown(app: AgentApp, browser: Browser) -> None:
    app.follow_script(troubles=[{"kind": "answer", "retry_after": 3}])
    with app.worker():
        ask(app, browser)
        browser.until("!document.querySelector('#waiting').hidden")
        assert "The provider asked to wait" in browser.text("#waiting")
        assert browser.run(STATUS) == "queued"
        browser.until(f"{STATUS} === 'success'")
        assert browser.text("#waiting") == ""


def test_cancel_ends_the_job_and_the_call(app: AgentApp, browser: Browser) -> None:
    app.follow_script(token_seconds=0.2)
    with app.worker():
        ask(app, browser)
        until_written(browser)
        browser.click("#cancel")
        browser.until(f"{STATUS} === 'revoked'")
        assert browser.text("#failure") == "It was cancelled."
        wait_until(lambda: app.calls()[-1]["state"] == "closed", "the end of the stream")


def test_a_failure_says_why(app: AgentApp, browser: Browser) -> None:
    app.follow_script(api_key="sk-another")
    with app.worker():
        ask(app, browser)
        browser.until(f"{STATUS} === 'failed'")
    assert "OPENAI_API_KEY" in browser.text("#failure")


def test_texts_are_never_taken_for_html(app: AgentApp, browser: Browser) -> None:
    app.follow_script()
    nasty = "How is <img src=x onerror=\"document.title='caught'\"> <b>tea</b> dried?"
    with app.worker():
        ask(app, browser, nasty)
        browser.until(f"{STATUS} === 'success'")
    assert browser.text("#asked") == nasty
    assert nasty in browser.text("#report")
    assert browser.run("document.querySelectorAll('#job img, #job b').length") == 0
    assert browser.run("document.title") == "Research agent"


def test_what_is_refused_and_what_is_unknown_is_said(app: AgentApp, browser: Browser) -> None:
    browser.run("document.querySelector('#question').removeAttribute('minlength')")
    browser.fill("#question", "?")
    browser.click("#ask button")
    browser.until("!document.querySelector('#refusal').hidden")
    browser.open(f"{app.client.base_url}/?job=unknown")
    browser.until("document.querySelector('#connection').innerText.includes('not known')")
