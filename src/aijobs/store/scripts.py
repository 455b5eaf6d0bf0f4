"""The Lua scripts of the Redis store, loaded once and sent by their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_SOURCES = files("aijobs.store") / "lua"


def _read(name: str) -> str:
    return (_SOURCES / f"{name}.lua").read_text(encoding="utf-8")


_LIVENESS = _read("liveness")
_LIBRARY = _LIVENESS + _read("lib")


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


def _load(name: str, library: str = "") -> Script:
    return Script.of(name, library + _read(name))


CREATE = _load("create", _LIBRARY)
START = _load("start", _LIBRARY)
REPORT = _load("report", _LIBRARY)
REQUEUE = _load("requeue", _LIBRARY)
FINISH = _load("finish", _LIBRARY)
CANCEL = _load("cancel", _LIBRARY)
PUT_BACK = _load("put_back", _LIBRARY)
DELETE = _load("delete", _LIBRARY)
SUSPECTS = _load("suspects", _LIVENESS)
SENT_AGAIN = _load("sent_again")
CHILDREN = _load("children")
GET = _load("get")
LIST = _load("list")
STATS = _load("stats")
BEAT = _load("beat")
STAY_ALIVE = _load("stay_alive")
LEAVE = _load("leave")
WORKERS = _load("workers")
EVENTS = _load("events")
PING = _load("ping")
RESULT = _load("result")
SECRET = _load("secret")
