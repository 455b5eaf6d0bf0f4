"""What a consumer process holds: messages that it fetched and has not acknowledged, kept in the broker.

They stand in a hash of the process's session, whose lease stands in a sorted set of all sessions, with times by the
server's clock. Both are apart from kombu's own `unacked`, so that consumers with kombu's transport and ours can read
one queue and never return each other's messages.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aijobs.store.line import Line
from aijobs.store.scripts import Script

#: The message header that counts the deliveries of a message which ended with the loss of the process that held it.
DELIVERIES = "aijobs_deliveries"
#: Keys in the broker's database, below its `global_keyprefix`.
HELD = "aijobs:held:"
SESSIONS = "aijobs:sessions"

#: How many messages of lost sessions one look takes at most.
REAP_LIMIT = 50

#: The ends of a queue: consumers take from the front.
Side = Literal["RPUSH", "LPUSH"]
FRONT: Side = "RPUSH"
BACK: Side = "LPUSH"

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

#: Acknowledges, then takes as many messages as there are fresh tags. What was taken is answered even when a key turns
#: out to be no list, since it is booked by then.
FETCH = Script.of(
    "fetch",
    _NOW
    + """
local acks = tonumber(ARGV[3])
if acks > 0 then redis.call('HDEL', KEYS[1], unpack(ARGV, 4, 3 + acks)) end
local found, tag = {}, 4 + acks
for list = 3, #KEYS do
  while ARGV[tag] do
    local item = redis.pcall('RPOP', KEYS[list])
    if type(item) == 'table' and not found[1] then return item end
    if type(item) ~= 'string' then break end
    redis.call('HSET', KEYS[1], ARGV[tag], KEYS[list] .. '\\n' .. item)
    found[#found + 1] = KEYS[list]
    found[#found + 1] = item
    tag = tag + 1
  end
end
if found[1] then
  redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
elseif acks > 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return found
""",
)

_BOOK = Script.of(
    "book",
    _NOW
    + """
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
""",
)

_FORGET = Script.of(
    "forget",
    """
redis.call('HDEL', KEYS[1], unpack(ARGV, 2))
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
""",
)

#: Returns a message to its list, once. With a deadline it does so for a session whose lease has passed, and not after
#: the deadline: a server that hung would execute it before the renewals that waited as well.
_GIVE_BACK = Script.of(
    "give_back",
    _NOW
    + """
local deadline = tonumber(ARGV[5])
if deadline then
  local expiry = redis.call('ZSCORE', KEYS[2], ARGV[1])
  if now > deadline or not expiry or tonumber(expiry) >= now then return 0 end
end
local value = redis.call('HGET', KEYS[1], ARGV[2])
if not value then return 0 end
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call(ARGV[4], string.sub(value, 1, string.find(value, '\\n', 1, true) - 1), ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return 1
""",
)

#: Renews the lease of a session that holds something; tells the server's time and how much that is.
RENEW = Script.of(
    "renew",
    _NOW
    + """
local held = redis.call('HLEN', KEYS[1])
if held > 0 then
  redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return {now, held}
""",
)

_EXPIRED = Script.of(
    "expired",
    _NOW
    + """
local found, left = {}, tonumber(ARGV[3])
if now > tonumber(ARGV[2]) then return found end
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, left)) do
  local held = ARGV[1] .. session
  local tags = redis.call('HKEYS', held)
  if not tags[1] then redis.call('ZREM', KEYS[1], session) end
  for i = 1, math.min(left, #tags) do
    found[#found + 1] = {session, tags[i], redis.call('HGET', held, tags[i])}
    left = left - 1
  end
end
return found
""",
)


@dataclass(frozen=True, slots=True)
class Session:
    """One consumer process, in one broker.

    Args:
        id: of the process; no other has had it.
        prefix: the broker's `global_keyprefix`.
        lease: how long after a sign of life the session's messages stay with it, milliseconds.
    """

    id: str
    prefix: str
    lease: int

    @property
    def keys(self) -> tuple[str, str]:
        """The session's hash of held messages, and the set of all sessions."""
        return f"{self.prefix}{HELD}{self.id}", self.prefix + SESSIONS

    def fetch_words(self, lists: Sequence[str], acks: Sequence[str], tags: Sequence[str]) -> tuple[Any, ...]:
        """What follows the name or text of `FETCH`: one message at most for each fresh tag."""
        keys = (*self.keys, *lists)
        return (len(keys), *keys, self.id, self.lease, len(acks), *acks, *tags)

    def book(self, line: Line, tag: str, held: bytes) -> None:
        """Holds a message that came in another way than by a fetch."""
        line.run(_BOOK, self.keys, (self.id, self.lease, tag, held))

    def forget(self, line: Line, tags: Sequence[str]) -> None:
        """Acknowledges messages."""
        line.run(_FORGET, self.keys, (self.id, *tags))

    def give_back(self, line: Line, tag: str, deliveries: int | None, side: Side) -> bool:
        """Returns a message to its queue; False when it is not held any more.

        Args:
            line: to the broker.
            tag: the message's delivery tag.
            deliveries: what its header is to count; None leaves the count.
            side: which end of the queue.
        """
        held = line.call("HGET", self.keys[0], tag)
        if held is None:
            return False
        text = redelivered(split_held(held)[1], lambda _: deliveries)
        return bool(line.run(_GIVE_BACK, self.keys, (self.id, tag, text, side)))

    def of(self, session_id: str) -> Session:
        """Another session in the same broker."""
        return Session(session_id, self.prefix, self.lease)


def session_id() -> str:
    """What this process calls itself towards broker and store: it holds messages and executes jobs under this id."""
    if not _ids:
        _ids.append(secrets.token_hex(8))
    return _ids[0]


def reap(line: Line, session: Session, deadline: int) -> Iterator[str]:
    """Returns messages of lost sessions to the front of their queues, each counted as one more lost delivery.

    Args:
        line: to the broker.
        session: of whoever looks; any will do.
        deadline: by the server's clock, milliseconds; nothing is returned after it.

    Yields:
        The id of a lost session, for each message returned.
    """
    prefix, sessions = session.prefix + HELD, session.keys[1]
    for lost, tag, held in line.run(_EXPIRED, (sessions,), (prefix, deadline, REAP_LIMIT)):
        other = session.of(lost.decode())
        text = redelivered(split_held(held)[1], lambda before: before + 1)
        if line.run(_GIVE_BACK, other.keys, (other.id, tag, text, FRONT, deadline)):
            yield other.id


def split_held(held: bytes) -> tuple[bytes, bytes]:
    """List key and message text of a held message."""
    key, _, text = held.partition(b"\n")
    return key, text


def lost_deliveries(message: Any) -> int:
    """How many processes were lost while they held a message, by its header; 0 when that is absent or nonsense."""
    return _count(message.headers)


def redelivered(text: bytes, count: Any) -> bytes:
    """A message's text with kombu's mark of a redelivery; what is no message stays as it is.

    Args:
        text: as it was in the queue.
        count: gives, from the deliveries that the message counts so far, what it is to count, or None.
    """
    try:
        message = json.loads(text)
        headers = message["headers"]
        headers["redelivered"] = message["properties"]["delivery_info"]["redelivered"] = True
        deliveries = count(_count(headers))
    except (ValueError, LookupError, TypeError, RecursionError):
        return text
    if deliveries:
        headers[DELIVERIES] = deliveries
    return json.dumps(message).encode()


def _count(headers: Any) -> int:
    value = headers.get(DELIVERIES) if isinstance(headers, dict) else None
    return value if type(value) is int and value > 0 else 0


_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)
