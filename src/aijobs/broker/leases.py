"""The lease under which a process holds messages: renewed by a thread while the process lives, else taken by others."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from weakref import WeakSet

from celery import Celery

from aijobs.broker.connection import SENTINEL_ALIAS, TRANSPORT_ALIAS
from aijobs.broker.held import FRONT, RENEW, Session, Side, lost_deliveries, session_id
from aijobs.broker.keeper import Entry
from aijobs.broker.renewal import UNAVAILABLE, Renewal
from aijobs.settings import current
from aijobs.store.line import Line
from aijobs.store.values import ScriptCall

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: How many acknowledgements go into one command.
MOST_AT_ONCE = 1_000
#: How many renewals in a row look for what an unanswered fetch may have taken.
LOOKS = 5


@dataclass(frozen=True, slots=True)
class Fetch:
    """A fetch that was sent and not answered yet."""

    words: tuple[Any, ...]
    acks: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Return:
    """A message on its way back to its queue."""

    tag: str
    deliveries: int | None = None
    side: Side = FRONT
    #: What to hold first, when it is not known to be held.
    held: bytes | None = None
    #: How often to look whether it is held.
    looks: int = 1


class Lease:
    """What this process holds in one broker, and what it still has to tell the broker about it.

    Args:
        pool: makes connections to the broker.
        prefix: the broker's `global_keyprefix`.
    """

    def __init__(self, pool: Any, prefix: str) -> None:
        self.session = Session(session_id(), prefix, lease_milliseconds())
        self.consumers: WeakSet[Any] = WeakSet()
        self._acks: deque[str] = deque()
        self._returns: deque[_Return] = deque()
        self._later: deque[_Return] = deque()
        self._renewal: Renewal | None = None
        self._lock = threading.Lock()
        self._is_away = False
        self.pool = pool
        self.line = Line(pool)

    def use(self, pool: Any) -> None:
        """Talks to the broker as the newest channel does, from now on."""
        if pool is not self.pool:
            self.pool = pool
            self.line = Line(pool)

    def hold(self, consumer: Any) -> None:
        """Renews the lease from now on, as long as a consumer is open or a message is held."""
        self.consumers.add(consumer)
        with self._lock:
            if self._renewal is None or not self._renewal.is_alive():
                self._renewal = Renewal(self, renewal_seconds())
                self._renewal.start()

    @property
    def has_news(self) -> bool:
        """Whether something is still to be told."""
        return bool(self._acks or self._returns)

    def fetch(self, lists: Sequence[str], count: int) -> Fetch:
        """A fetch of `count` messages at most, which takes the waiting acknowledgements along."""
        acks, tags = tuple(_taken(self._acks)), tuple(fresh_tags(count))
        return Fetch(self.session.fetch_words(lists, acks, tags), acks, tags)

    def undo(self, fetch: Fetch) -> None:
        """Makes up for a fetch that may or may not have been executed, or may still be by a server that hangs."""
        self._acks.extend(fetch.acks)
        self._returns.extend(_Return(tag, looks=LOOKS) for tag in fetch.tags)

    def ack(self, tag: str) -> None:
        """Acknowledges with the next fetch, or when the lease is settled."""
        self._acks.append(tag)

    def give_back(self, tag: str, message: Any = None, side: Side = FRONT) -> None:
        """Returns a message to its queue when the lease is settled."""
        self._returns.append(_Return(tag, lost_deliveries(message) if message else None, side))

    def book(self, tag: str, key: bytes, text: bytes) -> None:
        """Holds a message that was taken from its list already.

        Raises:
            redis.RedisError: it could not be booked; it will go back to its list.
        """
        held = key + b"\n" + text
        try:
            self.session.book(self.line, tag, held)
        except BaseException:
            self._returns.append(_Return(tag, held=held))
            raise

    def settle(self) -> None:
        """Tells what there is to tell; what a broker that is away does not hear waits for the next time."""
        try:
            while self.has_news:
                self._send_acks()
                self._send_returns()
            self._is_away = False
        except UNAVAILABLE as error:
            if not self._is_away:
                logger.warning("What is done is acknowledged when the broker answers again: %s", error)
            self._is_away = True

    def look_again(self) -> None:
        """Settles the lease, with what was not found held the last time and may be now."""
        self._returns.extend(_taken(self._later))
        if self.has_news:
            self.settle()

    def _send_acks(self) -> None:
        tags = _taken(self._acks)
        try:
            if tags:
                self.session.forget(self.line, tags)
        except BaseException:
            self._acks.extend(tags)
            raise

    def _send_returns(self) -> None:
        for one in iter(lambda: _next(self._returns), None):
            try:
                if one.held is not None:
                    self.session.book(self.line, one.tag, one.held)
                found = self.session.give_back(self.line, one.tag, one.deliveries, one.side)
            except BaseException:
                self._returns.appendleft(one)
                raise
            if not found and one.looks > 1:
                self._later.append(replace(one, looks=one.looks - 1))


def lease_of(pool: Any, prefix: str) -> Lease:
    """This process's lease in the broker that a pool connects to."""
    key = (_broker(pool), prefix)
    lease = _leases.get(key)
    if lease is None:
        lease = _leases.setdefault(key, Lease(pool, prefix))
    return lease


