"""Embeds texts at any endpoint that speaks the OpenAI embeddings API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Annotated, Self

import httpx
from pydantic import BaseModel, Field, ValidationError

from document_ingestion.embedding import EmbeddingError, Matrix, unit_rows

#: Texts sent in one request.
BATCH = 64
#: Answers that a later try may change; every other refusal stays one.
TEMPORARY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class EmbeddingUnavailable(EmbeddingError):
    """The endpoint does not answer now; trying again later may help."""


class _Row(BaseModel):
    index: int
    embedding: Annotated[list[float], Field(min_length=1)]


class _Answer(BaseModel):
    data: list[_Row]


class HttpEmbedder:
    """Embeds with a model behind an OpenAI-compatible endpoint.

    Args:
        url: the API's base, such as `https://api.openai.com/v1`; `/embeddings` is added.
        model: the model's name there.
        api_key: sent as a bearer token; None for an endpoint that takes none.
        batch: the most texts per request.
        timeout: how long one request may take, in seconds.

    Raises:
        EmbeddingError: the key cannot be sent as it is, or the URL has one in it.
    """

    def __init__(
        self, url: str, model: str, api_key: str | None = None, *, batch: int = BATCH, timeout: float = 30.0
    ) -> None:
        if api_key and not (api_key.isascii() and api_key.isprintable()):
            raise EmbeddingError("EMBEDDINGS_API_KEY has characters that no key has, such as a line break.")
        if "@" in url.partition("//")[2].partition("/")[0]:
            raise EmbeddingError("EMBEDDINGS_URL has a user in it: a key belongs into EMBEDDINGS_API_KEY.")
        self.url = f"{url.rstrip('/')}/embeddings"
        self.model = model
        self.batch = batch
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)

    @property
    def name(self) -> str:
        """Names the vector space: the same model is taken to be the same wherever it runs."""
        return self.model

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Embeds each text, batch by batch.

        Raises:
            EmbeddingUnavailable: the endpoint cannot be reached or is overloaded.
            EmbeddingError: it refused, or its answer makes no sense.
        """
        batches = (texts[start : start + self.batch] for start in range(0, len(texts), self.batch))
        return unit_rows([row for batch in batches for row in self._embed(batch)])

    def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        response = self._post({"model": self.model, "input": list(texts)})
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            # Its cause tells the job how long the endpoint asks to wait.
            raise self._refused(response) from error
        try:
            rows = _Answer.model_validate_json(response.content).data
        except ValidationError as error:
            raise EmbeddingError(f"{self.url} is no embeddings API, by its answer; check EMBEDDINGS_URL.") from error
        return _in_order(rows, len(texts), self.url)

    def _post(self, body: dict[str, object]) -> httpx.Response:
        try:
            return self._client.post(self.url, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise EmbeddingError(f"EMBEDDINGS_URL is not the URL of an API: {error}") from error
        except httpx.HTTPError as error:
            raise EmbeddingUnavailable(f"{self.url} cannot be reached ({type(error).__name__}: {error}).") from error

    def _refused(self, response: httpx.Response) -> EmbeddingError:
        kind = EmbeddingUnavailable if response.status_code in TEMPORARY else EmbeddingError
        hint = _HINTS.get(response.status_code, "")
        return kind(f"{self.url} answered {response.status_code} for model {self.model!r}. {hint}".rstrip())

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_HINTS = {
    401: "Check EMBEDDINGS_API_KEY.",
    403: "Check EMBEDDINGS_API_KEY.",
    404: "Check EMBEDDINGS_URL and EMBEDDINGS_MODEL.",
}


def _in_order(rows: list[_Row], count: int, url: str) -> list[list[float]]:
    """The rows in the order of the texts, whatever order they came in."""
    vectors = {row.index: row.embedding for row in rows}
    if sorted(vectors) != list(range(count)):
        raise EmbeddingError(f"{url} answered {len(rows)} vectors for {count} texts.")
    if len({len(vector) for vector in vectors.values()}) != 1 or not all(map(_usable, vectors.values())):
        raise EmbeddingError(f"{url} answered vectors of different lengths, of zeros, or not finite.")
    return [vectors[index] for index in range(count)]


def _usable(vector: list[float]) -> bool:
    return 0 < math.hypot(*vector) < math.inf
