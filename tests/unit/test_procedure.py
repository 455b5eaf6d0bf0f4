"""Procedures: the same steps in both colours."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aijobs._procedure import Blocking, Procedure, run, run_async
from aijobs.errors import StoreUnavailable
from aijobs.settings import Settings
from aijobs.store.redis import RedisStore
from aijobs.store.values import Creation
from tests.helpers import new_job

LATE = StoreUnavailable("too late")


def both_ways(store: RedisStore) -> Procedure[tuple[bool, str]]:
    job = new_job()
    before = yield store.get(job.id)
    created = yield store.create(job)
    thread = yield Blocking(lambda: threading.current_thread().name, LATE)
    assert created.outcome is Creation.CREATED
    return before is None, thread


def test_each_step_is_given_what_it_gave(store: RedisStore) -> None:
    here = threading.current_thread().name
    assert run(store, both_ways(store)) == (True, here)

    async def on_a_loop() -> tuple[bool, str]:
        try:
            return await run_async(store, both_ways(store))
        finally:
            await store.aclose()

    found, thread = asyncio.run(on_a_loop())
    assert found
    assert thread != here


def test_an_event_loop_does_not_wait_for_long(store: RedisStore) -> None:
    release = threading.Event()

    def wait() -> Procedure[None]:
        yield Blocking(lambda: release.wait(60), LATE)

    async def on_a_loop() -> None:
        with pytest.raises(StoreUnavailable, match="too late"):
            await run_async(store, wait())
        release.set()

    asyncio.run(on_a_loop())


def test_what_a_step_raises_is_raised() -> None:
    away = RedisStore("redis://127.0.0.1:1/0", Settings())

    def look() -> Procedure[None]:
        yield away.get("id")

    with pytest.raises(StoreUnavailable):
        run(away, look())

    def fail() -> Procedure[None]:
        yield Blocking(lambda: int("no number"), LATE)

    with pytest.raises(ValueError, match="no number"):
        run(away, fail())
