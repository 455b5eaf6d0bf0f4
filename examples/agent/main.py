"""The API and the page. Start it with `uvicorn agent.main:app`."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from typing_extensions import override

from agent.worker import celery_app
from aijobs import job_router

#: The page has its script and its style in files of their own, so a browser need not run anything else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page(StaticFiles):
    """The page's files, with headers that have a browser trust nothing else."""

    @override
    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response


app = FastAPI(title="Research agent", summary="Ask a question, and watch an agent answer it.")
app.include_router(job_router(celery_app))
app.mount("/", Page(directory=Path(__file__).parent / "page", html=True))
