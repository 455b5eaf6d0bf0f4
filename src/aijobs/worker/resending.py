"""Publishing a job's message again, from what its record kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from aijobs.errors import PublishFailed
from aijobs.job import Job
from aijobs.store.values import NewJob
from aijobs.worker.hooks import Draft, handing_to
from aijobs.worker.messages import rebuild


def republish(app: Celery, job: Job) -> None:
    """Publishes the message of an unfinished job again; its record stays as it is.

    Raises:
        PublishFailed: the broker did not take it.
    """
    send_again(app, job, _Plain(job.id), anew=False)


def send_again(app: Celery, job: Job, draft: Draft, *, anew: bool, **options: Any) -> None:
    """Has Celery publish a job's message again, through a draft.

    Args:
        app: that sends it.
        job: whose `arguments_json` is there.
        draft: takes the message over.
        anew: whether a new run begins; see `rebuild`.
        **options: of the publishing, beside those that the message had before.
    """
    message, sending = rebuild(app, job, anew=anew)
    with handing_to(draft), app.producer_or_acquire(options.pop("producer", None)) as producer:
        app.amqp.send_task_message(producer, job.task, message, **{**sending, **options})


class _Plain:
    """Publishes, and leaves the record alone."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> Any:
        try:
            return publish()
        except Exception as error:
            raise PublishFailed(self.job_id, type(error).__name__) from error
