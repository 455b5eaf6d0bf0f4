"""The stores that have to keep the contract, and the two colours in which an operation is executed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, cast

import pytest

from aijobs.settings import Settings
from aijobs.store import JobStore, open_store
from aijobs.store.redis import RedisStore
from tests.helpers import PATIENT, Run

from .story import Story

#: How each kind of store is opened on the test server.
STORES: Mapping[str, Callable[[str, Settings], JobStore]] = {"redis": open_store}


class MakeStore(Protocol):
    """Opens a store, with some settings other than the defaults."""

    def __call__(self, **changes: Any) -> JobStore: ...


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest, redis_url: str) -> MakeStore:
    def make(**changes: Any) -> JobStore:
        # Not validated: some tests do not wait for the shortest time that users may set.
        settings = PATIENT.model_copy(update=changes)
        return STORES[request.param](redis_url, settings)

    return make


@pytest.fixture
def store(make_store: MakeStore) -> JobStore:
    return make_store()


@pytest.fixture
def redis_store(redis_url: str) -> RedisStore:
    return RedisStore(redis_url, PATIENT)


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, store: JobStore) -> Iterator[Run]:
    """Executes operations of `store`."""
    if request.param == "sync":
        yield store.run
        return
    with asyncio.Runner() as runner:
        yield cast(Run, lambda operation: runner.run(store.run_async(operation)))
        runner.run(store.aclose())


@pytest.fixture
def story(run: Run, store: JobStore) -> Story:
    return Story(run, store)
