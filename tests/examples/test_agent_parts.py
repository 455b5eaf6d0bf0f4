"""The agent's parts: its library, its client, its settings, and the provider that costs nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import ValidationError
from typing_extensions import override

from agent.chat import BadAnswer, ChatClient, Message, Refused
from agent.config import Settings
from agent.fake_answers import answer, tokens
from agent.fake_script import Call, Log, Script, Trouble
from agent.notes import Library, Passage, open_library, words
from agent.research import Report, Researcher
from aijobs import ProgressTask
from aijobs.providers import AdviceKind, read_advice
from aijobs.testing import run_job
from tests.examples.document_files import BREAD, COFFEE, TEA

KEY = "sk-not-for-anyone-else"
HELLO = [Message(role="user", content="Hello")]


# The library


def test_paragraphs_items_and_rows_are_found_and_code_is_not(tmp_path: Path) -> None:
    table = f"| drink | how |\n|---|---|\n| tea | {TEA} |\n"
    text = f"# Drinks\n\n- {COFFEE}\n- [Bread](bread.md): **{BREAD}**\n\n{table}\n```python\nsecret_code()\n```\n"
    (tmp_path / "drinks.md").write_text(text)
    library = open_library(tmp_path)
    assert library.search("How is green tea heated?", 1) == [Passage("drinks.md", "Drinks", f"Tea: {TEA}")]
    assert library.search("sourdough", 1) == [Passage("drinks.md", "Drinks", f"Bread: {BREAD}")]
    assert library.search("secret_code") == library.search("the of and") == library.search("") == []
    assert library.contents() == {"drinks.md": ["Drinks"]}


def test_an_empty_library_has_nothing() -> None:
    assert Library([]).search("tea") == []


def test_words_are_compared_without_their_endings() -> None:
    assert words("Who is killing the Workers?") == ["kill", "worker"]


# The settings


def test_a_key_is_shown_in_no_error_and_no_text() -> None:
    with pytest.raises(ValidationError, match="OPENAI_API_KEY") as error:
        Settings.from_env({"OPENAI_API_KEY": f"{KEY}\n"})
    assert KEY not in str(error.value)
    with pytest.raises(ValidationError, match="OPENAI_BASE_URL") as error:
        Settings.from_env({"OPENAI_BASE_URL": f"https://user:{KEY}@example.org/v1"})
    assert KEY not in str(error.value)
    with pytest.raises(ValidationError, match="http://"):
        Settings.from_env({"OPENAI_BASE_URL": "api.openai.com/v1"})
    assert KEY not in repr(Settings.from_env({"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "  "}))


# The client


class Endpoint:
    """What an endpoint is to answer, and what it was asked."""

    def __init__(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.answer = (status, text, headers)
        self.requests: list[dict[str, Any]] = []


@contextmanager
def endpoint(status: int, text: str, **headers: str) -> Iterator[tuple[Endpoint, ChatClient]]:
    """A server that answers each request alike, and a client of it."""
    made = Endpoint(status, text, {name.replace("_", "-"): value for name, value in headers.items()})
    handler = type("Handler", (_Handler,), {"endpoint": made})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/v1/"
        try:
            yield made, ChatClient(Settings.from_env({"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY}))
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.endpoint.requests.append({"path": self.path, "key": self.headers["Authorization"], **body})
        status, text, headers = self.endpoint.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def chunk(**choice: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, 'finish_reason': None, **choice}]})}\n\n"


async def streamed(client: ChatClient) -> tuple[str, int]:
    async with client:
        stream = client.stream(HELLO)
        return "".join([token async for token in stream]), stream.usage.completion_tokens


@pytest.mark.anyio
async def test_an_answer_is_read_with_what_it_cost() -> None:
    message = {"role": "assistant", "content": "Hello yourself", "refusal": None}
    text = json.dumps({"choices": [{"message": message}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    with endpoint(200, text) as (made, client):
        async with client:
            reply = await client.ask(HELLO, temperature=0)
    assert (reply.message.content, reply.usage.prompt_tokens) == ("Hello yourself", 3)
    request = made.requests[0]
    assert (request["path"], request["key"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (request["temperature"], request["messages"]) == (0, [{"role": "user", "content": "Hello"}])


@pytest.mark.anyio
async def test_a_stream_is_read_token_by_token_with_what_it_cost() -> None:
    text = ": hello\n\n" + chunk(delta={"role": "assistant", "content": ""}) + chunk(delta={"content": "Good "})
    text += chunk(delta={"content": "day"}) + chunk(finish_reason="stop")
    text += 'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\ndata: [DONE]\n\n'
    with endpoint(200, text) as (_, client):
        assert await streamed(client) == ("Good day", 2)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (chunk(delta={"content": "Half an"}), ConnectionError),
        (chunk(delta={"content": "Half an"}) + 'data: {"error": {"type": "server_error"}}\n\n', Refused),
        ("data: hello\n\n", BadAnswer),
        ("<html>", ConnectionError),
    ],
)
async def test_half_an_answer_is_not_taken_for_a_whole_one(text: str, error: type[Exception]) -> None:
    with endpoint(200, text) as (_, client):
        with pytest.raises(error) as caught:
            await streamed(client)
    expected = AdviceKind.UNKNOWN if error is BadAnswer else AdviceKind.TRANSIENT
    assert read_advice(caught.value).kind is expected


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "text", "kind", "wait"),
    [
        (429, '{"error": {"code": "rate_limit_exceeded"}}', AdviceKind.RATE_LIMITED, 7.0),
        (429, '{"error": {"code": "insufficient_quota"}}', AdviceKind.FATAL, None),
        (401, "no JSON", AdviceKind.FATAL, None),
        (502, "<html>", AdviceKind.TRANSIENT, 7.0),
    ],
)
async def test_a_refusal_says_all_that_is_needed_to_decide(
    status: int, text: str, kind: AdviceKind, wait: float | None
) -> None:
    with endpoint(status, text, Retry_After="7") as (_, client):
        async with client:
            with pytest.raises(Refused, match=f"answered {status} ") as whole:
                await client.ask(HELLO)
            with pytest.raises(Refused) as stream:
                await anext(aiter(client.stream(HELLO)))
    for caught in (whole, stream):
        advice = read_advice(caught.value)
        assert (advice.kind, advice.wait_seconds) == (kind, wait)
        assert KEY not in str(caught.value)


@pytest.mark.anyio
async def test_an_endpoint_that_is_not_there_is_tried_again() -> None:
    client = ChatClient(Settings.from_env({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}))
    async with client:
        for asking in (client.ask(HELLO), anext(aiter(client.stream(HELLO)))):
            with pytest.raises(ConnectionError, match="OPENAI_BASE_URL") as caught:
                await asking
            assert read_advice(caught.value).kind is AdviceKind.TRANSIENT


@pytest.mark.anyio
async def test_what_is_no_answer_is_said() -> None:
    with endpoint(200, "<html>") as (_, client):
        async with client:
            with pytest.raises(BadAnswer, match="OPENAI_BASE_URL"):
                await client.ask(HELLO)


# The agent


@pytest.mark.parametrize("content", ["no JSON", "{}", '{"questions": []}'])
def test_a_plan_that_cannot_be_read_is_no_plan_and_is_not_kept(content: str) -> None:
    app = Celery("agent", set_as_current=False)
    text = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})
    with endpoint(200, text) as (made, client):

        @app.task(base=ProgressTask, bind=True)
        async def research(self: ProgressTask, question: str) -> Report:
            async with client:
                return await Researcher(self, client, Library([])).research(question)

        run = run_job(research, "Why?")
    assert (run.status, run.kept, len(made.requests)) == ("failed", {}, 1)
    assert run.error
    assert run.error.message.startswith("BadAnswer: The model made no plan")


# The provider that costs nothing


def test_tokens_are_the_text() -> None:
    for text in ("", " ", "one", "# A title\n\nIt is extraordinarily long.\n", "  two  "):
        assert "".join(tokens(text)) == text


def test_a_script_says_which_calls_meet_trouble() -> None:
    log = Log(Script(troubles=(Trouble(kind="answer", start=2), Trouble(status=503, start=4, every=3, count=2))))
    kinds = ["plan", "answer", "answer", "plan", *["other"] * 6]
    met = [log.add(Call(kind, "")) for kind in kinds]  # type: ignore[arg-type]
    assert [trouble and trouble.status for trouble in met] == [None, None, 429, 503, None, None, 503, None, None, None]


def test_it_says_so_when_it_has_found_nothing() -> None:
    messages = [Message(role="user", content="Why?"), Message(role="tool", content="[]", tool_call_id="call_1")]
    assert answer("answer", messages).content == "The notes do not say anything about it."
    assert "demonstrations" in str(answer("other", messages).content)
    assert json.loads(answer("plan", messages).content or "") == {"questions": ["Why?"]}
