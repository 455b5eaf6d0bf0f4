"""The way of arguments, results, files and further jobs out of a process, without leaving it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from celery import Celery
from kombu import serialization
from kombu.utils.json import dumps, loads
from typing_extensions import override

from aijobs._drafts import NewRun
from aijobs.files.keys import extension_of, new_key, space_of
from aijobs.files.uploaded import UploadedFile
from aijobs.job import Job, JobStatus
from aijobs.store.values import CreateReply, Creation, NewJob
from aijobs.testing.jobrun import Submitted
from aijobs.worker.arguments import FileOwner, dump_models
from aijobs.worker.messages import queue_name
from aijobs.worker.outcome import encode_result

#: Where the files of tests are in the file store, beside those of real jobs.
_SECRET = b"aijobs.testing"


def travel(app: Celery, value: Any) -> Any:
    """A value as the other end of the app's broker gets it.

    Raises:
        kombu.exceptions.EncodeError: the app's serializer cannot write it.
    """
    content_type, encoding, body = serialization.dumps(value, serializer=app.conf.task_serializer)
    accepted = serialization.prepare_accept_content(app.conf.accept_content)
    return serialization.loads(body, content_type, encoding, accept=accepted)


def check_result(app: Celery, result: Any) -> None:
    """Checks that a result can be stored.

    Raises:
        kombu.exceptions.EncodeError: it cannot.
    """
    encode_result(partial(serialization.dumps, serializer=app.conf.result_serializer), result)


class Baggage(FileOwner):
    """Packs the arguments of a job; files among them are in the file store within a `with` block.

    Args:
        app: of the task.
        job_id: of the job.
    """

    def __init__(self, app: Celery, job_id: str) -> None:
        super().__init__(app, job_id)
        self._keys: list[str] = []

    def packed(self, value: Any) -> Any:
        """Arguments with models and files among them as JSON values."""
        return dump_models(value, self)

    @override
    def own(self, file: UploadedFile) -> UploadedFile:
        key = new_key(space_of(_SECRET), self.job_id or "", extension_of(file.name))
        self._keys.append(key)
        return file.stored_as(self._runtime.files, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keys:
            files = self._runtime.files
            for key in self._keys:
                with contextlib.suppress(OSError):
                    files.delete(key)


@dataclass(frozen=True, slots=True, eq=False)
class Catcher:
    """Notes what a task submits, in place of store and broker."""

    app: Celery
    caught: list[Submitted]
    #: Of a worker that was killed nothing is taken.
    alive: Callable[[], bool]

    def send(self, job: NewJob, options: dict[str, Any], publish: Callable[[], Any]) -> None:
        """Takes a message over before it is published."""
        self._note(job)

    def catch(self, request: NewRun) -> CreateReply:
        """Takes a submission over.

        Raises:
            kombu.exceptions.EncodeError: an argument is nothing that a message can hold.
        """
        arguments = str(dumps(travel(self.app, dump_models([request.args, request.kwargs]))))
        queue = queue_name(self.app, {"queue": getattr(request.task, "queue", None), **request.options})
        job_id, now = str(request.options["task_id"]), datetime.now(UTC)
        known = {name: value for name, value in request.known.items() if name in ("owner", "metadata")}
        self._note(NewJob(job_id, str(request.task.name), queue, arguments_json=arguments, **known))
        made = Job(job_id, str(request.task.name), JobStatus.QUEUED, 1, 1, now, now, queue=queue, **known)
        return CreateReply(Creation.CREATED, replace(made, arguments_json=arguments))

    def _note(self, job: NewJob) -> None:
        if self.alive():
            args, kwargs = loads(job.arguments_json or "[[], {}]")
            self.caught.append(Submitted(job.id, job.task, args, kwargs, job.queue, job.owner, job.metadata))
