"""Jobs as the API shows them: JSON, entity tag and polling hint."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from aijobs.job import Job, JobStatus, PastRun
from aijobs.store.record import rfc3339
from aijobs.store.values import EncodedOutput

#: Answers are for one caller, and a stored copy is asked for again each time.
CACHE_CONTROL = "private, no-cache"

#: What a queued job is assumed to wait for each job ahead of it, seconds.
SECONDS_PER_POSITION = 1.0

_PATH_SAFE = "/:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class View:
    """How one caller sees jobs; `Access.view` makes it for a request."""

    #: The router's path, for `urls`.
    base: str
    #: Whether the caller is an admin, who sees more of a job.
    admin: bool = False


def path_below_root(scope: Scope) -> str:
    """A request's path below where the app is mounted or proxied to."""
    root, path = scope.get("root_path", "").rstrip("/"), str(scope["path"])
    # A server puts its root path in front of the path; an app that only declares one does not.
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def base_path(request: Request, depth: int) -> str:
    """The path of the router that serves a request, mounts and a proxy's prefix included.

    Args:
        request: whose path ends in as many segments below the router as `depth` says.
        depth: 0 for the list of jobs.
    """
    segments = path_below_root(request.scope).rstrip("/").split("/")
    root = request.scope.get("root_path", "").rstrip("/")
    return quote(root + "/".join(segments[: len(segments) - depth]), safe=_PATH_SAFE)


def job_path(base: str, job_id: str) -> str:
    """The path of one job below `base`."""
    return f"{base}/{quote(job_id, safe='')}"


def timestamp(moment: datetime | None) -> str | None:
    """A time as the API shows it, if there is one."""
    return None if moment is None else rfc3339(moment)


def json_bytes(value: Any) -> bytes:
    """JSON that every reader takes: no NaN, no Infinity."""
    return to_json(value, inf_nan_mode="null")


def job_json(job: Job, view: View, extra: Mapping[str, Any] | None = None) -> bytes:
    """A job's JSON object, as one caller sees it.

    Args:
        job: of which only admins see arguments, traceback, worker, queue, owner and earlier runs.
        view: the caller's.
        extra: members that are put in front.
    """
    if not view.admin:
        return _joined(job, view, extra or {})
    return _joined(job, view, {**(extra or {}), **_admin_members(job), "traceback": job.traceback}, arguments=True)


def output_json(output: EncodedOutput | None) -> bytes:
    """What a job has given out so far, as a JSON value."""
    return b"null" if output is None else b"{" + _output_members(output) + b"}"


def _output_members(output: EncodedOutput) -> bytes:
    # Decoding what may be long, only to encode it again, would cost more than all the rest.
    truncated = b"true" if output.truncated else b"false"
    return b'"attempt":%d,"pieces":%s,"truncated":%s' % (output.attempt, output.pieces, truncated)


def page_json(jobs: Iterable[Job], view: View, cursor: str | None) -> bytes:
    """A page of jobs. What may be long, arguments and tracebacks, is for who asks for a single job.

    Args:
        jobs: in their order.
        view: the caller's.
        cursor: where the next page begins; None when there is none.
    """
    listed = b",".join(_joined(job, view, _admin_members(job) if view.admin else {}) for job in jobs)
    rest = json_bytes({"next_cursor": cursor, "has_more": cursor is not None})
    return b'{"jobs":[' + listed + b"]," + rest[1:]


