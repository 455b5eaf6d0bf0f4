"""The shapes that OpenAPI shows. Responses are built without them, see `render`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType, TypedDict

from aijobs.job import ErrorCode, JobStatus

_FEWER = "May be fewer than asked for even when there are more."
_EXAMPLE_ID = "0b6f1a52-6c1e-4a8f-9a53-0d3f7c1c2b10"
_EXAMPLE_PATH = f"/jobs/{_EXAMPLE_ID}"


class _Shape(BaseModel):
    # All members are always there, so clients that are made from the schema need not check.
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


#: A name, so that clients which are made from the document have one class for it and not one for each task.
JobMetadata = TypeAliasType("JobMetadata", dict[str, str])


class JobProgress(_Shape):
    """How far a job has come, in its own units."""

    current: float | None = Field(None, description="Units done so far.", examples=[40])
    total: float | None = Field(None, description="Units in all, when known.", examples=[100])
    unit: str | None = Field(None, description="What is counted.", examples=["documents"])
    step: str | None = Field(None, description="The step that runs now.", examples=["embed"])
    message: str | None = Field(None, description="A line for people.", examples=["Chapter 3"])
    rate: float | None = Field(None, description="Units per second, smoothed.", examples=[4.2])
    eta_seconds: float | None = Field(
        None, description="Seconds until `total` is reached at that rate.", examples=[14.3]
    )


class JobFailure(_Shape):
    """What went wrong in an attempt."""

    code: ErrorCode
    message: str = Field(description="For people.", examples=["ValueError: The page is empty"])
    retryable: bool = Field(description="Whether submitting the job again may end better.")
    attempt: int = Field(description="The attempt it happened in; 0 when the job never started.")


class JobMetrics(_Shape):
    """What the job took."""

    queue_seconds: float | None = Field(None, description="From creation to the first start.", examples=[0.4])
    run_seconds: float | None = Field(None, description="The newest attempt, once it has ended.", examples=[8.1])


class JobUrls(_Shape):
    """Where to go on."""

    self: str = Field(examples=[_EXAMPLE_PATH])
    events: str = Field(examples=[f"{_EXAMPLE_PATH}/events"])
    output: str = Field(examples=[f"{_EXAMPLE_PATH}/output"])
    result: str = Field(examples=[f"{_EXAMPLE_PATH}/result"])
    cancel: str = Field(examples=[f"{_EXAMPLE_PATH}/cancel"])


class JobDocument(_Shape):
    """One job at one moment. Times are RFC 3339 in UTC."""

    job_id: str = Field(description="Also the Celery task id.", examples=[_EXAMPLE_ID])
    task: str = Field(description="The registered name of the task.", examples=["app.tasks.embed"])
    status: JobStatus = Field(description="The set is closed; reasons are in `error.code`.", examples=["running"])
    batch_id: str | None = Field(None, examples=["7c7e6a3e-1f0b-4f7a-8d3e-2f6d1a9b5c4d"])
    metadata: JobMetadata = {}
    rev: int = Field(description="Goes up by one with each change.", examples=[7])
    progress: float | None = Field(None, ge=0, le=1, description="0.0–1.0, when it can be told.", examples=[0.4])
    progress_detail: JobProgress | None = None
    queue_position: int | None = Field(None, description="Approximate, and only while queued.", examples=[3])
    attempt: int = Field(description="Starts so far.")
    max_attempts: int | None = Field(None, examples=[4])
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


class JobArguments(TypedDict):
    """What a job's task is called with, by position and by name."""

    args: list[Any]
    kwargs: dict[str, Any]


class JobRun(_Shape):
    """How an earlier run of a job ended, before it was run again."""

    status: JobStatus
    error: JobFailure | None = None
    attempts: int = Field(description="Starts in that run.")
    completed_at: datetime


