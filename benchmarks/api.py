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


app = FastAPI()
if SUBJECT is Subject.AIJOBS:
    app.include_router(job_router(celery_app))
else:
    app.post("/jobs/noop", status_code=202)(submit_noop)
