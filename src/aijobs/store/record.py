"""How a job looks in Redis, and back: flat fields of text to frozen values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from aijobs.job import ErrorCode, EventType, Job, JobError, JobEvent, JobStatus, PastRun, Piece, Progress, Webhook

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: How a piece of output begins and ends that is text; no other piece begins so.
_TEXT, _AFTER_TEXT = b'{"text":"', b'"}'


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: str | int) -> datetime:
    """The UTC datetime of microseconds since 1970."""
    return _EPOCH + int(microseconds) * _MICROSECOND


def rfc3339(moment: datetime) -> str:
    """A time as text (RFC 3339), in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_fields(flat: Sequence[bytes]) -> dict[str, str]:
    """The reply of HGETALL as a mapping."""
    text = [part.decode("utf-8", "replace") for part in flat]
    return dict(zip(text[::2], text[1::2], strict=True))


def decode_fields(text: bytes) -> dict[str, str]:
    """The same of a reply that a script made JSON text of."""
    flat = json.loads(text.decode("utf-8", "replace"))
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_job(fields: Mapping[str, str], queue_position: int = 0) -> Job:
    """The frozen value of a record's fields."""
    return Job(
        id=fields["id"],
        task=fields["task"],
        status=JobStatus(fields["status"]),
        rev=int(fields.get("rev", 0)),
        seq=int(fields.get("seq", 0)),
        attempt=int(fields.get("attempt", 0)),
        max_attempts=_optional(int, fields.get("max_attempts")),
        progress=_optional(float, fields.get("progress")),
        progress_detail=_progress(fields.get("detail")),
        result_json=fields.get("result"),
        result_bytes=_optional(int, fields.get("result_bytes")),
        error=_error(fields),
        traceback=fields.get("traceback") or None,
        owner=fields.get("owner"),
        batch_id=fields.get("batch_id"),
        metadata=json.loads(fields.get("metadata", "{}")),
        queue=fields.get("queue") or None,
        worker=fields.get("worker") or None,
        queue_position=queue_position or None,
        queue_seconds=_seconds(fields.get("created"), fields.get("first_started")),
        run_seconds=_seconds(fields.get("started"), fields.get("ended")),
        arguments_json=fields.get("arguments"),
        options_json=fields.get("options"),
        parent_id=fields.get("parent_id"),
        group_id=fields.get("group_id"),
        lost_deliveries=int(fields.get("losses", 0)),
        history=_history(fields.get("history")),
        webhook=_webhook(fields),
        **_times(fields),
    )


def read_event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> JobEvent:
    """The frozen value of a stream entry."""
    data = json.loads(fields[b"d"])
    if "scheduled_us" in data:
        data["scheduled_at"] = rfc3339(from_us(data.pop("scheduled_us")))
    return JobEvent(int(entry_id.split(b"-")[0]), EventType(fields[b"t"].decode()), data)


def read_pieces(lines: bytes) -> Sequence[Piece]:
    """Lines of JSON as pieces; texts that follow each other become one."""
    pieces, _ = join_pieces(lines)
    return tuple(Piece(**piece) for piece in json.loads(pieces.decode("utf-8", "replace")))


def join_pieces(lines: bytes) -> tuple[bytes, bytes]:
    """Lines of JSON as a JSON array of pieces, texts that follow each other as one; and all text as a JSON string."""
    pieces: list[bytes] = []
    texts: list[bytes] = []
    for is_text, group in groupby(lines.split(b"\n"), lambda line: line.startswith(_TEXT)):
        if is_text:
            texts.append(b"".join(line[len(_TEXT) : -len(_AFTER_TEXT)] for line in group))
            pieces.append(_TEXT + texts[-1] + _AFTER_TEXT)
        else:
            pieces += group
    return b"[%s]" % b",".join(pieces), b'"%s"' % b"".join(texts)


def _times(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        "created_at": from_us(fields["created"]),
        "expires_at": from_us(fields.get("expires", fields["created"])),
        "scheduled_at": _optional(from_us, fields.get("scheduled")),
        "started_at": _optional(from_us, fields.get("started")),
        "completed_at": _optional(from_us, fields.get("completed")),
        "cancel_requested_at": _optional(from_us, fields.get("cancel_requested")),
    }


def _optional(read: Any, text: str | None) -> Any:
    return read(text) if text else None


def _seconds(begin: str | None, end: str | None) -> float | None:
    return (int(end) - int(begin)) / 1e6 if begin and end else None


def _progress(text: str | None) -> Progress | None:
    return Progress(**json.loads(text)) if text else None


def _error(fields: Mapping[str, str]) -> JobError | None:
    if not fields.get("error_code"):
        return None
    return _job_error(
        fields["error_code"],
        fields.get("error_message", ""),
        int(fields.get("error_attempt", 0)),
        fields.get("error_retryable", ""),
    )


def _job_error(code: str, message: str, attempt: int, retryable: str) -> JobError:
    known = ErrorCode(code)
    return JobError(known, message, retryable == "yes" if retryable else known.retryable, attempt)


def _webhook(fields: Mapping[str, str]) -> Webhook | None:
    url = fields.get("webhook_url")
    return Webhook(url, tuple(fields["webhook_events"].split())) if url else None


def _history(text: str | None) -> Sequence[PastRun]:
    return tuple(_past_run(*run) for run in json.loads(text or "[]"))


def _past_run(status: str, code: str, message: str, attempts: int, completed: str, retryable: str = "") -> PastRun:
    error = _job_error(code, message, attempts, retryable) if code else None
    return PastRun(JobStatus(status), error, attempts, from_us(completed))
