"""The check that every test on a server gets: it finds what would stay for ever, in any database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from aijobs.embedded import start_server
from aijobs.settings import Settings
from aijobs.store.redis import RedisStore
from tests.helpers import lasting_keys, new_job


@pytest.fixture
def url() -> Iterator[str]:
    """A server of its own, since what is left here would be found again."""
    with start_server(use_environment=False) as server:
        yield server.url


def test_what_would_stay_is_found_in_every_database(url: str) -> None:
    for database, key in enumerate(("aijobs:job:1", "aijobs:idem:1", "stray")):
        with redis.Redis.from_url(url.replace("/0", f"/{database}")) as client:
            client.set(key, "")
            client.set("leaves", "", ex=60)
            client.rpush("a queue", "message")
    assert lasting_keys(url) == ["aijobs:idem:1", "aijobs:job:1", "stray"]


def test_the_indexes_may_stay(url: str) -> None:
    store = RedisStore(url, Settings(key_prefix="some:prefix", store_timeout_seconds=10))
    store.run(store.create(new_job(owner="a:b", batch_id="c")))
    assert lasting_keys(url) == []
