"""The Celery app and its task. Start a worker with `celery -A document_ingestion.worker worker`."""

from __future__ import annotations

import logging
from typing import Annotated

from celery import Celery
from pydantic import AfterValidator, Field

from aijobs import EMBEDDING_BATCH, ProgressTask
from document_ingestion.config import Settings
from document_ingestion.documents import allowed_path, find_documents
from document_ingestion.http_embedding import EmbeddingUnavailable
from document_ingestion.ingestion import Ingestion, IngestReport, open_embedder
from document_ingestion.tally import Tally
from document_ingestion.vectors import open_store

settings = Settings.from_env()
celery_app = Celery("document_ingestion", broker=settings.redis_url, backend=settings.redis_url)
# pypdf logs each oddity of a PDF; what matters of it is in the job's report.
logging.getLogger("pypdf").setLevel(logging.ERROR)


def _allowed(path: str) -> str:
    """Lets the API refuse a path at once; the worker checks again when it reads."""
    allowed_path(path, settings.roots)
    return path


DocumentPath = Annotated[str, Field(max_length=4096), AfterValidator(_allowed)]
Paths = Annotated[
    list[DocumentPath],
    Field(min_length=1, max_length=10_000, description="Files and folders where the worker runs."),
]
Collection = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Where documents are stored and found again.")
]


class NoDocuments(ValueError):
    """There is nothing to ingest at the given paths."""


@celery_app.task(base=ProgressTask, bind=True, **EMBEDDING_BATCH.but(retry_for=(EmbeddingUnavailable,)).options())
def ingest(self: ProgressTask, paths: Paths, collection: Collection = "default") -> IngestReport:
    """Reads, cuts, embeds and stores documents; one that is broken is reported and the others go on.

    Whatever ends an attempt, the next one goes on at the document that was not done.
    """
    documents = self.run_step("find", find_documents, paths, settings.roots)
    if not documents:
        raise NoDocuments("There are no documents at these paths.")
    with (
        self.step("ingest"),
        open_embedder(settings) as embedder,
        open_store(settings.store, embedder.name) as store,
    ):
        ingestion = Ingestion(collection, store, embedder, settings.max_bytes, self.resume(Tally()), self.checkpoint)
        for document in self.track(documents, unit="documents", description="Ingesting documents", resume=True):
            ingestion.add(document)
    return ingestion.report()
