"""The API. Start it with `uvicorn document_ingestion.main:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from aijobs import job_router
from document_ingestion.embedding import Embedder, EmbeddingError
from document_ingestion.ingestion import open_embedder
from document_ingestion.vectors import Hit, StoreMismatch, open_store
from document_ingestion.worker import Collection, celery_app, settings


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Keeps one embedder, and so its connections, for all searches."""
    with open_embedder(settings) as embedder:
        api.state.embedder = embedder
        yield


app = FastAPI(title="Document ingestion", summary="Ingest documents as jobs, then search them.", lifespan=lifespan)
app.include_router(job_router(celery_app))


def the_embedder(request: Request) -> Embedder:
    """The embedder that `lifespan` keeps."""
    embedder: Embedder = request.app.state.embedder
    return embedder


class SearchResponse(BaseModel):
    """The passages that fit best, best first."""

    query: str
    hits: list[Hit]


@app.get("/search")
def search(
    embedder: Annotated[Embedder, Depends(the_embedder)],
    q: Annotated[str, Query(min_length=1, max_length=1_000, description="What to look for, in plain words.")],
    k: Annotated[int, Query(ge=1, le=50, description="How many passages at most.")] = 5,
    collection: Collection = "default",
) -> SearchResponse:
    """Finds the passages of the ingested documents that fit a question best."""
    vector = embedder.embed([q])[0]
    with open_store(settings.store, embedder.name) as store:
        return SearchResponse(query=q, hits=store.search(collection, vector, k))


@app.exception_handler(EmbeddingError)
@app.exception_handler(StoreMismatch)
def _search_unavailable(_: Request, error: Exception) -> JSONResponse:
    """Says what is wrong with the search as the job routes do (RFC 9457)."""
    problem = {"type": "about:blank", "title": "Search is unavailable", "status": 503, "detail": str(error)}
    return JSONResponse(problem, status_code=503, media_type="application/problem+json")
