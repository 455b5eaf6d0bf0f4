"""A vector store in one file: SQLite with the sqlite-vec extension. Several processes may use it at once.

Its search is exact: it compares with every vector of the collection, a few milliseconds for thousands of
chunks. The extension is loaded through `apsw`, since the `sqlite3` module of many Pythons cannot load any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import sqlite_vec  # type: ignore[import-untyped]

from document_ingestion.embedding import Matrix

#: How long a process waits for another one's write to end, in milliseconds.
BUSY_MILLISECONDS = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY,
    collection TEXT NOT NULL,
    path TEXT NOT NULL,
    title TEXT NOT NULL,
    digest TEXT NOT NULL,
    UNIQUE (collection, path)
);
CREATE TABLE IF NOT EXISTS chunks (
    id INTEGER PRIMARY KEY,
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document_id, position)
);
"""
_VECTORS = """
CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING vec0(
    chunk_id INTEGER PRIMARY KEY,
    collection TEXT PARTITION KEY,
    embedding FLOAT[{dimensions}] DISTANCE_METRIC=cosine
)
"""
_SEARCH = """
WITH nearest AS (
    SELECT chunk_id, distance FROM vectors WHERE embedding MATCH ? AND collection = ? AND k = ?
)
SELECT documents.path, documents.title, chunks.position, chunks.text, 1 - nearest.distance
FROM nearest JOIN chunks ON chunks.id = nearest.chunk_id JOIN documents ON documents.id = chunks.document_id
ORDER BY nearest.distance, chunks.id
"""


class StoreMismatch(Exception):
    """The store's vectors were made by another embedder; comparing them would give nonsense."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it is stored."""

    path: str
    title: str
    #: Tells whether the content has changed.
    digest: str
    chunks: Sequence[str]
    #: One row per chunk.
    vectors: Matrix


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found."""

    path: str
    title: str
    #: Counts the document's chunks from 0.
    position: int
    text: str
    #: Cosine similarity to the query: 1 is the same, 0 unrelated.
    score: float


class VectorStore:
    """Documents, their chunks and their vectors. Made by `open_store`; not to be shared by threads."""

    def __init__(self, connection: apsw.Connection, embedder: str) -> None:
        self._connection = connection
        self._embedder = embedder

    def holds(self, collection: str, path: str, digest: str) -> bool:
        """Whether the collection has this document with this very content."""
        query = "SELECT 1 FROM documents WHERE (collection, path, digest) = (?, ?, ?)"
        return self._connection.execute(query, (collection, path, digest)).get is not None

    def put(self, collection: str, entry: Entry) -> None:
        """Stores a document in one step, in place of what the collection has at its path.

        Raises:
            StoreMismatch: the store belongs to another embedder.
        """
        with _write(self._connection):
            self._prepare(entry.vectors.shape[1])
            self._delete(collection, entry.path)
            document = self._insert(
                "documents (collection, path, title, digest)",
                collection,
                entry.path,
                entry.title,
                entry.digest,
            )
            for position, (text, vector) in enumerate(zip(entry.chunks, entry.vectors, strict=True)):
                chunk = self._insert("chunks (document_id, position, text)", document, position, text)
                self._insert("vectors (chunk_id, collection, embedding)", chunk, collection, vector.tobytes())

    def search(self, collection: str, vector: Matrix, k: int) -> list[Hit]:
        """Finds the chunks nearest to a vector, best first.

        Args:
            collection: where to look.
            vector: one row.
            k: how many chunks at most.

        Raises:
            StoreMismatch: the store belongs to another embedder.
        """
        if self._owner() is None or not vector.any():
            return []
        self._check(vector.shape[-1])
        rows = self._connection.execute(_SEARCH, (vector.tobytes(), collection, k))
        return [Hit(*row) for row in rows]

    def count(self, collection: str) -> tuple[int, int]:
        """How many documents and chunks the collection has."""
        query = """SELECT count(DISTINCT documents.id), count(chunks.id)
            FROM documents LEFT JOIN chunks ON document_id = documents.id WHERE collection = ?"""
        documents, chunks = self._connection.execute(query, (collection,)).get
        return documents, chunks

    def _insert(self, into: str, *values: str | int | bytes) -> int:
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO {into} VALUES ({marks})", values)
        return self._connection.last_insert_rowid()

    def _delete(self, collection: str, path: str) -> None:
        document = self._connection.execute(
            "SELECT id FROM documents WHERE (collection, path) = (?, ?)", (collection, path)
        ).get
        chunks = "SELECT id FROM chunks WHERE document_id = ?"
        self._connection.execute(f"DELETE FROM vectors WHERE chunk_id IN ({chunks})", (document,))
        self._connection.execute("DELETE FROM documents WHERE id = ?", (document,))

    def _prepare(self, dimensions: int) -> None:
        if self._owner() is None:
            self._insert("settings (name, value)", "embedder", self._identity(dimensions))
            self._connection.execute(_VECTORS.format(dimensions=dimensions))
        self._check(dimensions)

    def _check(self, dimensions: int) -> None:
        owner, mine = self._owner(), self._identity(dimensions)
        if owner != mine:
            raise StoreMismatch(
                f"The store's vectors come from {owner}, but the app is set to {mine}. Set EMBEDDINGS_* as "
                "before, or set DOCUMENT_STORE to a new file and ingest the documents again."
            )

    def _owner(self) -> str | None:
        value = self._connection.execute("SELECT value FROM settings WHERE name = 'embedder'").get
        return None if value is None else str(value)

    def _identity(self, dimensions: int) -> str:
        return f"{self._embedder} with {dimensions} dimensions"


@contextmanager
def open_store(path: Path, embedder: str) -> Iterator[VectorStore]:
    """Opens the store, and makes it when it is not there. Open it where it is used: not before a fork.

    Args:
        path: the store's file; files beside it hold what is being written.
        embedder: the name of the embedder whose vectors it has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    try:
        _set_up(connection)
        yield VectorStore(connection, embedder)
    finally:
        connection.close()


def _set_up(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    connection.pragma("foreign_keys", True)
    if connection.pragma("user_version") == 0:
        with _write(connection):
            connection.execute(_SCHEMA + "PRAGMA user_version = 1")


@contextmanager
def _write(connection: apsw.Connection) -> Iterator[None]:
    """A transaction that takes the write lock at its start, where SQLite waits for it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
