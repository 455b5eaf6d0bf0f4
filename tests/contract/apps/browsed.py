"""The API of `service`, for pages that come from elsewhere."""

from __future__ import annotations

from fastapi.middleware.cors import CORSMiddleware
from service import app  # type: ignore[import-not-found]

app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_headers=["Authorization", "Last-Event-ID"])
