"""The agent's whole way: questions over HTTP, a worker of each pool, and a provider that is at times in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from document_ingestion.demo_events import Event
from tests.examples.agent_app import KEY, QUESTION, AgentApp, kill, paid, started
from tests.helpers import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentApp]:
    with started(tmp_path_factory.mktemp("agent").resolve()) as app:
        yield app


def named(events: list[Event], name: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.name == name]


def text_of(events: list[Event]) -> str:
    """What is written at the end: an attempt's text is void when the next one begins."""
    text = ""
    for event in events:
        if event.name == "job.attempt":
            text = ""
        elif event.name == "job.output":
            text += event.data.get("text", "")
    return text


def check_whole(app: AgentApp, events: list[Event], reports: int = 1) -> dict[str, Any]:
    """A job that ended well: its report is what was streamed, and no step was paid twice."""
    job = events[-1].data
    assert job["status"] == "success", job
    result: dict[str, Any] = job["result"]
    assert result["report"] == text_of(events)
    assert "Green tea is heated early" in result["report"]
    assert "tea.md" in result["sources"]
    counts = paid(app.calls())
    assert {name for name, times in counts.items() if times > 1} <= {f"report: {result['question']} (2)"}
    assert sum(times for name, times in counts.items() if name.startswith("report")) == reports
    return result


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_a_question_is_answered_while_one_watches(app: AgentApp, pool: str) -> None:
    app.follow_script(token_seconds=0.02)
    with app.worker(pool):
        events = list(app.events(app.ask()))
    result = check_whole(app, events)
    assert result["question"] == QUESTION
    assert result["prompt_tokens"] > result["completion_tokens"] > 0
    data = [piece["data"] for piece in named(events, "job.output") if "data" in piece]
    assert data[0] == {"question": QUESTION}
    assert data[1]["plan"][0] == QUESTION
    assert [found["finding"]["question"] for found in data[2:]] == data[1]["plan"]
    messages = [line["message"] for line in named(events, "job.log")]
    assert messages[0] == f"Planned {len(data[1]['plan'])} questions"
    assert f"Searched the notes for “{QUESTION}”" in messages
    assert {"plan", "report"} <= {progress["progress_detail"]["step"] for progress in named(events, "job.progress")}
    assert KEY not in str(events)


def test_a_report_comes_token_by_token(app: AgentApp) -> None:
    app.follow_script(token_seconds=0.05)
    with app.worker():
        job = app.ask()
        first = app.until_written(job, 1)
        assert not first["finished"]
        texts = [piece for piece in named(list(app.events(job)), "job.output") if "text" in piece]
    assert len(texts) >= 10


def test_a_provider_that_asks_to_wait_is_obeyed_and_no_step_is_paid_twice(app: AgentApp) -> None:
    waits = 2.0
    app.follow_script(troubles=[{"kind": "answer", "retry_after": waits}, {"kind": "report", "retry_after": waits}])
    with app.worker():
        events = list(app.events(app.ask()))
    check_whole(app, events)
    waiting = [status for status in named(events, "job.status") if status.get("error_code") == "rate_limited"]
    assert [(status["status"], status["scheduled_at"] is not None) for status in waiting] == [("queued", True)] * 2
    calls = app.calls()
    for refused in (call for call in calls if call["state"] == "refused"):
        again = next(call for call in calls if call["at"] > refused["at"])
        assert (again["kind"], again["about"]) == (refused["kind"], refused["about"])
        assert again["at"] - refused["at"] >= waits


@pytest.mark.parametrize(
    ("trouble", "reports"),
    [
        ({"kind": "answer", "status": 503}, 1),
        ({"kind": "report", "status": 200, "break_after": 5}, 2),
    ],
    ids=["503", "broken off"],
)
def test_a_provider_that_fails_is_tried_again(app: AgentApp, trouble: dict[str, Any], reports: int) -> None:
    app.follow_script(troubles=[trouble])
    with app.worker():
        events = list(app.events(app.ask()))
    check_whole(app, events, reports)
    assert events[-1].data["attempt"] == 2


def test_a_wrong_key_fails_at_once_and_is_told_to_nobody(app: AgentApp) -> None:
    app.follow_script(api_key="sk-another")
    with app.worker():
        events = list(app.events(app.ask()))
    job = events[-1].data
    assert (job["status"], job["attempt"], job["error"]["retryable"]) == ("failed", 1, False)
    assert "401" in job["error"]["message"]
    assert "OPENAI_API_KEY" in job["error"]["message"]
    assert KEY not in str(events)


def test_another_worker_goes_on_where_a_killed_one_was(app: AgentApp) -> None:
    app.follow_script(token_seconds=0.05)
    with app.worker() as first:
        job = app.ask()
        before = app.until_written(job)
        kill(first)
    app.follow_script()
    with app.worker():
        events = list(app.events(job))
    check_whole(app, events, reports=2)
    assert named(events, "job.attempt") == [
        {"seq": named(events, "job.attempt")[0]["seq"], "job_id": job["job_id"], "attempt": 2}
    ]
    assert before["attempt"] == 1
    assert events[-1].data["result"]["report"].startswith(before["text"])


def test_a_worker_killed_between_steps_costs_the_call_in_flight_and_no_other(app: AgentApp) -> None:
    app.follow_script(thinking_seconds=0.5)
    with app.worker("prefork") as first:
        job = app.ask()
        wait_until(lambda: len(app.calls()) >= 4, "the second question")
        kill(first)
    app.follow_script()
    with app.worker("prefork"):
        end = list(app.events(job))[-1].data
    assert (end["status"], end["attempt"]) == ("success", 2)
    counts = paid(app.calls())
    assert sum(counts.values()) - len(counts) <= 1
    assert all(times == 1 for name, times in counts.items() if name.startswith("plan"))


@pytest.mark.parametrize("pool", ["asyncio", "prefork"])
def test_a_cancelled_agent_closes_its_connection(app: AgentApp, pool: str) -> None:
    app.follow_script(token_seconds=0.2)
    with app.worker(pool):
        job = app.ask()
        app.until_written(job)
        assert app.client.post(job["urls"]["cancel"]).status_code == 202
        end = list(app.events(job))[-1].data
        assert (end["status"], end["error"]["code"]) == ("revoked", "cancelled")
        closed = wait_until(
            lambda: [call for call in app.calls() if call["state"] == "closed"], "the end of the stream"
        )
    assert [call["kind"] for call in closed] == ["report"]


def test_many_questions_wait_for_the_provider_at_the_same_time(app: AgentApp) -> None:
    app.follow_script(thinking_seconds=0.5)
    with app.worker():
        jobs = [app.ask() for _ in range(10)]
        ends = [list(app.events(job))[-1].data for job in jobs]
    assert [end["status"] for end in ends] == ["success"] * 10
    # Each takes eight calls of half a second; one after the other they would take ten times as long.
    started_at = max(end["started_at"] for end in ends)
    assert started_at < min(end["completed_at"] for end in ends)


def test_the_page_may_run_nothing_but_its_own_script(app: AgentApp, tmp_path: Path) -> None:
    response = app.client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in response.text
    assert "://" not in response.text.replace("http://www.w3.org", "")
    for script in ("agent.js", "stream.js", "text.js"):
        assert "HTML = " not in app.client.get(f"/{script}").raise_for_status().text
