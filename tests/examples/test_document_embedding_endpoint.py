"""The example's embedder for OpenAI-compatible endpoints, against a real one on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from document_ingestion.config import Settings
from document_ingestion.embedding import EmbeddingError, HashingEmbedder
from document_ingestion.http_embedding import EmbeddingUnavailable, HttpEmbedder
from document_ingestion.ingestion import open_embedder

KEY = "the-secret-key"


@dataclass
class Endpoint:
    """What the endpoint was asked, and how it is to answer."""

    url: str
    status: int = 200
    body: bytes | None = None
    delay: threading.Event | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: dict[str, Any]) -> bytes:
        """One vector per text, made of its length; the last text first, as the API allows."""
        rows = [{"index": index, "embedding": [len(text), 1.0]} for index, text in enumerate(request["input"])]
        return json.dumps({"object": "list", "data": rows[::-1]}).encode() if self.body is None else self.body


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A server at a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append({**request, "path": self.path, "authorization": self.headers["Authorization"]})
            if state.delay:
                state.delay.wait(30)
            body = state.answer(request)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state = Endpoint(f"http://127.0.0.1:{server.server_address[1]}/v1")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield state
        if state.delay:
            state.delay.set()
        server.shutdown()
        thread.join()


def test_texts_are_sent_in_batches_and_come_back_in_order(endpoint: Endpoint) -> None:
    with HttpEmbedder(endpoint.url + "/", "small", KEY, batch=2) as embedder:
        vectors = embedder.embed(["a", "bb", "ccc"])
        assert embedder.name == "small"
    assert vectors[:, 0] / vectors[:, 1] == pytest.approx([1, 2, 3])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1])
    asked = {"model": "small", "path": "/v1/embeddings", "authorization": f"Bearer {KEY}"}
    assert endpoint.requests == [{"input": ["a", "bb"], **asked}, {"input": ["ccc"], **asked}]


def test_without_a_key_none_is_sent(endpoint: Endpoint) -> None:
    with HttpEmbedder(endpoint.url, "small") as embedder:
        embedder.embed(["a"])
    assert endpoint.requests[0]["authorization"] is None


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, EmbeddingError, "answered 401 .* Check EMBEDDINGS_API_KEY"),
        (404, EmbeddingError, "answered 404 .* Check EMBEDDINGS_URL"),
        (400, EmbeddingError, "answered 400"),
        (302, EmbeddingError, "answered 302"),
        (429, EmbeddingUnavailable, "answered 429"),
        (503, EmbeddingUnavailable, "answered 503"),
    ],
)
def test_a_refusal_says_what_to_check_and_never_the_key(
    endpoint: Endpoint, status: int, kind: type[EmbeddingError], message: str
) -> None:
    endpoint.status = status
    with (
        HttpEmbedder(endpoint.url, "small", KEY) as embedder,
        pytest.raises(EmbeddingError, match=message) as error,
    ):
        embedder.embed(["a"])
    assert error.type is kind
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": [0, 0]}, {"index": 1, "embedding": [1, 1]}]}',
        b'{"data": [{"index": 0, "embedding": [NaN, 0]}, {"index": 1, "embedding": [1, 1]}]}',
        b'{"data": [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [1]}]}',
        b'{"data": [{"index": 1, "embedding": [1]}, {"index": 7, "embedding": [1]}]}',
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(endpoint: Endpoint, body: bytes) -> None:
    endpoint.body = body
    with HttpEmbedder(endpoint.url, "small") as embedder, pytest.raises(EmbeddingError):
        embedder.embed(["a", "b"])


def test_an_endpoint_that_takes_too_long_is_unavailable(endpoint: Endpoint) -> None:
    endpoint.delay = threading.Event()
    with HttpEmbedder(endpoint.url, "small", timeout=0.1) as embedder, pytest.raises(EmbeddingUnavailable):
        embedder.embed(["a"])


def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    with (
        HttpEmbedder("http://127.0.0.1:9/v1", "small") as embedder,
        pytest.raises(EmbeddingUnavailable, match="reach"),
    ):
        embedder.embed(["a"])


@pytest.mark.parametrize("url", ["not a url", "ftp://example.org", "http://[::1", "http://example.org:port"])
def test_a_url_that_is_none_is_an_error(url: str) -> None:
    with pytest.raises(EmbeddingError, match="EMBEDDINGS_URL"), HttpEmbedder(url, "small") as embedder:
        embedder.embed(["a"])


@pytest.mark.parametrize("key", [f"{KEY}\nHost: example.org", f"{KEY}é"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(endpoint: Endpoint, key: str) -> None:
    with pytest.raises(EmbeddingError, match="EMBEDDINGS_API_KEY") as error:
        HttpEmbedder(endpoint.url, "small", key)
    assert KEY not in str(error.value)


def test_a_key_in_the_url_is_refused_without_being_shown() -> None:
    with pytest.raises(EmbeddingError, match="EMBEDDINGS_API_KEY") as error:
        HttpEmbedder(f"https://user:{KEY}@example.org/v1", "small")
    assert KEY not in str(error.value)


def test_the_settings_choose_the_embedder(endpoint: Endpoint) -> None:
    with open_embedder(Settings.from_env({"EMBEDDINGS_URL": "  "})) as embedder:
        assert isinstance(embedder, HashingEmbedder)
    environ = {"EMBEDDINGS_URL": endpoint.url, "EMBEDDINGS_MODEL": "large", "EMBEDDINGS_API_KEY": KEY}
    settings = Settings.from_env(environ)
    with open_embedder(settings) as embedder:
        assert embedder.embed(["a"]).shape == (1, 2)
    assert endpoint.requests[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(settings)
