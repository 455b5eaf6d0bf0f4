"""Submitting jobs with files: a form in place of a JSON body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from celery import uuid
from fastapi import Request
from starlette.responses import Response

from aijobs.errors import IdempotencyConflict
from aijobs.files.keys import new_key, space_of
from aijobs.files.libmagic import load_libmagic
from aijobs.http import docs
from aijobs.http.envelope import Sent
from aijobs.http.form import TaskForm
from aijobs.http.idempotency import read_idempotency
from aijobs.http.operations import Operation
from aijobs.http.reading import FormLimits, FormReader, ReceivedForm
from aijobs.http.service import JobService, deadline
from aijobs.http.signature import TaskBody
from aijobs.http.submissions import Submissions, canonical, submission_docs, submit_action
from aijobs.store.values import Idempotency

#: What a form may be answered with beside what JSON is.
FORM_PROBLEMS = docs.problems(
    408,
    _413="The form, or a file, is too large.",
    _415="The body is not declared as a form, or a file is not of a kind that is taken.",
)


class UploadDesk:
    """What all routes with files need: where files go, and what makes a repeated form the same one.

    Args:
        service: of the router.

    Raises:
        ConfigurationError: files cannot be kept, or not be told apart.
    """

    def __init__(self, service: JobService) -> None:
        self.service = service
        service.runtime.files.prepare()
        load_libmagic()

    async def reader(self, form: TaskForm, new_job_id: Callable[[], str], *, tolerant: bool = False) -> FormReader:
        """What reads a form.

        Args:
            form: of the task.
            new_job_id: gives the job that the next file belongs to.
            tolerant: as for `FormReader`.

        Raises:
            StoreUnavailable: the job store does not answer; so nothing is written in vain.
        """
        async with deadline():
            space = space_of(await self.service.store.run_async(self.service.store.secret()))

        def place(extension: str) -> tuple[str, str]:
            job_id = new_job_id()
            return job_id, new_key(space, job_id, extension)

        settings = self.service.runtime.settings
        limits = FormLimits(settings.upload_bytes, settings.file_bytes, settings.upload_files)
        return FormReader(self.service.runtime.files, form.task.body.files, limits, place, tolerant=tolerant)

    def idempotency(self, request: Request, form: TaskForm, sent: Sent, place: str = "") -> Idempotency | None:
        """What to reserve for a form; files count by their content.

        Raises:
            Problem: the header is not as it should be.
        """
        content = canonical(*form.comparable(*form.task.body.arguments(sent.body)), sent.envelope)
        return read_idempotency(request, form.task.name + place, self.service.access.owner(request), content)


class Uploads:
    """The routes that submit jobs with files.

    Args:
        desk: of the router.
        forms: of the tasks that take files, in the order of their paths.
        submissions: makes the jobs.
    """

    def __init__(self, desk: UploadDesk, forms: Iterable[TaskForm], submissions: Submissions) -> None:
        self._desk = desk
        self._forms = forms
        self._submissions = submissions

    def operations(self) -> Iterator[Operation]:
        """The operations, one for each task."""
        for form in self._forms:
            segment = form.task.segment
            described = submission_docs(self._desk.service, form.task, requestBody=form_body(form.schema()))
            described["responses"] |= FORM_PROBLEMS
            yield Operation(
                submit_action(segment), "POST", f"/{segment}", upload_endpoint(self.submit, form), described
            )

    async def submit(self, request: Request, form: TaskForm) -> Response:
        """Makes a job of a form."""
        access = self._desk.service.access
        await access.check_submission(request)
        job_id = uuid()
        reader = await self._desk.reader(form, lambda: job_id)
        async with reader.discarding():
            received = await reader.read(request)
            sent = form.read(received.fields, _files(form.task.body, received))
            args, kwargs = form.task.body.arguments(sent.body)
            idempotency = self._desk.idempotency(request, form, sent)
        # From here on there may be a job, whatever is heard of it; what is nobody's in the end, workers remove.
        try:
            job, is_new = await self._submissions.create(
                request, form.task, args, kwargs, idempotency, job_id, sent.envelope
            )
        except IdempotencyConflict:
            await reader.discard()
            raise
        if not is_new:
            await reader.discard()
        return await self._submissions.answer(request, job, replayed=not is_new)


def form_body(form: Mapping[str, Any]) -> dict[str, Any]:
    """A request body in OpenAPI."""
    return {"required": True, "content": {"multipart/form-data": form}}


def upload_endpoint(handle: Callable[[Request, TaskForm], Any], form: TaskForm) -> Callable[..., Any]:
    """An endpoint that reads the body itself.

    FastAPI would read it before dependencies have let the request pass: anybody could fill the disk.
    """

    async def endpoint(request: Request) -> Response:
        response: Response = await handle(request, form)
        return response

    return endpoint


def _files(body: TaskBody, received: ReceivedForm) -> dict[str, Any]:
    found = {name: [one.content for one in files] for name, files in received.files.items()}
    return {name: files if body.files[name].many else files[0] for name, files in found.items()}
