"""The example's other parts: cutting, embedding, storing, and all together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from document_ingestion.chunking import chunk_text
from document_ingestion.documents import find_documents
from document_ingestion.embedding import HashingEmbedder, Matrix
from document_ingestion.ingestion import Ingestion
from document_ingestion.tally import Tally
from document_ingestion.vectors import Entry, StoreMismatch, VectorStore, open_store
from tests.examples.document_files import BREAD, COFFEE, TEA

MAX_BYTES = 100_000
EMBEDDER = HashingEmbedder()
EXAMPLES = Path(__file__).parents[2] / "examples"


# Cutting


@given(st.text(st.sampled_from("ab.?! \n。"), max_size=2_000), st.integers(20, 120), st.integers(0, 19))
def test_chunks_are_small_and_lose_no_letter(text: str, size: int, overlap: int) -> None:
    chunks = chunk_text(text, size=size, overlap=overlap)
    assert all(len(chunk) <= size for chunk in chunks)
    if overlap == 0:
        assert re.findall("[ab]", "".join(chunks)) == re.findall("[ab]", text)


def test_a_chunk_starts_with_the_last_sentence_of_the_one_before() -> None:
    assert chunk_text("One is one. Two is two. Three is three.", size=30, overlap=13) == [
        "One is one. Two is two.",
        "Two is two. Three is three.",
    ]


def test_paragraphs_stay_apart() -> None:
    assert chunk_text("One.\n \nTwo.\n\n\n\n---\n\nThree.") == ["One.\n\nTwo.\n\n---\n\nThree."]


@pytest.mark.parametrize(("size", "overlap"), [(10, 0), (100, 100), (100, -1)])
def test_impossible_sizes_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"size={size}"):
        chunk_text(TEA, size=size, overlap=overlap)


# Embedding here


def test_texts_about_the_same_are_nearer_than_others() -> None:
    question, tea, coffee = EMBEDDER.embed(["How is a tea leaf dried?", TEA, COFFEE])
    assert question @ tea > question @ coffee + 0.2


def test_vectors_have_length_one_or_are_zero() -> None:
    lengths = np.linalg.norm(EMBEDDER.embed([TEA, "the", "?!"]), axis=1)
    assert lengths == pytest.approx([1, 1, 0])


def test_every_process_makes_the_same_vectors() -> None:
    code = "from document_ingestion.embedding import *; print(HashingEmbedder().embed(['leaf']).tobytes().hex())"
    env = {**os.environ, "PYTHONPATH": str(EXAMPLES), "PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == EMBEDDER.embed(["leaf"]).tobytes().hex()


# Storing


def put(store: VectorStore, path: str, *chunks: str, collection: str = "default") -> None:
    store.put(collection, Entry(path, path.title(), "digest", chunks, EMBEDDER.embed(chunks)))


def paths(store: VectorStore, question: str, collection: str = "default") -> list[str]:
    return [hit.path for hit in store.search(collection, EMBEDDER.embed([question])[0], 5)]


def test_the_store_finds_what_was_put_in_also_after_it_was_closed(tmp_path: Path) -> None:
    with open_store(tmp_path / "new" / "store.db", EMBEDDER.name) as store:
        assert paths(store, "green tea") == []
        put(store, "tea", TEA)
        put(store, "coffee", COFFEE)
        put(store, "tea", TEA, collection="other")
    with open_store(tmp_path / "new" / "store.db", EMBEDDER.name) as store:
        assert paths(store, "green tea") == ["tea", "coffee"]
        assert paths(store, "green tea", "other") == ["tea"]
        assert paths(store, "green tea", "nowhere") == []
        assert paths(store, "?") == []


def test_a_document_that_is_put_again_replaces_itself(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db", EMBEDDER.name) as store:
        put(store, "drinks", TEA, COFFEE)
        put(store, "drinks", BREAD)
        assert store.count("default") == (1, 1)
        hits = store.search("default", EMBEDDER.embed(["tea"])[0], 5)
        assert [(hit.text, hit.position) for hit in hits] == [(BREAD, 0)]


def test_vectors_of_another_embedder_are_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db", EMBEDDER.name) as store:
        put(store, "tea", TEA)
    with open_store(tmp_path / "store.db", "other") as store:
        with pytest.raises(StoreMismatch, match="DOCUMENT_STORE"):
            put(store, "coffee", COFFEE)
        with pytest.raises(StoreMismatch):
            paths(store, "tea")
        assert store.count("default") == (1, 1)


def test_processes_write_and_search_a_new_store_at_once(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from document_ingestion.embedding import HashingEmbedder
from document_ingestion.vectors import Entry, open_store
embedder, name = HashingEmbedder(), sys.argv[1]
sys.stdin.readline()
for number in range(20):
    with open_store(Path({str(tmp_path / "store.db")!r}), embedder.name) as store:
        text = f"{{name}} {{number}}"
        store.put("default", Entry(text, text, "digest", [text], embedder.embed([text])))
        assert any(hit.path == text for hit in store.search("default", embedder.embed([text])[0], 50))
"""
    env = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, name], env=env, stdin=subprocess.PIPE, text=True)
        for name in ("tea", "coffee", "bread")
    ]
    for writer in writers:
        writer.communicate("go\n", timeout=120)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with open_store(tmp_path / "store.db", EMBEDDER.name) as store:
        assert store.count("default") == (60, 60)


