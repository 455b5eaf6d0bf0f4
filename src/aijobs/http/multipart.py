"""`multipart/form-data` (RFC 7578) as a stream of parts, within bounds, however it is cut into chunks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from aijobs.http.problems import INVALID_FORM, UNSUPPORTED_MEDIA_TYPE, Problem

#: Bounds of the headers of one part.
MOST_HEADERS = 16
MOST_HEADER_BYTES = 8_192

#: What arrives is looked at in pieces of this size, so that a large chunk is not a thousand parts at once.
_PIECE_BYTES = 65_536
#: RFC 2046, section 5.1.1.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
_PLAIN_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


@dataclass(frozen=True, slots=True)
class PartHead:
    """A part begins; what it says of itself."""

    name: str
    #: None for a field.
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartEnd:
    """A part ends."""


#: What a form is a stream of: the begin of a part, its bytes, its end, and so on.
PartEvent = PartHead | bytes | PartEnd


async def part_events(request: Request, check_size: Callable[[int], None]) -> AsyncIterator[PartEvent]:
    """The parts of a request's form as they arrive.

    Args:
        request: whose body it is.
        check_size: is told how long the body is at least, and raises when that is too long.

    Raises:
        Problem: it is no form, or none as it should be, or it ends too soon.
    """
    parser = _PartParser(_boundary(request))
    length = request.headers.get("content-length", "")
    check_size(int(length) if length.isdecimal() else 0)
    size = 0
    async for chunk in _chunks(request):
        size += len(chunk)
        check_size(size)
        for begin in range(0, len(chunk), _PIECE_BYTES):
            for event in parser.feed(chunk[begin : begin + _PIECE_BYTES]):
                yield event
    if not parser.is_complete:
        raise _malformed("it ends too soon")


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise _malformed("the client has gone") from None


def _boundary(request: Request) -> str:
    declared = request.headers.getlist("content-type")
    message = Message()
    message["content-type"] = declared[0] if len(declared) == 1 else ""
    if message.get_content_type() != "multipart/form-data":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body with Content-Type: multipart/form-data.")
    found = [value for name, value in message.get_params([]) if name.lower() == "boundary"]
    if len(found) != 1 or not _BOUNDARY.fullmatch(str(found[0])):
        raise _malformed("its Content-Type needs one boundary of 1 to 70 characters")
    return found[0]


class _PartParser:
    """Gives the events of each piece; python-multipart calls back as it goes through one."""

    def __init__(self, boundary: str) -> None:
        self.is_complete = False
        self._events: list[PartEvent] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._header_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to_name,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_count=MOST_HEADERS,
            max_header_size=MOST_HEADER_BYTES,
        )

    def feed(self, piece: bytes) -> list[PartEvent]:
        self._events = []
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed("a boundary or a header of a part is not as it should be") from None
        return self._events

    def _begin_part(self) -> None:
        self._headers = {}
        self._header_bytes = 0

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MOST_HEADER_BYTES:
            raise _malformed(f"the headers of a part may have {MOST_HEADER_BYTES} bytes at most")

    def _end_header(self) -> None:
        name, value = self._name.lower(), self._value
        self._name = self._value = b""
        if name in self._headers:
            raise _malformed("a part has a header twice")
        self._headers[name] = value

    def _end_headers(self) -> None:
        self._events.append(_head(self._headers))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _end_part(self) -> None:
        self._events.append(PartEnd())

    def _end(self) -> None:
        self.is_complete = True


def _head(headers: dict[bytes, bytes]) -> PartHead:
    disposition, options = parse_options_header(headers.get(b"content-disposition"))
    if disposition != b"form-data" or b"name" not in options:
        raise _malformed("a part needs a Content-Disposition: form-data with a name")
    if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise _malformed("a part must not be a form itself; send several files as parts of one name")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise _malformed("parts are sent as they are, without a Content-Transfer-Encoding")
    filename = options.get(b"filename")
    return PartHead(_text(options[b"name"]), None if filename is None else _text(filename))


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")


def _malformed(why: str) -> Problem:
    return Problem(INVALID_FORM, f"The form cannot be read: {why}.")
