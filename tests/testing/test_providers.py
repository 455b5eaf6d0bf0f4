"""Scripted providers: in place of a client, and as an endpoint over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from celery import Celery

from aijobs import LLM_CALL, ProgressTask
from aijobs.providers import AdviceKind, read_advice
from aijobs.testing import (
    ProviderScript,
    ScriptEnded,
    bad_request,
    disconnected,
    overloaded,
    rate_limited,
    run_job,
    scripted,
    server_error,
    tokens,
    unauthorized,
    vectors,
)
from aijobs.testing.endpoint import Endpoint


class TestInPlaceOfAClient:
    def test_answers_come_in_order_and_calls_are_remembered(self) -> None:
        ask = scripted("one", {"two": 2}, [3])
        assert [ask("first", model="small"), ask(), ask()] == ["one", {"two": 2}, [3]]
        assert [(call.number, call.args, call.kwargs) for call in ask.calls[:1]] == [
            (1, ("first",), {"model": "small"})
        ]
        ask.assert_done()

    @pytest.mark.parametrize(
        ("answer", "status", "kind", "wait"),
        [
            (rate_limited(retry_after=20), 429, AdviceKind.RATE_LIMITED, 20.0),
            (rate_limited(), 429, AdviceKind.RATE_LIMITED, None),
            (overloaded(retry_after=1.5), 529, AdviceKind.RATE_LIMITED, 1.5),
            (server_error(), 500, AdviceKind.TRANSIENT, None),
            (server_error(503), 503, AdviceKind.TRANSIENT, None),
            (unauthorized(), 401, AdviceKind.FATAL, None),
            (bad_request(), 400, AdviceKind.FATAL, None),
        ],
        ids=lambda value: str(getattr(value, "status", value)),
    )
    def test_refusals_have_the_shape_of_clients_errors(
        self, answer: Any, status: int, kind: AdviceKind, wait: float | None
    ) -> None:
        with pytest.raises(Exception, match=f"Error code: {status}") as caught:
            scripted(answer)()
        error: Any = caught.value
        assert (error.status_code, error.response.status_code) == (status, status)
        assert error.response.json() == {"error": error.body}
        advice = read_advice(error)
        assert (advice.kind, advice.wait_seconds) == (kind, wait)

    def test_a_connection_breaks(self) -> None:
        with pytest.raises(ConnectionResetError):
            scripted(disconnected())()

    def test_tokens_are_iterated_over_in_both_colours(self) -> None:
        ask = scripted(tokens("a", "b"), tokens("c", "d"))

        async def read() -> list[str]:
            return [token async for token in await ask.call_async()]

        assert list(ask()) == ["a", "b"]
        assert asyncio.run(read()) == ["c", "d"]

    def test_an_answer_breaks_off_in_the_middle(self) -> None:
        answer = scripted(tokens("a", "b", then=disconnected()))()
        assert [next(answer), next(answer)] == ["a", "b"]
        with pytest.raises(ConnectionResetError):
            next(answer)

    def test_vectors_are_those_of_the_script_or_made_up(self) -> None:
        ask = scripted(vectors([1.0], [2.0]), vectors(dimensions=3), vectors(dimensions=3), vectors([1.0]))
        assert ask(["a", "b"]) == [[1.0], [2.0]]
        made_up = ask(input="a")
        assert made_up == ask(["a"])
        assert len(made_up[0]) == 3
        with pytest.raises(AssertionError, match="1 vectors for 2 texts"):
            ask(["a", "b"])

    def test_functions_and_exceptions_of_ones_own_are_answers(self) -> None:
        ask = scripted(lambda text: text.upper(), LookupError("none"))
        assert ask("a") == "A"
        with pytest.raises(LookupError):
            ask()

    def test_after_its_end_a_script_says_so(self) -> None:
        ask = scripted("only")
        ask()
        with pytest.raises(ScriptEnded, match="has 1 answers, and this is call number 2"):
            ask()
        with pytest.raises(ScriptEnded):
            ask.assert_done()

    def test_what_follows_the_script_is_said_with_then(self) -> None:
        ask = scripted(rate_limited(), then="fine")
        with pytest.raises(Exception, match="429"):
            ask()
        assert [ask(), ask()] == ["fine", "fine"]
        ask.assert_done()

    def test_answers_that_nobody_asked_for_are_named(self) -> None:
        with pytest.raises(AssertionError, match="has answers left"):
            scripted("one").assert_done()

    def test_a_task_outlives_a_bad_day_of_its_provider(self, app: Celery) -> None:
        ask = scripted(rate_limited(retry_after=20), server_error(), disconnected(), tokens("4", "2"))

        @app.task(base=ProgressTask, bind=True, shared=False, name="answer", **LLM_CALL.options())
        def answer(self: Any) -> Any:
            return self.stream(ask())

        run = run_job(answer)
        assert run.assert_success() == "42"
        assert 20.0 <= run.waits[0] <= 22.0
        assert run.attempts == 3
        ask.assert_done()

    def test_a_wrong_key_is_not_tried_again(self, app: Celery) -> None:
        ask = scripted(unauthorized())

        @app.task(base=ProgressTask, shared=False, name="answer", **LLM_CALL.but(retry_for=(Exception,)).options())
        def answer() -> Any:
            return ask()

        run = run_job(answer)
        assert run.error is not None
        assert (run.attempts, run.error.retryable) == (1, False)


class TestOverHttp:
    @pytest.fixture
    def client(self) -> Iterator[httpx.Client]:
        with httpx.Client(timeout=10) as client:
            yield client

    def chat(self, client: httpx.Client, endpoint: Endpoint, **body: Any) -> httpx.Response:
        body = {"model": "small", "messages": [{"role": "user", "content": "?"}], **body}
        return client.post(f"{endpoint.url}/chat/completions", json=body)

    def test_a_chat_completion(self, client: httpx.Client) -> None:
        with scripted("42").serve() as endpoint:
            answer = self.chat(client, endpoint).json()
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "42"}
        assert (answer["object"], answer["model"]) == ("chat.completion", "small")
        assert endpoint.calls[0].kwargs["messages"][0]["content"] == "?"
        assert endpoint.calls[0].path == "/v1/chat/completions"

    @pytest.mark.parametrize("answer", ["4", tokens("4")], ids=["text", "tokens"])
    def test_a_stream(self, client: httpx.Client, answer: Any) -> None:
        with scripted(answer).serve() as endpoint:
            told = self.streamed(client, endpoint, stream_options={"include_usage": True})
        assert told[-1] == "[DONE]"
        chunks = [json.loads(line) for line in told[:-1]]
        assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[:-1]] == ["", "4", None]
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["total_tokens"] > 0

    def test_a_stream_that_fails_in_the_middle(self, client: httpx.Client) -> None:
        with scripted(tokens("a", then=overloaded())).serve() as endpoint:
            told = self.streamed(client, endpoint)
        assert json.loads(told[-1])["error"]["type"] == "overloaded_error"

    def test_a_stream_that_breaks_off(self, client: httpx.Client) -> None:
        with scripted(tokens("a", then=disconnected())).serve() as endpoint, pytest.raises(httpx.RemoteProtocolError):
            self.streamed(client, endpoint)

    def test_who_wants_the_whole_answer_hears_of_the_failure_alone(self, client: httpx.Client) -> None:
        with scripted(tokens("a", then=overloaded()), tokens("a", "b")).serve() as endpoint:
            assert self.chat(client, endpoint).status_code == 529
            assert self.chat(client, endpoint).json()["choices"][0]["message"]["content"] == "ab"

    def test_refusals_and_broken_connections(self, client: httpx.Client) -> None:
        with scripted(rate_limited(retry_after=20), disconnected()).serve() as endpoint:
            refused = self.chat(client, endpoint)
            with pytest.raises(httpx.RemoteProtocolError):
                self.chat(client, endpoint)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "20")
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"

    def test_embeddings(self, client: httpx.Client) -> None:
        with scripted(vectors([1.0], [2.0])).serve() as endpoint:
            body = {"model": "small", "input": ["a", "b"]}
            answer = client.post(f"{endpoint.url}/embeddings", json=body).json()
        assert [one["embedding"] for one in answer["data"]] == [[1.0], [2.0]]

    def test_models(self, client: httpx.Client) -> None:
        with scripted().serve(models=["small", "large"]) as endpoint:
            answer = client.get(f"{endpoint.url}/models").json()
        assert [one["id"] for one in answer["data"]] == ["small", "large"]

    def test_answers_may_be_functions_of_the_request_or_whole_responses(self, client: httpx.Client) -> None:
        whole: dict[str, Any] = {"choices": [{"message": {"tool_calls": []}}]}
        with scripted(lambda model, **_: f"I am {model}", whole).serve() as endpoint:
            assert self.chat(client, endpoint).json()["choices"][0]["message"]["content"] == "I am small"
            assert self.chat(client, endpoint).json() == whole

    def test_a_call_after_the_end_is_refused_and_fails_the_block(self, client: httpx.Client) -> None:
        refused = []
        with pytest.raises(ScriptEnded, match="this is call number 1"), scripted().serve() as endpoint:
            refused.append(self.chat(client, endpoint))
        assert (refused[0].status_code, "this is call number 1" in refused[0].text) == (400, True)

    @pytest.mark.parametrize(("path", "answer"), [("chat/completions", vectors()), ("embeddings", "text")])
    def test_an_answer_that_does_not_fit_the_call_is_refused(
        self, client: httpx.Client, path: str, answer: Any
    ) -> None:
        with scripted(answer).serve() as endpoint:
            refused = client.post(f"{endpoint.url}/{path}", json={"input": "a"})
        assert refused.status_code == 400
        assert "The script's answer to" in refused.text

    def test_what_is_not_there_is_404(self, client: httpx.Client) -> None:
        with scripted().serve() as endpoint:
            assert client.get(f"{endpoint.url}/files").status_code == 404
            assert client.post(f"{endpoint.url}/files", json={}).status_code == 404
            assert client.post(f"{endpoint.url}/embeddings", content=b"{").status_code == 400

    def streamed(self, client: httpx.Client, endpoint: Endpoint, **more: Any) -> list[str]:
        body = {"model": "small", "messages": [], "stream": True, **more}
        with client.stream("POST", f"{endpoint.url}/chat/completions", json=body) as response:
            assert response.headers["content-type"] == "text/event-stream"
            return [line.removeprefix("data: ") for line in response.iter_lines() if line]


def test_a_script_can_be_shared_by_threads() -> None:
    ask = ProviderScript(list(range(100)))  # type: ignore[arg-type]

    async def everybody() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(100)))

    assert sorted(asyncio.run(everybody())) == list(range(100))
