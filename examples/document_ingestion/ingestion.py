"""What the job does: one document after the other from its file into the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import TypedDict

from document_ingestion.chunking import chunk_text
from document_ingestion.config import Settings
from document_ingestion.documents import DocumentError, Problem, read_document
from document_ingestion.embedding import Embedder, HashingEmbedder, Matrix
from document_ingestion.http_embedding import HttpEmbedder
from document_ingestion.parsing import parse
from document_ingestion.vectors import Entry, VectorStore


class Failure(TypedDict):
    """A document that could not be ingested."""

    path: str
    #: For programs, see `Problem`.
    problem: str
    #: For people: what is wrong and what to do.
    detail: str


class IngestReport(TypedDict):
    """The job's result. `documents` is the sum of `ingested`, `unchanged` and the number of failures."""

    collection: str
    #: Names the vector space; see `Embedder.name`.
    embedder: str
    documents: int
    #: Read, embedded and stored.
    ingested: int
    #: In the store already, with the same content.
    unchanged: int
    #: Chunks stored for the ingested ones.
    chunks: int
    failures: list[Failure]


@dataclass(slots=True)
class Ingestion:
    """Ingests documents into one collection and keeps count. Running it again skips what is done."""

    collection: str
    store: VectorStore
    embedder: Embedder
    #: A larger file is reported as too large.
    max_bytes: int
    ingested: int = 0
    unchanged: int = 0
    chunks: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Ingests one document, or notes why that cannot be.

        Raises:
            EmbeddingError: texts cannot be embedded; that concerns all documents.
            StoreMismatch: the store belongs to another embedder.
        """
        try:
            self._add(path)
        except DocumentError as error:
            self.failures.append({"path": str(path), "problem": error.problem, "detail": str(error)})

    def _add(self, path: Path) -> None:
        raw = read_document(path, self.max_bytes)
        if self.store.holds(self.collection, str(path), raw.digest):
            self.unchanged += 1
            return
        parsed = parse(raw)
        chunks = chunk_text(parsed.text)
        if not chunks:
            raise DocumentError(Problem.EMPTY, "The document has no words.")
        vectors = embed_chunks(self.embedder, parsed.title, chunks)
        self.store.put(self.collection, Entry(str(path), parsed.title, raw.digest, chunks, vectors))
        self.ingested += 1
        self.chunks += len(chunks)

    def report(self) -> IngestReport:
        """What has been done so far."""
        return {
            "collection": self.collection,
            "embedder": self.embedder.name,
            "documents": self.ingested + self.unchanged + len(self.failures),
            "ingested": self.ingested,
            "unchanged": self.unchanged,
            "chunks": self.chunks,
            "failures": self.failures,
        }


def embed_chunks(embedder: Embedder, title: str, chunks: Sequence[str]) -> Matrix:
    """Embeds chunks together with their document's title, which says what a passage is about."""
    return embedder.embed([f"{title}\n\n{chunk}" for chunk in chunks])


def open_embedder(settings: Settings) -> AbstractContextManager[Embedder]:
    """The embedder that the settings ask for."""
    if settings.embeddings_url is None:
        return nullcontext(HashingEmbedder())
    key = settings.embeddings_api_key
    return HttpEmbedder(settings.embeddings_url, settings.embeddings_model, key.get_secret_value() if key else None)
