"""The Lua scripts of the Redis store, loaded once and sent by their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_SOURCES = files("aijobs.store") / "lua"
_LIBRARY = (_SOURCES / "lib.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the digest by which the server knows it (EVALSHA)."""

    name: str
    text: str
    sha: str

    @classmethod
    def of(cls, name: str, text: str) -> Script:
        """The script with this text."""
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _load(name: str, *, changes_job: bool) -> Script:
    text = (_SOURCES / f"{name}.lua").read_text(encoding="utf-8")
    return Script.of(name, _LIBRARY + text if changes_job else text)


CREATE = _load("create", changes_job=True)
START = _load("start", changes_job=True)
REPORT = _load("report", changes_job=True)
REQUEUE = _load("requeue", changes_job=True)
FINISH = _load("finish", changes_job=True)
CANCEL = _load("cancel", changes_job=True)
GET = _load("get", changes_job=False)
LIST = _load("list", changes_job=False)
STATS = _load("stats", changes_job=False)
HEARTBEAT = _load("heartbeat", changes_job=False)
EVENTS = _load("events", changes_job=False)
PING = _load("ping", changes_job=False)
RESULT = _load("result", changes_job=False)
SECRET = _load("secret", changes_job=False)
