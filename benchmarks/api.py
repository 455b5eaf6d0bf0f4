"""The HTTP API that is measured: `job_router`, or the route that a Celery tutorial would write."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from aijobs import job_router
from benchmarks.app import SUBJECT, noop
from benchmarks.app import app as celery_app
from benchmarks.harness import Subject


class Numbered(BaseModel):
    """The arguments of `noop`."""

    number: int = 0


class Ticket(BaseModel):
    """What the caller asks again with."""

    job_id: str
    status: str


def submit_noop(body: Numbered) -> Ticket:
    """Submits a job."""
    return Ticket(job_id=noop.delay(body.number).id, status="queued")


async def answer_at_once() -> dict[str, str]:
    """What asking for a job is compared with: a route that has nothing to find out."""
    return {"job_id": "00000000-0000-0000-0000-000000000000", "status": "queued"}


app = FastAPI()
app.get("/static")(answer_at_once)
if SUBJECT is Subject.AIJOBS:
    app.include_router(job_router(celery_app))
else:
    app.post("/jobs/noop", status_code=202)(submit_noop)
