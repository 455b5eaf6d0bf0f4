"""The Lua scripts of the Redis store, loaded once and sent by their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_SOURCES = files("aijobs.store") / "lua"


def _read(name: str) -> str:
    return (_SOURCES / f"{name}.lua").read_text(encoding="utf-8")


_LIVENESS = _read("liveness")
_BATCH_COUNTS = _read("batch_counts")
_LIBRARY = _LIVENESS + _BATCH_COUNTS + _read("lib")


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
KEEP = _load("keep", _LIBRARY)
CANCEL = _load("cancel", _LIBRARY)
PUT_BACK = _load("put_back", _LIBRARY)
DELETE = _load("delete", _LIBRARY)
SUSPECTS = _load("suspects", _LIVENESS)
SENT_AGAIN = _load("sent_again")
CHILDREN = _load("children")
_FIND = _read("find")
GET = _load("get", _FIND)
OUTPUT = _load("output", _FIND)
LIST = _load("list")
STATS = _load("stats")
BEAT = _load("beat")
STAY_ALIVE = _load("stay_alive")
LEAVE = _load("leave")
WORKERS = _load("workers")
EVENTS = _load("events")
PING = _load("ping")
RESULT = _load("result")
KEPT = _load("kept")
SECRET = _load("secret")
EXISTING = _load("existing")
TAKE_TURN = _load("take_turn")
_EVENT_TO_TELL = _read("webhook_lib")
WEBHOOK_TAKE = _load("webhook_take")
WEBHOOK_BEGIN = _load("webhook_begin", _EVENT_TO_TELL)
WEBHOOK_SETTLE = _load("webhook_settle", _EVENT_TO_TELL)
WEBHOOK_LOG = _load("webhook_log")
WEBHOOK_ENABLE = _load("webhook_enable")
BATCH_CREATE = _load("batch_create")
BATCH_GET = _load("batch_get")
BATCH_SUBMITTED = _load("batch_submitted")
BATCH_CANCEL = _load("batch_cancel", _BATCH_COUNTS)
BATCH_EVENTS = _load("batch_events")
