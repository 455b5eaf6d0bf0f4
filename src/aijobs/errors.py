"""The errors that aijobs raises.

Everything a caller may want to catch derives from `AijobsError`:

    AijobsError
    ├── ConfigurationError      a setting or an option is wrong; the message says which and what to do
    ├── StoreUnavailable        the job store did not answer in time
    ├── PublishFailed           the broker did not take the message; the record says so as well
    ├── JobNotFound             no record has this id
    ├── NotReplayable           the job cannot be run again: it is not over yet, or it succeeded
    │   └── ArgumentsGone       … or its record did not keep its arguments
    ├── IdempotencyConflict     the idempotency key was used before, with other content
    │   └── FirstJobGone        … or for a job that is no longer kept
    ├── FileGone                the file store does not have an uploaded file
    ├── InvalidWebhook          a webhook's address or events are not allowed; the message says why, without the address
    ├── EmbeddedServerError     the development server cannot be started (`aijobs.embedded`)
    └── DataFolderError         its data folder is in use by another (`aijobs.embedded`)

`JobCancelled` and `LeaseLost`, which are raised inside tasks, belong to Celery's family and live in
`aijobs.worker.exceptions`.
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


class NotReplayable(AijobsError):
    """The job cannot be run again.

    Attributes:
        job_id: the job, which is as it was.
        reason: why not.
    """

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"Job {job_id!r} cannot be run again: {reason}.")
        self.job_id = job_id
        self.reason = reason


class ArgumentsGone(NotReplayable):
    """The job cannot be run again, since its record did not keep its arguments."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            job_id,
            "its arguments were not kept, because they are larger than AIJOBS_ARGUMENTS_BYTES, or no JSON, or it was "
            "never sent, as the step of a chain after one that failed; submit it anew, or replay the step that failed",
        )


class IdempotencyConflict(AijobsError):
    """The idempotency key was used before, with other content."""


class FirstJobGone(IdempotencyConflict):
    """The idempotency key was used for a job that is no longer kept, and the same work is not done twice for it."""


class FileGone(AijobsError, LookupError):
    """The file store does not have an uploaded file.

    Attributes:
        name: of the file, as the client calls it.
    """

    def __init__(self, name: str) -> None:
        # Nothing else, so that it can be pickled on its way out of a worker's process.
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        # Clients see it as the error of their job, so it does not tell where files are.
        return (
            f"The file {self.name!r} is not in this process' file store: its job's record has left, or the API and the "
            "workers have different AIJOBS_FILES_URL, or the same folder on different machines."
        )


class InvalidWebhook(AijobsError, ValueError):
    """A webhook's address or events are not allowed. The text never repeats the address, which may hold a secret."""
