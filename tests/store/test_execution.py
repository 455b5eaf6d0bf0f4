"""How the operations of one event loop share a connection, and what that must not change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from aijobs import StoreUnavailable
from aijobs.embedded import start_server
from aijobs.settings import Settings
from aijobs.store import JobStore, open_store
from aijobs.store.base import Operation
from aijobs.store.values import ProgressWrite
from tests.helpers import PATIENT, claim, frozen, new_job, wait_until

pytestmark = pytest.mark.anyio


def calls(client: redis.Redis, command: str) -> int:
    """How often the server has executed a command."""
    stats: Mapping[str, Any] = client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_what_is_asked_together_goes_over_one_connection(store: JobStore, redis_client: redis.Redis) -> None:
    ids = [f"job-{number}" for number in range(300)]
    before = len(redis_client.client_list())
    created = await asyncio.gather(*(store.run_async(store.create(new_job(job_id))) for job_id in ids))
    found = await asyncio.gather(*(store.run_async(store.get(job_id)) for job_id in ids))
    assert [reply.job and reply.job.id for reply in created] == ids
    assert [job and job.id for job in found] == ids
    assert len(redis_client.client_list()) == before + 1
    await store.aclose()
    wait_until(lambda: len(redis_client.client_list()) == before, "the end of the connection")


async def test_they_share_round_trips(store: JobStore, redis_client: redis.Redis) -> None:
    await store.run_async(store.ping())
    before = int(redis_client.info("stats")["total_reads_processed"])
    await asyncio.gather(*(store.run_async(store.get(f"job-{number}")) for number in range(400)))
    assert int(redis_client.info("stats")["total_reads_processed"]) - before < 100
    await store.aclose()


async def test_the_same_question_at_the_same_time_is_asked_once(store: JobStore, redis_client: redis.Redis) -> None:
    new = new_job()
    store.run(store.create(new))
    await store.run_async(store.get(new.id))
    before = calls(redis_client, "evalsha")
    found = await asyncio.gather(*(store.run_async(store.get(new.id)) for _ in range(50)))
    assert {job and job.id for job in found} == {new.id}
    assert calls(redis_client, "evalsha") == before + 1
    await store.aclose()


async def test_writes_are_never_shared(store: JobStore) -> None:
    new = new_job()
    await store.run_async(store.create(new))
    await store.run_async(store.start(claim(new)))
    write = store.report(claim(new), ProgressWrite(0.5, "{}"))
    await asyncio.gather(*(store.run_async(write) for _ in range(20)))
    job = await store.run_async(store.get(new.id))
    assert job is not None
    assert job.rev == 22
    await store.aclose()


async def test_who_has_written_reads_what_was_written(store: JobStore) -> None:
    new = new_job()
    await store.run_async(store.create(new))

    async def keep_reading() -> None:
        while True:
            await store.run_async(store.get(new.id))

    readers = [asyncio.create_task(keep_reading()) for _ in range(20)]
    await store.run_async(store.start(claim(new)))
    for step in range(1, 50):
        await store.run_async(store.report(claim(new), ProgressWrite(step / 50, "{}")))
        job = await store.run_async(store.get(new.id))
        assert job is not None
        assert job.progress == step / 50
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    await store.aclose()


async def test_who_leaves_takes_nothing_from_the_others(store: JobStore) -> None:
    for number in range(40):
        store.run(store.create(new_job(f"job-{number}")))
    asked = [asyncio.create_task(store.run_async(store.get(f"job-{number}"))) for number in range(40)]
    same = [asyncio.create_task(store.run_async(store.get("job-1"))) for _ in range(4)]
    await asyncio.sleep(0)
    for task in [*asked[::2], *same[::2]]:
        task.cancel()
    answers = await asyncio.gather(*asked[1::2], *same[1::2])
    assert [job and job.id for job in answers] == [*(f"job-{number}" for number in range(1, 40, 2)), "job-1", "job-1"]
    job = await store.run_async(store.get("job-7"))
    assert job is not None
    assert job.id == "job-7"
    await store.aclose()


async def test_what_is_refused_is_refused_alone(store: JobStore, redis_client: redis.Redis) -> None:
    good, bad = new_job(), new_job()
    redis_client.set(f"aijobs:job:{bad.id}", "not a record", ex=60)
    operations: list[Operation[Any]] = [
        store.create(good),
        store.create(bad),
        store.get("\ud800"),
        store.get(good.id),
    ]
    answers = await asyncio.gather(*(store.run_async(one) for one in operations), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == [
        "CreateReply",
        "StoreUnavailable",
        "UnicodeEncodeError",
        "Job",
    ]
    await store.aclose()


async def test_a_connection_that_was_lost_is_made_again(store: JobStore, redis_client: redis.Redis) -> None:
    for _ in range(3):
        answers = await asyncio.gather(*(store.run_async(store.get(f"job-{number}")) for number in range(20)))
        assert answers == [None] * 20
        redis_client.client_kill_filter(_type="normal", skipme=True)
    await store.aclose()


async def test_closing_leaves_nobody_waiting(tmp_path: Path) -> None:
    with start_server(tmp_path, use_environment=False) as server:
        store = open_store(server.url, PATIENT)
        await store.run_async(store.ping())
        with frozen(server):
            asked = [asyncio.create_task(store.run_async(store.get(f"job-{number}"))) for number in range(10)]
            await asyncio.sleep(0)
            await store.aclose()
            answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)


async def test_a_hanging_server_holds_nobody_up_for_long(tmp_path: Path) -> None:
    with start_server(tmp_path, use_environment=False) as server:
        store = open_store(server.url, Settings(store_timeout_seconds=0.2))
        await store.run_async(store.ping())
        loop = asyncio.get_running_loop()

        async def ask(number: int) -> float:
            began = loop.time()
            with pytest.raises(StoreUnavailable):
                await store.run_async(store.get(f"job-{number}"))
            return loop.time() - began

        with frozen(server):
            # They come one after the other, while earlier ones wait for the server.
            asked = []
            for number in range(60):
                asked.append(asyncio.create_task(ask(number)))
                await asyncio.sleep(0.01)
            assert max(await asyncio.gather(*asked)) < 3
        job = await store.run_async(store.get("job-1"))
        assert job is None
        await store.aclose()