def job_response(
    request: Request,
    job: Job,
    view: View,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """The response that shows a job, or 304 when the client has it."""
    told = {**_headers(job, view), **(headers or {})}
    return unless_known(request, told) or json_response(job_json(job, view, extra), told, status)


def result_response(request: Request, job: Job, result: bytes) -> Response:
    """The response that is a job's result, or 304 when the client has it."""
    told = _headers(job)
    return unless_known(request, told) or json_response(result, told)


def output_headers(job: Job) -> dict[str, str]:
    """The headers of a job's output, which changes with its events and not with its place in the queue."""
    return {**_headers(job), "ETag": f'"{_id_part(job)}-o{job.seq}"'}


def output_response(job: Job, output: EncodedOutput | None) -> Response:
    """The response that is all that a job has given out so far."""
    shown = output or EncodedOutput(job.attempt, b"[]", b'""', truncated=False)
    told = json_bytes({"job_id": job.id, "seq": job.seq, "finished": job.finished})
    body = b'%s,%s,"text":%s}' % (told[:-1], _output_members(shown), shown.text)
    return json_response(body, output_headers(job))


def json_response(body: bytes, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A response with JSON, fresh for one caller."""
    return Response(body, status, {"Cache-Control": CACHE_CONTROL, **(headers or {})}, "application/json")


def _headers(job: Job, view: View | None = None) -> dict[str, str]:
    again = {} if job.finished else {"Retry-After": str(retry_after(job))}
    return {"ETag": entity_tag(job, view), **again}


def unless_known(request: Request, headers: Mapping[str, str]) -> Response | None:
    """304 when `If-None-Match` names the current state (RFC 9110, section 13.1.2)."""
    given = ",".join(request.headers.getlist("if-none-match"))
    if request.method not in ("GET", "HEAD") or not given:
        return None
    known = {one.strip().removeprefix("W/") for one in given.split(",")}
    if known.isdisjoint({"*", headers["ETag"]}):
        return None
    return Response(status_code=304, headers={"Cache-Control": CACHE_CONTROL, **headers})


def entity_tag(job: Job, view: View | None = None) -> str:
    """A strong entity tag: it changes with everything that the job's JSON shows, and admins have one of their own."""
    kind = "a" if view is not None and view.admin else ""
    return f'"{_id_part(job)}-{job.rev}-{job.queue_position or 0}{kind}"'


def _id_part(job: Job) -> str:
    return f"{zlib.crc32(job.id.encode()):08x}"


def retry_after(job: Job) -> int:
    """Seconds after which asking again is worth it; spread by ±20 % so that clients do not come all at once."""
    most = 30 if job.status is JobStatus.QUEUED else 15
    return polling_hint(job.id, _seconds_until_news(job, datetime.now(UTC)), most)


def polling_hint(identity: str, seconds: float, most: int) -> int:
    """Whole seconds between 1 and `most`, spread by ±20 % by the id of what is asked for."""
    spread = 0.8 + 0.4 * (zlib.crc32(identity.encode()) % 1000) / 1000
    return max(1, min(most, math.ceil(seconds * spread)))


def _seconds_until_news(job: Job, now: datetime) -> float:
    if job.status is JobStatus.QUEUED:
        return _seconds_until_start(job, now) / 2
    return seconds_until_progress(now - (job.started_at or job.created_at), job.progress)


def seconds_until_progress(elapsed: timedelta, progress: float | None) -> float:
    """How long to wait for progress, after what there was in the time since the begin."""
    seconds = max(0.0, elapsed.total_seconds())
    if progress is not None and progress > 0.05:
        return seconds * (1 - progress) / progress / 4
    return seconds / 10


def _seconds_until_start(job: Job, now: datetime) -> float:
    if job.scheduled_at is not None and job.scheduled_at > now:
        return (job.scheduled_at - now).total_seconds()
    # Who has waited for long will probably wait for as long again.
    waited = (now - job.created_at).total_seconds()
    return max(waited, (job.queue_position or 1) * SECONDS_PER_POSITION)


def _joined(job: Job, view: View, before: Mapping[str, Any], *, arguments: bool = False) -> bytes:
    members = json_bytes({**before, **_members(job), "urls": _urls(job_path(view.base, job.id))})
    # The result is JSON already; decoding it only to encode it again would cost more than all the rest.
    result = b"null" if job.result_json is None else job.result_json.encode()
    kept = b',"arguments":' + _arguments(job) if arguments else b""
    return members[:-1] + kept + b',"result":' + result + b"}"


def _admin_members(job: Job) -> dict[str, Any]:
    return {"owner": job.owner, "queue": job.queue, "worker": job.worker, "history": [_run(one) for one in job.history]}


def _run(run: PastRun) -> dict[str, Any]:
    return {
        "status": run.status,
        "error": None if run.error is None else run.error.to_dict(),
        "attempts": run.attempts,
        "completed_at": timestamp(run.completed_at),
    }


def _arguments(job: Job) -> bytes:
    """The arguments that the record kept. Jobs that were not submitted over HTTP may have NaN and lone surrogates."""
    if job.arguments_json is None:
        return b"null"
    args, kwargs = json.loads(job.arguments_json, parse_constant=lambda _: None)
    return json.dumps({"args": args, "kwargs": kwargs}, ensure_ascii=False).encode("utf-8", "replace")


def _members(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "task": job.task,
        "status": job.status,
        "batch_id": job.batch_id,
        "metadata": dict(job.metadata),
        "rev": job.rev,
        "progress": job.progress,
        "progress_detail": None if job.progress_detail is None else job.progress_detail.to_dict(),
        "queue_position": job.queue_position,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "error": None if job.error is None else job.error.to_dict(),
        "created_at": timestamp(job.created_at),
        "scheduled_at": timestamp(job.scheduled_at),
        "started_at": timestamp(job.started_at),
        "completed_at": timestamp(job.completed_at),
        "cancel_requested_at": timestamp(job.cancel_requested_at),
        "expires_at": timestamp(job.expires_at),
        "metrics": {"queue_seconds": job.queue_seconds, "run_seconds": job.run_seconds},
    }


def _urls(path: str) -> dict[str, str]:
    parts = ("events", "output", "result", "cancel")
    return {"self": path, **{part: f"{path}/{part}" for part in parts}}