class AdminJobDocument(JobDocument):
    """One job at one moment, of which admins see more. Times are RFC 3339 in UTC."""

    owner: str | None = Field(None, description="For admins: whom it belongs to.")
    queue: str | None = Field(None, description="For admins: where it was sent.")
    worker: str | None = Field(None, description="For admins: who runs, or ran, the newest attempt.")
    history: list[JobRun] = Field([], description="For admins: how the runs before this one ended, oldest first.")
    arguments: JobArguments | None = Field(
        None, description="For admins, of a single job: its arguments; null when they were not kept."
    )
    traceback: str | None = Field(None, description="For admins, of a single job: the end of the newest traceback.")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What only admins see is not there for others."""
        shown = handler(schema)
        members = handler.resolve_ref_schema(shown)
        members["required"] = [name for name in members["required"] if name not in _FOR_ADMINS]
        return shown


_FOR_ADMINS = AdminJobDocument.__annotations__.keys()


class JobTextPiece(_Shape):
    """Text that a job has given out."""

    text: str = Field(examples=["Once upon a time"])


class JobDataPiece(_Shape):
    """Something else that a job has given out."""

    data: Any


class JobOutput(_Shape):
    """What the newest attempt of a job has given out so far."""

    job_id: str = Field(examples=[_EXAMPLE_ID])
    seq: int = Field(description="The newest event that is in it; events after it go on.", examples=[7])
    attempt: int = Field(description="What earlier attempts gave out is void.", examples=[1])
    pieces: list[JobTextPiece | JobDataPiece] = Field(description="In order; no two texts follow each other.")
    truncated: bool = Field(description="Whether the beginning is missing, since there was too much.", examples=[False])
    text: str = Field(description="All text, without the data in between.", examples=["Once upon a time"])
    finished: bool = Field(description="Whether the job has ended, so that nothing more comes.", examples=[False])


class _Page(_Shape):
    next_cursor: str | None = Field(description="For `cursor` of the next request with the same filters.")
    has_more: bool


class JobPage(_Page):
    """Some jobs, newest first."""

    jobs: list[JobDocument] = Field(description=_FEWER)


class AdminJobPage(_Page):
    """Some jobs, newest first, of which admins see more."""

    jobs: list[AdminJobDocument] = Field(description=_FEWER)


class RetryReport(_Page):
    """What became of the dead letters that matched."""

    matched: int
    replayed: int = Field(description="Run again, or fit for it in a dry run.")
    refused: dict[str, str] = Field(description="Why others were not, by job.")


class PurgeReport(_Page):
    """What became of the dead letters that matched."""

    purged: int = Field(description="Removed, or to be removed in a dry run.")


@dataclass(frozen=True, slots=True)
class Documents:
    """The shapes in which a router shows jobs."""

    job: type[JobDocument]
    page: type[JobPage | AdminJobPage]

    @property
    def files(self) -> type[FileBatch | AdminFileBatch]:
        """What became of several files."""
        return FileBatch if self.job is JobDocument else AdminFileBatch


#: When nobody can be an admin, and when somebody can.
PLAIN = Documents(JobDocument, JobPage)
WITH_ADMINS = Documents(AdminJobDocument, AdminJobPage)


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


class FileBatch(_Shape):
    """What became of several files, each of which is a job or was refused."""

    jobs: list[JobDocument | JobProblem] = Field(description="In the order of the files.")
    accepted: int
    refused: int


class AdminFileBatch(_Shape):
    """What became of several files, each of which is a job, of which admins see more, or was refused."""

    jobs: list[AdminJobDocument | JobProblem] = Field(description="In the order of the files.")
    accepted: int
    refused: int


def submission_document(document: type[JobDocument], title: str, module: str, result: Any) -> type[JobDocument]:
    """A job as its submission is answered, with the type of its result.

    Args:
        document: the shape of the router's jobs.
        title: of the task.
        module: of the task, which keeps equal titles of two apps apart.
        result: annotation of its result.
    """
    typed: Any = (result | None, Field(None, description=JobDocument.model_fields["result"].description))
    message: Any = (str, Field(description="For people.", examples=["The job was accepted."]))
    where = "Where to ask for the job; also in Location."
    status_url: Any = (str, Field(description=where, examples=[_EXAMPLE_PATH]))
    # Two routers of an app may show jobs of one task in different shapes.
    kind = document.__name__.removesuffix("JobDocument")
    return create_model(
        f"{kind}{title}Job", __base__=document, __module__=module, message=message, status_url=status_url, result=typed
    )
