"""The shapes that OpenAPI shows. Responses are built without them, see `render`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from aijobs.job import ErrorCode, JobStatus

_EXAMPLE_ID = "0b6f1a52-6c1e-4a8f-9a53-0d3f7c1c2b10"


class _Shape(BaseModel):
    # All members are always there, so clients that are made from the schema need not check.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class JobProgress(_Shape):
    """How far a job has come, in its own units."""

    current: float | None = Field(None, description="Units done so far.")
    total: float | None = Field(None, description="Units in all, when known.")
    unit: str | None = Field(None, description="What is counted.", examples=["documents"])
    step: str | None = Field(None, description="The step that runs now.", examples=["embed"])
    message: str | None = Field(None, description="A line for people.")
    rate: float | None = Field(None, description="Units per second, smoothed.")
    eta_seconds: float | None = Field(None, description="Seconds until `total` is reached at that rate.")


class JobFailure(_Shape):
    """What went wrong in an attempt."""

    code: ErrorCode
    message: str = Field(description="For people.")
    retryable: bool = Field(description="Whether submitting the job again may end better.")
    attempt: int = Field(description="The attempt it happened in; 0 when the job never started.")


class JobMetrics(_Shape):
    """What the job took."""

    queue_seconds: float | None = Field(None, description="From creation to the first start.")
    run_seconds: float | None = Field(None, description="The newest attempt, once it has ended.")


class JobUrls(_Shape):
    """Where to go on."""

    self: str
    events: str
    result: str
    cancel: str


class JobDocument(_Shape):
    """One job at one moment. Times are RFC 3339 in UTC."""

    job_id: str = Field(description="Also the Celery task id.", examples=[_EXAMPLE_ID])
    task: str = Field(description="The registered name of the task.", examples=["app.tasks.embed"])
    status: JobStatus = Field(description="The set is closed; reasons are in `error.code`.", examples=["running"])
    batch_id: str | None = None
    metadata: dict[str, str] = {}
    rev: int = Field(description="Goes up by one with each change.")
    progress: float | None = Field(None, ge=0, le=1, description="0.0–1.0, when it can be told.", examples=[0.4])
    progress_detail: JobProgress | None = None
    queue_position: int | None = Field(None, description="Approximate, and only while queued.")
    attempt: int = Field(description="Starts so far.")
    max_attempts: int | None = None
    error: JobFailure | None = None
    created_at: datetime
    scheduled_at: datetime | None = Field(None, description="When a delayed or retrying job is due.")
    started_at: datetime | None = Field(None, description="When the newest attempt started.")
    completed_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    expires_at: datetime = Field(description="When the record leaves the store, unless it changes before.")
    metrics: JobMetrics
    urls: JobUrls
    result: Any = Field(None, description="Null until the job succeeds, and when it is too large: see `urls.result`.")


class JobPage(_Shape):
    """Some jobs, newest first."""

    jobs: list[JobDocument] = Field(description="May be fewer than asked for even when there are more.")
    next_cursor: str | None = Field(description="For `cursor` of the next request with the same filters.")
    has_more: bool


class StatusCounts(_Shape):
    """Jobs by status."""

    queued: int
    running: int
    success: int
    failed: int
    revoked: int


class JobStats(_Shape):
    """Counts over the retained jobs."""

    statuses: StatusCounts
    tasks: dict[str, StatusCounts] = Field(description="By the task's registered name.")
    queues: dict[str, int] | None = Field(description="Queued jobs by queue; null for callers with jobs of their own.")
    workers: int = Field(description="Workers that are alive.")


class Dependency(_Shape):
    """A server that the API needs."""

    ok: bool
    url: str = Field(description="Without its password.", examples=["redis://localhost:6379/0"])


class Health(_Shape):
    """Whether jobs can be submitted and run."""

    status: str = Field(examples=["ok"])
    store: Dependency
    broker: Dependency
    workers: int | None = Field(description="Workers that report to this store; null when it does not answer.")
    detail: str | None = Field(description="What to look at.")


class RequestFault(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str | None = Field(None, description="Where in the body (RFC 6901, a fragment).", examples=["#/texts/0"])
    parameter: str | None = Field(None, description="Which parameter, when it is not in the body.")
    detail: str
    type: str = Field(examples=["string_type"])


class JobProblem(BaseModel):
    """What was wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A stable URN.", examples=["urn:aijobs:problem:job-not-found"])
    title: str
    status: int
    detail: str = Field(description="For people: what was wrong and what to do.")
    errors: list[RequestFault] | None = Field(None, description="Each fault of an invalid request.")


def submission_document(title: str, module: str, result: Any) -> type[JobDocument]:
    """A job as its submission is answered, with the type of its result.

    Args:
        title: of the task.
        module: of the task, which keeps equal titles of two apps apart.
        result: annotation of its result.
    """
    typed: Any = (result | None, Field(None, description=JobDocument.model_fields["result"].description))
    message: Any = (str, Field(description="For people."))
    status_url: Any = (str, Field(description="Where to ask for the job; also in Location."))
    return create_model(
        f"{title}Job", __base__=JobDocument, __module__=module, message=message, status_url=status_url, result=typed
    )
