"""The Idempotency-Key header (IETF httpapi draft): a submission that is repeated is the same job."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from starlette.requests import Request

from aijobs.http.problems import INVALID_IDEMPOTENCY_KEY, Problem
from aijobs.http.render import json_bytes
from aijobs.store.values import Idempotency

HEADER = "Idempotency-Key"

#: As a structured string in quotes, or bare.
_KEY = re.compile(r'"((?:[!#-\[\]-~]|\\["\\]){1,255})"|([!#-~]{1,255})', re.ASCII)


def read_idempotency(request: Request, task: str, owner: str | None, content: bytes) -> Idempotency | None:
    """What to reserve for a request; None when it has no key.

    Args:
        request: that may have an `Idempotency-Key` header.
        task: keys count per task.
        owner: and per owner.
        content: canonical form of what was sent.

    Raises:
        Problem: more than one header, or not 1–255 visible characters.
    """
    headers = request.headers.getlist(HEADER)
    if not headers:
        return None
    scope = json_bytes([owner, task]).decode()
    return Idempotency(scope, _read_key(headers), hashlib.sha256(content).hexdigest())


def _read_key(headers: Sequence[str]) -> str:
    if len(headers) > 1:
        raise Problem(INVALID_IDEMPOTENCY_KEY, f"Send one {HEADER} header, not {len(headers)}.")
    match = _KEY.fullmatch(headers[0].strip())
    if match is None:
        raise Problem(INVALID_IDEMPOTENCY_KEY, f"{HEADER} takes 1–255 visible ASCII characters, quoted or bare.")
    quoted, bare = match.groups()
    return bare or re.sub(r"\\(.)", r"\1", quoted)
