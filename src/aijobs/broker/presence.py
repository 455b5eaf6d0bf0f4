"""Which jobs have a message somewhere in the broker: waiting in a queue, or held by a worker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from aijobs.broker.held import HELD, SESSIONS
from aijobs.store.line import Line
from aijobs.store.scripts import Script

#: How many messages one step of the search looks at, so that the server is not kept from other work for long.
STEP = 250
#: How many messages of each list are looked at, from the end where they are consumed.
DEPTH = 20_000

#: Task messages name their job among their headers; those of Celery's older protocol only as correlation id.
_MATCH = """
local wanted, found = {}, {}
local function look(message)
  for _, name in ipairs({'id', 'correlation_id'}) do
    local id = string.match(message, '"' .. name .. '": "([^"]+)"')
    if id and wanted[id] then
      wanted[id] = nil
      found[#found + 1] = id
    end
  end
end
"""

_IN_LIST = Script.of(
    "in_list",
    _MATCH
    + """
for i = 3, #ARGV do wanted[ARGV[i]] = true end
for _, message in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do look(message) end
return found
""",
)

_IN_HASH = Script.of(
    "in_hash",
    _MATCH
    + f"""
for i = 2, #ARGV do wanted[ARGV[i]] = true end
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', {STEP})
for i = 2, #page[2], 2 do look(page[2][i]) end
return {{page[1], found}}
""",
)


def present(
    line: Line, prefix: str, list_keys: Sequence[str], job_ids: Collection[str], unacked_key: str = "unacked"
) -> set[str]:
    """Says which jobs have a message in the broker.

    A message that moves meanwhile, from a list to a holder or back, is found all the same; one that moves twice within
    the milliseconds that this takes may be missed, so ask again before acting on an absence.

    Args:
        line: to the broker's database.
        prefix: the broker's `global_keyprefix`.
        list_keys: the lists of the queues to look into, prefix included.
        job_ids: the jobs in question.
        unacked_key: where kombu's own transport keeps what it holds.

    Raises:
        redis.RedisError: the broker does not answer.
    """
    missing = set(job_ids)
    # What is held may go back to a list after that was looked at; what is in a list may be fetched before it is.
    for places in (_held, _listed, _held):
        for found in places(line, prefix, list_keys, missing, unacked_key):
            missing -= found
            if not missing:
                return set(job_ids)
    return set(job_ids) - missing


def list_keys(channel: Any, queue_names: Iterable[str]) -> list[str]:
    """The lists that queues consist of, in the order in which they are consumed: one for each step of priority."""
    queues = list(queue_names)
    return [
        channel.global_keyprefix + channel._q_for_pri(queue, priority)
        for priority in channel.priority_steps
        for queue in queues
    ]


def _listed(line: Line, _: str, keys: Sequence[str], missing: set[str], __: str) -> Iterator[set[str]]:
    for key in keys:
        # Towards the consumers' end, to which messages move.
        for end in range(min(line.call("LLEN", key), DEPTH), 0, -STEP):
            yield _texts(line.run(_IN_LIST, (key,), (-end, -max(end - STEP, 0) - 1, *missing)))


def _held(line: Line, prefix: str, _: Sequence[str], missing: set[str], unacked_key: str) -> Iterator[set[str]]:
    sessions = line.call("ZRANGE", prefix + SESSIONS, 0, -1)
    for key in (prefix + unacked_key, *(f"{prefix}{HELD}{session.decode()}" for session in sessions)):
        cursor: Any = 0
        while cursor != b"0":
            cursor, found = line.run(_IN_HASH, (key,), (cursor, *missing))
            yield _texts(found)


def _texts(found: Sequence[bytes]) -> set[str]:
    return {text.decode() for text in found}
