"""News of jobs: nobody who watches misses a change, over one connection, through restarts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis

from aijobs.embedded import EmbeddedServer, start_server
from aijobs.settings import Settings
from aijobs.store.base import JobStore
from aijobs.store.redis import RedisStore
from aijobs.store.values import ProgressWrite
from tests.helpers import DEADLINE_SECONDS, claim, new_job, wait_until

pytestmark = pytest.mark.anyio

WORD = ProgressWrite(None, "{}")


@pytest.fixture
async def watched(store: JobStore) -> AsyncIterator[JobStore]:
    yield store
    await store.aclose()


async def report(store: JobStore, job_id: str) -> None:
    await store.run_async(store.report(claim(new_job(job_id)), WORD))


async def test_a_change_wakes_and_silence_does_not(watched: JobStore) -> None:
    async with watched.watch("a") as wait:
        assert not await wait(0.01)
        await report(watched, "a")
        assert await wait(DEADLINE_SECONDS)
        assert not await wait(0.01)


async def test_a_change_between_two_waits_is_not_missed(watched: JobStore) -> None:
    async with watched.watch("a") as wait, watched.watch("a") as witness:
        await report(watched, "a")
        assert await witness(DEADLINE_SECONDS)
        assert await wait(0)


async def test_everybody_who_watches_a_job_is_woken_and_nobody_else(watched: JobStore) -> None:
    async with AsyncExitStack() as stack:
        concerned = [await stack.enter_async_context(watched.watch("a")) for _ in range(50)]
        other = await stack.enter_async_context(watched.watch("b"))
        await report(watched, "a")
        assert all(await asyncio.gather(*(wait(DEADLINE_SECONDS) for wait in concerned)))
        assert not await other(0)


async def test_one_connection_serves_all_who_watch(watched: JobStore, redis_client: redis.Redis) -> None:
    async with AsyncExitStack() as stack:
        jobs = [f"job-{number % 20}" for number in range(100)]
        await asyncio.gather(*(stack.enter_async_context(watched.watch(job)) for job in jobs))
        subscribers = [client for client in redis_client.client_list() if int(client["sub"])]
        assert [client["sub"] for client in subscribers] == ["20"]


async def test_who_leaves_takes_only_their_own_watch_away(watched: JobStore) -> None:
    async with watched.watch("a") as stays:
        async with watched.watch("a"):
            pass
        await report(watched, "a")
        assert await stays(DEADLINE_SECONDS)
    async with watched.watch("a") as back:
        await report(watched, "a")
        assert await back(DEADLINE_SECONDS)


async def test_when_the_last_has_left_nothing_is_subscribed(watched: JobStore, redis_client: redis.Redis) -> None:
    async with watched.watch("a"):
        assert redis_client.pubsub_numsub("aijobs:news:a") == [(b"aijobs:news:a", 1)]
    gone = [(b"aijobs:news:a", 0)]
    wait_until(lambda: redis_client.pubsub_numsub("aijobs:news:a") == gone, "the end of the subscription")


class TestRestart:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[EmbeddedServer]:
        with start_server(tmp_path, use_environment=False) as server:
            yield server

    async def test_who_watches_is_woken_when_the_server_is_back(self, server: EmbeddedServer, tmp_path: Path) -> None:
        store = RedisStore(server.url, Settings(store_timeout_seconds=10))
        async with store.watch("a") as wait:
            server.stop()
            with start_server(tmp_path, port=server.port, use_environment=False):
                assert await wait(DEADLINE_SECONDS), "what happened meanwhile has to be read"
                await report(store, "a")
                assert await wait(DEADLINE_SECONDS)
                async with store.watch("b") as another:
                    await report(store, "b")
                    assert await another(DEADLINE_SECONDS)
                await store.aclose()