# All together


def ingest(root: Path, store: VectorStore) -> Ingestion:
    ingestion = Ingestion("default", store, EMBEDDER, MAX_BYTES)
    for path in find_documents(["."], [root]):
        ingestion.add(path)
    return ingestion


def test_bad_documents_are_reported_and_the_good_ones_are_found(library: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db", EMBEDDER.name) as store:
        report = ingest(library, store).report()
        assert (report["documents"], report["ingested"], report["chunks"]) == (14, 6, 6)
        assert {Path(failure["path"]).name: failure["problem"] for failure in report["failures"]} == {
            "binary.txt": "unreadable",
            "blank.md": "empty",
            "broken.docx": "unreadable",
            "broken.pdf": "unreadable",
            "empty.txt": "empty",
            "huge.txt": "too_large",
            "locked.pdf": "encrypted",
            "scan.pdf": "empty",
        }
        assert paths(store, "Is green tea oxidised?")[0] == str(library / "tea.pdf")
        assert paths(store, "How long does a dark roast take?")[0] == str(library / "coffee.docx")
        assert paths(store, "café crème")[0] == str(library / "notes" / "café.txt")


def test_only_what_has_changed_is_ingested_again(library: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "store.db", EMBEDDER.name) as store:
        ingest(library, store)
        (library / "bread.md").write_text("# Bread\n\nRye bread is dark.")
        again = ingest(library, store).report()
        assert (again["unchanged"], again["ingested"]) == (5, 1)
        assert store.count("default") == (6, 6)
        assert paths(store, "rye")[0] == str(library / "bread.md")


class Lost(Exception):
    """The process ends here."""


def add_all(ingestion: Ingestion, documents: Sequence[Path], done: list[Path]) -> None:
    for document in documents:
        ingestion.add(document)
        done.append(document)


@pytest.mark.parametrize("when", ["embedding", "counting", "storing", "stored"])
def test_the_document_at_which_a_process_was_lost_counts_once(library: Path, tmp_path: Path, when: str) -> None:
    kept = [Tally()]

    class Fragile:
        """An embedder and a store that end the process at the third document they get."""

        name = EMBEDDER.name
        left = 3

        def __init__(self, store: VectorStore) -> None:
            self.store = store
            self.holds = store.holds

        def lose(self, here: str) -> None:
            if here == when:
                self.left -= 1
                if self.left == 0:
                    raise Lost

        def embed(self, texts: Sequence[str]) -> Matrix:
            self.lose("embedding")
            return EMBEDDER.embed(texts)

        def keep(self, tally: Tally) -> None:
            self.lose("counting")
            kept.append(tally)

        def put(self, collection: str, entry: Entry) -> None:
            self.lose("storing")
            self.store.put(collection, entry)
            self.lose("stored")

    documents = find_documents(["."], [library])
    with open_store(tmp_path / "store.db", EMBEDDER.name) as store:
        fragile: Any = Fragile(store)
        ingestion = Ingestion("default", fragile, fragile, MAX_BYTES, kept[-1], fragile.keep)
        done: list[Path] = []
        with pytest.raises(Lost):
            add_all(ingestion, documents, done)
        again = Ingestion("default", store, EMBEDDER, MAX_BYTES, kept[-1], kept.append)
        add_all(again, documents[len(done) :], done)
        report, whole = again.report(), ingest(library, store).report()
        assert (report["documents"], report["ingested"], report["unchanged"], report["chunks"]) == (14, 6, 0, 6)
        assert report["failures"] == whole["failures"]
        assert whole["unchanged"] == 6
