"""What the job does: one document after the other from its file into the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from document_ingestion.tally import Failure, Outcome, Tally
from document_ingestion.vectors import Entry, VectorStore


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


def _forget(tally: Tally) -> None:
    del tally


@dataclass(slots=True)
class Ingestion:
    """Ingests documents into one collection and keeps count. Running it again skips what is done."""

    collection: str
    store: VectorStore
    embedder: Embedder
    #: A larger file is reported as too large.
    max_bytes: int
    tally: Tally = field(default_factory=Tally)
    #: Where the tally is kept, each time it has changed, in case the process is lost.
    keep: Callable[[Tally], None] = _forget

    def add(self, path: Path) -> None:
        """Ingests one document, or notes why that cannot be. The one that was added last may be added again.

        Raises:
            EmbeddingError: texts cannot be embedded; that concerns all documents.
            StoreMismatch: the store belongs to another embedder.
        """
        try:
            self._add(path)
        except DocumentError as error:
            failure: Failure = {"path": str(path), "problem": error.problem, "detail": str(error)}
            self._count(Outcome(str(path), failure=failure))

    def _add(self, path: Path) -> None:
        raw = read_document(path, self.max_bytes)
        if self.store.holds(self.collection, str(path), raw.digest):
            self._count(self._own(path, raw.digest) or Outcome(str(path), raw.digest))
            return
        parsed = parse(raw)
        chunks = chunk_text(parsed.text)
        if not chunks:
            raise DocumentError(Problem.EMPTY, "The document has no words.")
        vectors = embed_chunks(self.embedder, parsed.title, chunks)
        # Counted first: what is stored but not counted would look as if somebody else had stored it.
        self._count(Outcome(str(path), raw.digest, len(chunks)))
        self.store.put(self.collection, Entry(str(path), parsed.title, raw.digest, chunks, vectors))

    def _own(self, path: Path, digest: str) -> Outcome | None:
        """What was counted of this very document before the process was lost."""
        last = self.tally.last
        return last if last is not None and (last.path, last.digest) == (str(path), digest) else None

    def _count(self, outcome: Outcome) -> None:
        self.tally = self.tally.plus(outcome)
        self.keep(self.tally)

    def report(self) -> IngestReport:
        """What has been done so far."""
        total = self.tally.total()
        return {
            "collection": self.collection,
            "embedder": self.embedder.name,
            "documents": total.ingested + total.unchanged + len(total.failures),
            "ingested": total.ingested,
            "unchanged": total.unchanged,
            "chunks": total.chunks,
            "failures": [*total.failures],
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