@contextlib.contextmanager
def settling_together() -> Iterator[None]:
    """What this thread acknowledges in the `with` block is told to the broker at its end, all of it in one step."""
    channels: set[Any] = set()
    _here.channels = channels
    try:
        yield
    finally:
        _here.channels = None
        for channel in channels:
            settle_soon(channel)


def settle_soon(channel: Any) -> None:
    """Tells the broker what there is to tell, unless it will hear of it soon anyway."""
    if _here.channels is not None:
        _here.channels.add(channel)
    elif not channel.fetches_next:
        channel.lease.settle()


def consumed() -> tuple[Lease, Any] | None:
    """A lease under which this process consumes queues, and the channel with which it does."""
    for lease in list(_leases.values()):
        for channel in tuple(lease.consumers):
            return lease, channel
    return None


def has_leases(app: Celery) -> bool:
    """Whether the messages of an app's broker are held under leases."""
    return app.conf.broker_transport in (TRANSPORT_ALIAS, SENTINEL_ALIAS)


def lease_entries(app: Celery) -> list[Entry]:
    """What a keeper has to renew for the worker of an app; nothing when its broker knows no leases.

    Raises:
        ConfigurationError: an `AIJOBS_*` setting is invalid.
    """
    if not has_leases(app):
        return []
    conf: Any = app.conf
    options = conf.broker_transport_options
    session = Session(session_id(), options.get("global_keyprefix", ""), lease_milliseconds())
    urls = conf.broker_read_url if isinstance(conf.broker_read_url, str) else ";".join(conf.broker_read_url)
    # Sentinels are several addresses of one broker; other lists name brokers that stand in for each other.
    brokers = [urls] if conf.broker_transport == SENTINEL_ALIAS else urls.split(";")
    told = {"transport_options": dict(options), "ssl": conf.broker_use_ssl}
    words = (RENEW.text, session.keys, (session.id, session.lease))
    return [Entry(ScriptCall(url, *words), renewal_seconds(), told) for url in brokers]


def renewal_seconds() -> float:
    """How often a lease is renewed."""
    return min(2.0, max(0.5, current().lease_seconds / 6))


def lease_milliseconds() -> int:
    """How long a message stays with a worker that shows no sign of life.

    By one renewal longer than the worker counts as alive in the job store: a message that came back before would be
    taken for a second one of a job that runs, and dropped.
    """
    return round((current().lease_seconds + renewal_seconds()) * 1_000)


def fresh_tags(count: int) -> Iterator[str]:
    """Delivery tags that this process has not used, so that what is said of an older delivery hits nothing."""
    return map(str, itertools.islice(_tags, count))


class _Here(threading.local):
    #: Where a thread has acknowledged something, while that waits for its company.
    channels: set[Any] | None = None


_here = _Here()
_leases: dict[Any, Lease] = {}
_tags = itertools.count(1)


def _broker(pool: Any) -> tuple[Any, ...]:
    options = pool.connection_kwargs
    names = ("host", "port", "path", "db")
    return (getattr(pool, "service_name", None), *map(options.get, names))


def _next(waiting: deque[T]) -> T | None:
    """The first that waits; other threads may take it before."""
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _taken(waiting: deque[T]) -> list[T]:
    """As many as one script takes as its arguments; the rest waits."""
    taken = iter(lambda: _next(waiting), None)
    return [one for one in itertools.islice(taken, MOST_AT_ONCE) if one is not None]


os.register_at_fork(after_in_child=_leases.clear)
