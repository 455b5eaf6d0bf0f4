"""How the Redis store gets along with restarts of the server, forks and threads."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import redis

from aijobs import StoreUnavailable
from aijobs.store import scripts
from aijobs.store.redis import RedisStore
from aijobs.store.scripts import Script
from aijobs.store.values import ProgressWrite
from tests.helpers import Run, claim, new_job

SCRIPTS = [value for value in vars(scripts).values() if isinstance(value, Script)]

#: Uses one store before and after a fork, in parent and child.
FORK = """
import os, sys
from aijobs.settings import Settings
from aijobs.store import open_store
from aijobs.store.values import NewJob
store = open_store(sys.argv[1], Settings(store_timeout_seconds=10))
store.run(store.create(NewJob("before", "embed")))
child = os.fork()
for number in range(200):
    mine = f"{'parent' if child else 'child'}-{number}"
    assert store.run(store.create(NewJob(mine, "embed"))).job.id == mine
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_scripts_that_the_server_forgot_are_sent_again(run: Run, redis_client: redis.Redis, store: RedisStore) -> None:
    redis_client.script_flush()
    new = new_job()
    run(store.create(new))
    redis_client.script_flush()
    job = run(store.get(new.id))
    assert job is not None
    assert job.id == new.id


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: cast(Script, script).name)
def test_the_server_knows_a_script_by_our_digest(redis_client: redis.Redis, script: Script) -> None:
    assert redis_client.script_load(script.text) == script.sha


def test_a_forked_child_has_connections_of_its_own(redis_url: str) -> None:
    subprocess.run([sys.executable, "-c", FORK, redis_url], check=True, timeout=60)


def test_threads_get_their_own_answers(redis_store: RedisStore) -> None:
    def create_and_get(number: int) -> bool:
        redis_store.run(redis_store.create(new_job(f"job-{number}")))
        job = redis_store.run(redis_store.get(f"job-{number}"))
        return job is not None and job.id == f"job-{number}"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(create_and_get, range(200)))


def test_what_the_server_refuses_is_told_but_not_what_was_sent(
    redis_store: RedisStore, redis_client: redis.Redis
) -> None:
    new = new_job()
    redis_client.set(f"aijobs:job:{new.id}", "not a record", ex=60)
    with pytest.raises(StoreUnavailable, match="WRONGTYPE") as caught:
        redis_store.run(redis_store.report(claim(new), ProgressWrite(0.5, '{"message": "private"}')))
    assert "private" not in str(caught.value)
