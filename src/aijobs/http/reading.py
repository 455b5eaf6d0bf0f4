"""Reading a form with files: files go to the file store piece by piece, fields are collected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from aijobs.files import FileRefused, FileStore, Reason, UploadedFile
from aijobs.files.keys import clean_name
from aijobs.http.arrival import Arrival, NewKey, in_thread
from aijobs.http.multipart import PartEnd, PartEvent, PartHead, part_events
from aijobs.http.problems import (
    BODY_TOO_LARGE,
    FILE_TOO_LARGE,
    FILES_UNAVAILABLE,
    INVALID_REQUEST,
    UNSUPPORTED_FILE,
    UPLOAD_TIMEOUT,
    Problem,
    validation_problem,
)
from aijobs.http.signature import FileParameter

logger = logging.getLogger(__name__)

#: Bounds of the fields of one form.
MOST_FIELDS = 100
MOST_FIELD_BYTES = 1_048_576
#: A form must have arrived after so long. The sweep of files without a job waits for longer than that.
UPLOAD_SECONDS = 1_800.0

_KINDS = {
    Reason.TOO_LARGE: FILE_TOO_LARGE,
    Reason.WRONG_TYPE: UNSUPPORTED_FILE,
    Reason.EMPTY: INVALID_REQUEST,
}


@dataclass(frozen=True, slots=True)
class FormLimits:
    """How much one form may hold."""

    #: All of it, bytes.
    body_bytes: int
    #: One file, unless its parameter says otherwise, bytes.
    file_bytes: int
    files: int
    #: How long it may take to arrive.
    seconds: float = UPLOAD_SECONDS


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that has arrived, or was refused."""

    job_id: str
    content: UploadedFile | FileRefused


@dataclass(frozen=True, slots=True)
class ReceivedForm:
    """A form that has arrived."""

    fields: Mapping[str, str]
    #: By parameter, in their order.
    files: Mapping[str, list[ReceivedFile]]


class FormReader:
    """Reads one form.

    Args:
        files: where files go.
        parameters: that take them.
        limits: of the form.
        new_key: gives job and key of a new file.
        tolerant: whether a refused file leaves the others alone, and parameters take any number of files.
    """

    def __init__(
        self,
        files: FileStore,
        parameters: Mapping[str, FileParameter],
        limits: FormLimits,
        new_key: NewKey,
        *,
        tolerant: bool = False,
    ) -> None:
        self._files = files
        self._parameters = parameters
        self._limits = limits
        self._new_key = new_key
        self._tolerant = tolerant
        self._arrivals: list[Arrival] = []
        self._received: dict[str, list[ReceivedFile]] = {}
        self._fields: dict[str, bytearray] = {}
        self._field_bytes = 0
        self._head = PartHead("", None)
        self._arrival: Arrival | None = None

    async def read(self, request: Request) -> ReceivedForm:
        """The form of a request.

        Raises:
            Problem: it is not as it should be, too large, too slow, or the file store does not work.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for event in part_events(request, self._check_size):
                    await self._take(event)
        except TimeoutError:
            raise Problem(UPLOAD_TIMEOUT, f"The body must arrive within {self._limits.seconds:g} s.") from None
        except OSError as error:
            logger.exception("An uploaded file cannot be kept in %s", self._files.url)
            raise Problem(FILES_UNAVAILABLE, "The file cannot be kept. Try again later.") from error
        return ReceivedForm({name: _decoded(name, value) for name, value in self._fields.items()}, self._received)

    @asynccontextmanager
    async def discarding(self) -> AsyncIterator[None]:
        """Removes all files again when the block raises, or is cancelled."""
        try:
            yield
        except BaseException:
            await self.discard()
            raise

    async def discard(self, *job_ids: str) -> None:
        """Removes the files of some jobs, or all, even when the request is cancelled meanwhile."""
        chosen = [one for one in self._arrivals if not job_ids or one.job_id in job_ids]
        await asyncio.shield(in_thread(lambda: _discard_all(chosen)))

    async def _take(self, event: PartEvent) -> None:
        match event:
            case PartHead():
                await self._begin(event)
            case PartEnd():
                await self._end()
            case _:
                await self._more(event)

    async def _begin(self, head: PartHead) -> None:
        self._head = head
        self._arrival = None
        if head.filename is None:
            self._begin_field(head.name)
        elif head.filename:
            await self._begin_file(head.name, clean_name(head.filename))

    def _begin_field(self, name: str) -> None:
        if name in self._parameters:
            raise _fault(name, "Send a file, with a file name", "file_expected")
        if name in self._fields:
            raise _fault(name, "The field is there twice", "duplicate_field")
        if len(self._fields) == MOST_FIELDS:
            raise Problem(BODY_TOO_LARGE, f"A form may have {MOST_FIELDS} fields at most.")
        self._fields[name] = bytearray()

    async def _begin_file(self, name: str, filename: str) -> None:
        parameter = self._parameters.get(name)
        if parameter is None:
            raise _fault(name, "The task takes no file of this name", "extra_forbidden")
        if name in self._received and not (parameter.many or self._tolerant):
            raise _fault(name, "The task takes one file of this name", "too_many_files")
        if len(self._arrivals) == self._limits.files:
            raise Problem(BODY_TOO_LARGE, f"A request may have {self._limits.files} files at most.")
        limit = parameter.rules.max_bytes or self._limits.file_bytes
        self._arrival = Arrival(self._files, self._new_key, filename, parameter.rules, limit)
        self._arrivals.append(self._arrival)
        await self._arrival.begin()
        self._check_refusal(self._arrival)

    async def _more(self, data: bytes) -> None:
        if self._arrival is not None:
            await self._arrival.take(data)
            self._check_refusal(self._arrival)
        elif self._head.filename is None:
            self._add_to_field(data)
        else:
            # What has neither a name nor content is a file input that was left empty.
            raise _fault(self._head.name, "The file has no name", "file_expected")

    def _add_to_field(self, data: bytes) -> None:
        self._field_bytes += len(data)
        if self._field_bytes > MOST_FIELD_BYTES:
            raise Problem(BODY_TOO_LARGE, f"The fields may have {MOST_FIELD_BYTES} bytes at most.")
        self._fields[self._head.name] += data

    async def _end(self) -> None:
        if self._arrival is not None:
            content = await self._arrival.end()
            self._check_refusal(self._arrival)
            received = self._received.setdefault(self._head.name, [])
            received.append(ReceivedFile(self._arrival.job_id, content))

    def _check_refusal(self, arrival: Arrival) -> None:
        if arrival.refusal is not None and not self._tolerant:
            raise file_problem(self._head.name, arrival.refusal)

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            raise Problem(BODY_TOO_LARGE, f"The body may have {self._limits.body_bytes} bytes at most.")


def file_problem(parameter: str, refused: FileRefused) -> Problem:
    """What is said of a file that was refused."""
    problem = _fault(parameter, str(refused), refused.reason.value)
    return Problem(_KINDS[refused.reason], str(refused), members=problem.members)


def _fault(name: str, detail: str, kind: str) -> Problem:
    return validation_problem([{"loc": ("body", name), "msg": detail, "type": kind}], {name: None})


def _decoded(name: str, value: bytearray) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise _fault(name, "The field should be text in UTF-8", "string_unicode") from None


def _discard_all(arrivals: Sequence[Arrival]) -> None:
    for arrival in arrivals:
        try:
            arrival.discard()
        except OSError:
            logger.exception("An uploaded file stays until the next sweep")
