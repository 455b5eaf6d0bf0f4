"""The errors that aijobs raises.

Everything a caller may want to catch derives from `AijobsError`:

    AijobsError
    ├── ConfigurationError      a setting or an option is wrong; the message says which and what to do
    ├── StoreUnavailable        the job store did not answer in time
    ├── PublishFailed           the broker did not take the message; the record says so as well
    ├── JobNotFound             no record has this id
    ├── IdempotencyConflict     the idempotency key was used before, with other content
    ├── EmbeddedServerError     the development server cannot be started (`aijobs.embedded`)
    └── DataFolderError         its data folder is in use by another (`aijobs.embedded`)

`JobCancelled`, which is raised inside a task, belongs to Celery's family and lives in `aijobs.worker.request`.
"""

from __future__ import annotations


class AijobsError(Exception):
    """Base class of all errors of aijobs."""


class ConfigurationError(AijobsError, ValueError):
    """A setting or an option is wrong."""


class StoreUnavailable(AijobsError):
    """The job store did not answer in time."""


class PublishFailed(AijobsError):
    """The broker did not take the job's message.

    Attributes:
        job_id: the job, whose record is `failed` with the code `publish_failed`.
    """

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"Job {job_id} could not be sent to the broker: {reason}")
        self.job_id = job_id


class JobNotFound(AijobsError, LookupError):
    """No record has this id.

    Attributes:
        job_id: the id that was asked for.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(f"No job has the id {job_id!r}: it was never submitted here, or its retention has passed.")
        self.job_id = job_id


class IdempotencyConflict(AijobsError):
    """The idempotency key was used before, with other content."""
