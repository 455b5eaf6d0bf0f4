"""A scripted provider as an HTTP endpoint: chat completions, embeddings and models, as OpenAI's API has them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from aijobs.testing.answers import Disconnection, Refusal, Tokens, Vectors
from aijobs.testing.script import Call, ProviderScript, ScriptEnded

CHAT, EMBEDDINGS, MODELS = "/v1/chat/completions", "/v1/embeddings", "/v1/models"

#: What nobody should try again: clients take it for their own mistake.
_WRONG = 400


class Endpoint:
    """Serves a script at `http://127.0.0.1:PORT/v1` within a `with` block.

    Any key will do. Clients that try again by themselves take several answers: give them `max_retries=0`.

    Args:
        script: the answers.
        models: the names that it lists.

    Raises:
        ScriptEnded: at the end of the block, when there were more calls than answers.

    Attributes:
        url: the base URL for a client.
    """

    def __init__(self, script: ProviderScript, models: Sequence[str]) -> None:
        self._script = script
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.script, self._server.models = script, models
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def calls(self) -> Sequence[Call]:
        """What came, in order; `kwargs` is the body."""
        return self._script.calls

    def close(self) -> None:
        """Stops it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self._server.overrun is not None:
            raise self._server.overrun


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    script: ProviderScript
    models: Sequence[str]
    overrun: ScriptEnded | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that are killed hang up in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Lists the models."""
        if self.path != MODELS:
            return self._refuse(404, f"There is no GET {self.path} here.")
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in self.server.models]
        return self._send(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        """Answers a call from the script."""
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path not in (CHAT, EMBEDDINGS):
            return self._refuse(404, f"There is no POST {self.path} here.")
        try:
            body = json.loads(text)
        except ValueError:
            return self._refuse(_WRONG, "The body is not JSON.")
        try:
            answer = self.server.script.take(kwargs=body, path=self.path)
            self._answer(answer(**body) if callable(answer) else answer, body)
        except ScriptEnded as error:
            self.server.overrun = error
            self._refuse(_WRONG, str(error))
        except AssertionError as error:
            self._refuse(_WRONG, str(error))
        return None

    def _answer(self, answer: Any, body: Mapping[str, Any]) -> None:
        if isinstance(answer, Tokens) and not body.get("stream"):
            # Who asks for all of it at once hears of the mishap alone.
            answer = answer.then or answer.text
        if isinstance(answer, Disconnection | Exception):
            self._hang_up()
        elif isinstance(answer, Refusal):
            self._send(answer.status, answer.body, answer.headers)
        elif self.path == EMBEDDINGS:
            self._send(200, _embeddings(answer, body))
        elif body.get("stream"):
            self._stream(answer if isinstance(answer, Tokens) else Tokens([_text(answer)]), body)
        elif isinstance(answer, Mapping) and "choices" in answer:
            self._send(200, answer)
        else:
            self._send(200, _completion(_text(answer), body))

    def _stream(self, answer: Tokens, body: Mapping[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for chunk in _chunks(answer, body):
            self._chunk(f"data: {json.dumps(chunk)}\n\n")
            time.sleep(answer.pause_seconds)
        if isinstance(answer.then, Disconnection):
            return self._hang_up()
        self._chunk(f"data: {json.dumps(answer.then.body) if answer.then else '[DONE]'}\n\n")
        return self._chunk("")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def _refuse(self, status: int, message: str) -> None:
        self._send(status, Refusal(status, "invalid_request_error", message).body)

    def _send(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Says nothing: `calls` has it."""


def _text(answer: Any) -> str:
    if isinstance(answer, Vectors):
        raise AssertionError("The script's answer to this chat completion is vectors.")  # noqa: TRY004
    return answer if isinstance(answer, str) else json.dumps(answer)


def _head(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-script", "object": kind, "created": int(time.time()), "model": body.get("model", "")}


def _usage(prompt: Any, text: str = "") -> dict[str, int]:
    # About four characters are a token.
    asked, told = -(-len(json.dumps(prompt)) // 4), -(-len(text) // 4)
    return {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}


def _completion(text: str, body: Mapping[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**_head("chat.completion", body), "choices": [choice], "usage": _usage(body.get("messages"), text)}


def _chunks(answer: Tokens, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    head = _head("chat.completion.chunk", body)

    def chunk(delta: Mapping[str, str], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for part in answer.parts:
        yield chunk({"content": part})
    if answer.then is None:
        yield chunk({}, "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": _usage(body.get("messages"), answer.text)}


def _embeddings(answer: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("input") or []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(answer, Vectors):
        raise AssertionError(f"The script's answer to these embeddings is no vectors(…): {answer!r}")  # noqa: TRY004
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(answer.of(texts))]
    return {"object": "list", "data": data, "model": body.get("model", ""), "usage": _usage(texts)}
