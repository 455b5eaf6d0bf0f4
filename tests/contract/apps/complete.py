"""A Celery app with a task of each shape, and its API with everything on; at `/open` the same with everything off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

from celery import Celery
from fastapi import FastAPI, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from aijobs import ProgressTask, UploadedFile
from aijobs.http import StreamLimits, job_router

url = os.environ["TEST_URL"]
celery_app = Celery("complete", broker=os.environ.get("TEST_BROKER", url), backend=url)
task: Callable[..., Callable[[Callable[..., Any]], Any]] = celery_app.task


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Part(BaseModel):
    """A piece of a document."""

    text: str
    page: Annotated[int, Field(ge=1)] = 1


class Document(BaseModel):
    """A text with its date and its parts."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    written: datetime | None = None
    parts: list[Part] = []


class Summary(BaseModel):
    """What a document says."""

    title: str
    parts: int


class Reading(BaseModel):
    kind: Literal["reading"]
    celsius: float


class Note(BaseModel):
    kind: Literal["note"]
    text: str


@task(base=ProgressTask, name="complete.scalars")
def scalars(count: int, ratio: float, flag: bool, name: str = "x", seconds: float | None = None) -> int:
    """Take scalars."""
    return count


@task(base=ProgressTask, name="complete.summarise")
def summarise(document: Document) -> Summary:
    """Summarise a document.

    Its parts are counted.
    """
    return Summary(title=document.title, parts=len(document.parts))


@task(base=ProgressTask, name="complete.choose")
def choose(
    size: Size = Size.SMALL,
    mode: Literal["fast", "exact"] = "fast",
    entry: Annotated[Reading | Note, Field(discriminator="kind")] | None = None,
    either: int | list[str] = 1,
) -> dict[str, str]:
    return {"size": size.value, "mode": mode}


@task(base=ProgressTask, name="complete.calendar")
def calendar(
    day: date, at: datetime | None = None, lasting: timedelta = timedelta(hours=1), of: UUID | None = None
) -> str:
    return day.isoformat()


@task(base=ProgressTask, name="complete.anything")
def anything(first: Any, /, second: Any = None, **others: Any) -> Any:
    return first


@task(base=ProgressTask, name="complete.nothing")
def nothing() -> None:
    """Take nothing."""


@task(base=ProgressTask, bind=True, name="complete.count")
def count(
    self: Any, items: Annotated[int, Field(ge=0, le=1_000_000)], pause: Annotated[float, Field(ge=0, le=1)] = 0.0
) -> int:
    """Count slowly."""
    for number in self.track(range(items), unit="items"):
        if number < 3:
            self.emit(f"{number} ")
        time.sleep(pause)
    self.emit({"counted": items})
    return items


@task(base=ProgressTask, name="complete.fail")
def fail(reason: str = "no ink") -> None:
    """Fail at once."""
    raise ValueError(reason)


@task(base=ProgressTask, name="complete.read")
def read(document: UploadedFile, title: str = "", pages: int | None = None) -> int:
    """Read a file."""
    return document.size


@task(base=ProgressTask, name="complete.compare")
def compare(documents: list[UploadedFile], weights: list[float] | None = None, size: Size = Size.SMALL) -> int:
    """Compare files."""
    return len(documents)


bearer = HTTPBearer(description="The caller's name; `admin` sees everything.")
Credentials = Annotated[HTTPAuthorizationCredentials, Security(bearer)]


def caller(credentials: Credentials) -> str:
    if credentials.credentials not in ("alice", "bob", "admin"):
        raise HTTPException(401, "This is nobody.", {"WWW-Authenticate": "Bearer"})
    return credentials.credentials


def is_admin(credentials: Credentials) -> bool:
    return credentials.credentials == "admin"


#: A test that follows a job need not wait for the job's end.
brief = StreamLimits(ping_seconds=0.1, lifetime_seconds=0.3)

problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/JobProblem"}}}

app = FastAPI(title="complete")
app.include_router(
    job_router(
        celery_app,
        owner=caller,
        admin=is_admin,
        client_fields=["metadata", "priority", "countdown", "expires"],
        client_queues=["celery", "idle"],
        webhooks=True,
        tags=["everything"],
        stream_limits=brief,
    ),
    responses={401: {"description": "The caller is nobody.", "content": problem}},
)
app.include_router(job_router(celery_app, prefix="/open", tags=["nothing"], stream_limits=brief))
