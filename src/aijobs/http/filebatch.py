"""Submitting several files at once: one job for each, each accepted or refused on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import uuid
from fastapi import Request
from starlette.responses import Response

from aijobs.errors import IdempotencyConflict, PublishFailed, StoreUnavailable
from aijobs.files import FileRefused
from aijobs.http import docs
from aijobs.http.form import TaskForm
from aijobs.http.operations import Operation, describe
from aijobs.http.problems import INVALID_REQUEST, MEDIA_TYPE, Problem, problem_members
from aijobs.http.reading import FormReader, ReceivedFile, file_problem
from aijobs.http.render import job_json, json_bytes, json_response
from aijobs.http.schemas import AdminFileBatch, FileBatch
from aijobs.http.submissions import Submissions, announcement, submit_action
from aijobs.http.uploads import FORM_PROBLEMS, UploadDesk, form_body, upload_endpoint


@dataclass(frozen=True, slots=True)
class _Batch:
    """A form with several files."""

    request: Request
    form: TaskForm
    fields: Mapping[str, str]
    reader: FormReader


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of one file."""

    #: A job or a problem, as JSON.
    members: bytes
    is_accepted: bool


class FileBatches:
    """The routes that make a job of each file of a form, for tasks that take exactly one.

    Args:
        desk: of the router.
        forms: of the tasks that take files, in the order of their paths.
        submissions: makes the jobs.
    """

    def __init__(self, desk: UploadDesk, forms: Iterable[TaskForm], submissions: Submissions) -> None:
        self._desk = desk
        self._forms = [form for form in forms if form.task.body.single_file]
        self._submissions = submissions

    def operations(self) -> Iterator[Operation]:
        """The operations, one for each task."""
        for form in self._forms:
            segment = form.task.segment
            endpoint = upload_endpoint(self.submit, form)
            described = _docs(form, self._desk.service.access.documents.files)
            yield Operation(f"{submit_action(segment)}_batch", "POST", f"/{segment}/batch", endpoint, described)

    async def submit(self, request: Request, form: TaskForm) -> Response:
        """Makes the jobs, one after the other."""
        await self._desk.service.access.check_submission(request)
        reader = await self._desk.reader(form, uuid, tolerant=True)
        async with reader.discarding():
            received = await reader.read(request)
            files = received.files.get(_parameter(form), [])
            if not files:
                form.read(received.fields, {})
        return _response(await self._answers(_Batch(request, form, received.fields, reader), files))

    async def _answers(self, batch: _Batch, files: Sequence[ReceivedFile]) -> list[_Answer]:
        answers: list[_Answer] = []
        try:
            for index, file in enumerate(files):
                answers.append(await self._answer(batch, index, file))
        except StoreUnavailable as error:
            if not answers:
                raise
            # Each of the others would take as long to hear the same.
            answers += [_refused(error)] * (len(files) - len(answers))
        return answers

    async def _answer(self, batch: _Batch, index: int, file: ReceivedFile) -> _Answer:
        try:
            members, is_new = await self._create(batch, index, file)
        except (Problem, IdempotencyConflict) as error:
            await batch.reader.discard(file.job_id)
            return _refused(error)
        except PublishFailed as error:
            # There is a job, which may be run again.
            return _refused(error)
        if not is_new:
            await batch.reader.discard(file.job_id)
        return _Answer(members, is_accepted=True)

    async def _create(self, batch: _Batch, index: int, file: ReceivedFile) -> tuple[bytes, bool]:
        request, form, parameter = batch.request, batch.form, _parameter(batch.form)
        if isinstance(file.content, FileRefused):
            raise file_problem(parameter, file.content)
        sent = form.read(batch.fields, {parameter: file.content})
        args, kwargs = form.task.body.arguments(sent.body)
        idempotency = self._desk.idempotency(request, form, sent, f"/batch/{index}")
        job, is_new = await self._submissions.create(
            request, form.task, args, kwargs, idempotency, file.job_id, sent.envelope
        )
        view = self._desk.service.access.view(request, 2)
        return job_json(job, view, announcement(job, view)), is_new


def _parameter(form: TaskForm) -> str:
    return form.task.body.single_file or ""


def _refused(error: Exception) -> _Answer:
    return _Answer(json_bytes(problem_members(error)), is_accepted=False)


def _response(answers: Sequence[_Answer]) -> Response:
    count = sum(answer.is_accepted for answer in answers)
    counts = {"accepted": count, "refused": len(answers) - count}
    none = Problem(INVALID_REQUEST, "No file was accepted; `jobs` says why.", members=counts)
    head = json_bytes(counts if count else problem_members(none))
    body = head[:-1] + b',"jobs":[' + b",".join(answer.members for answer in answers) + b"]}"
    return json_response(body, status=202) if count else Response(body, none.status_code, media_type=MEDIA_TYPE)


def _docs(form: TaskForm, shape: type[FileBatch | AdminFileBatch]) -> dict[str, Any]:
    nothing = docs.problems(400, 403, 503, _422="No file was accepted, or the form is not valid.")
    return describe(
        f"{form.task.summary}, for each of several files",
        "At least one file was accepted.",
        shape,
        {**nothing, **FORM_PROBLEMS},
        description="Makes a job of each file; the other fields are the same for all.",
        status_code=202,
        openapi_extra={
            "parameters": [docs.IDEMPOTENCY_PARAMETER],
            "requestBody": form_body(form.schema(batch=True)),
        },
    )
