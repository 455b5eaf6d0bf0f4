"""The FastAPI side: a Celery app's tasks as a job API."""

from __future__ import annotations

from aijobs.http.router import JobRouter, job_router
from aijobs.http.sse import StreamLimits

__all__ = ["JobRouter", "StreamLimits", "job_router"]
