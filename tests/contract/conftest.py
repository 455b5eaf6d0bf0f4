"""A real Valkey, real HTTP, and jobs that are moved through their lives by the store's own operations."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar, cast

import httpx
import kombu.pools
import pytest
import redis
import uvicorn
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import ASGIApp

from aijobs import ProgressTask, setup
from aijobs.embedded import EmbeddedServer, start_server
from aijobs.http import JobRouter, job_router
from aijobs.job import ErrorCode, Job, JobStatus, Progress
from aijobs.runtime import Runtime
from aijobs.store.values import Change, Claim, Failure, NewJob, ProgressWrite
from tests.helpers import wait_until

if TYPE_CHECKING:
    from .complete import Complete

T = TypeVar("T")

#: `Celery.task` as mypy wants a decorator.
TaskDecorator = Callable[..., Callable[[Callable[..., Any]], Any]]

DEADLINE_SECONDS = 30.0


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Document(BaseModel):
    """A text with its date."""

    text: str
    written: datetime | None = None
    weight: float = 1.0


class Summary(BaseModel):
    text: str


def make_celery(url: str, broker: str | None = None) -> Celery:
    """An app with a task for each form of signature."""
    app = Celery("contract", broker=broker or url, backend=url, set_as_current=False)
    task: TaskDecorator = app.task

    @task(base=ProgressTask, shared=False, bind=True, name="contract.embed")
    def embed(self: Any, texts: list[str], size: Size = Size.SMALL, limit: int = 10) -> dict[str, int]:
        """Embed some texts.

        One vector for each.
        """
        return {"texts": len(texts)}

    @task(base=ProgressTask, shared=False, name="contract.summarise")
    def summarise(document: Document) -> Summary:
        return Summary(text=document.text)

    @task(base=ProgressTask, shared=False, name="contract.nightly")
    def nightly() -> None:
        """Run what runs at night."""

    @task(base=ProgressTask, shared=False, name="contract.anything")
    def anything(first: Any, /, second: Any = None, **others: Any) -> Any:
        return first

    @task(base=ProgressTask, shared=False, name="contract.hidden")
    def hidden() -> None: ...

    hidden.expose = False

    @task(name="contract.plain", shared=False)
    def plain(x: int) -> int:
        return x

    return app


@dataclass(frozen=True)
class Api:
    """An API that is being served, with its store."""

    url: str
    runtime: Runtime
    client: httpx.Client

    def submit(self, task: str = "embed", body: Any = None, **options: Any) -> httpx.Response:
        sent = {"texts": ["a"]} if body is None and task == "embed" else body
        return self.client.post(f"/jobs/{task}", json=sent, **options)

    def queue(self, **options: Any) -> str:
        """The id of a new job."""
        response = self.submit(**options)
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    def child(self, parent: str) -> str:
        """The id of a job that another has submitted."""
        new = NewJob(uuid.uuid4().hex, "contract.plain", parent_id=parent)
        self.runtime.store.run(self.runtime.store.create(new))
        return new.id

    def run(self, **options: Any) -> Claim:
        """The claim of a new job that runs."""
        return self.start(self.queue(**options))

    def start(self, job_id: str) -> Claim:
        claim = Claim(job_id, uuid.uuid4().hex, worker="test@host", max_attempts=3)
        assert self.runtime.store.run(self.runtime.store.start(claim)).accepted
        return claim

    def report(self, claim: Claim, fraction: float, **progress: Any) -> None:
        detail = json.dumps(Progress(**progress).to_dict())
        store = self.runtime.store
        assert store.run(store.report(claim, ProgressWrite(fraction, detail))).accepted

    def succeed(self, claim: Claim, result: Any = None) -> Change:
        store = self.runtime.store
        return store.run(store.finish(claim, JobStatus.SUCCESS, result_json=json.dumps(result).encode()))

    def fail(self, claim: Claim, message: str = "ValueError: no") -> Change:
        failure = Failure(ErrorCode.EXCEPTION, message, "Traceback (most recent call last): …")
        store = self.runtime.store
        return store.run(store.finish(claim, JobStatus.FAILED, failure=failure))

    def job(self, job_id: str) -> Job:
        found = self.runtime.store.run(self.runtime.store.get(job_id))
        assert found is not None
        return found

    def command(self, *words: Any) -> Any:
        """What the store's server answers to a command of its own."""
        with redis.Redis.from_url(self.runtime.store_url) as client:
            return client.execute_command(*words)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(f"/jobs{path}", **options)


@dataclass(frozen=True)
class Event:
    kind: str
    id: int
    data: dict[str, Any]


class Stream:
    """An event stream as a client reads it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()
        self.pings = 0

    def events(self) -> Iterator[Event]:
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.pings += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield Event(fields["event"], int(fields["id"]), json.loads(fields["data"]))
                fields = {}

    def take(self, count: int) -> list[Event]:
        events = self.events()
        return [next(events) for _ in range(count)]


@contextmanager
def stream(api: Api, job_id: str, last: object = None, **params: Any) -> Iterator[Stream]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with api.client.stream("GET", f"/jobs/{job_id}/events", headers=headers, params=params) as response:
        assert response.status_code == 200, response.read()
        yield Stream(response)


def whole(api: Api, job_id: str, last: object = None, **params: Any) -> list[Event]:
    with stream(api, job_id, last, **params) as events:
        return list(events.events())


@contextmanager
def served(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serves an app on a free port; gives its address."""
    server = uvicorn.Server(
        uvicorn.Config(cast(Any, app), port=0, log_level="warning", timeout_graceful_shutdown=1, **options)
    )
    thread = threading.Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the start of the API")
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_SECONDS)


@contextmanager
def serving(runtime: Runtime, *routers: JobRouter, app: FastAPI | None = None, **options: Any) -> Iterator[Api]:
    """Serves routers of one Celery app."""
    app = app or FastAPI()
    for router in routers:
        app.include_router(router)
    try:
        with served(app, **options) as url, httpx.Client(base_url=url, timeout=DEADLINE_SECONDS) as client:
            yield Api(url, runtime, client)
    finally:
        # What this process itself has sent jobs with.
        kombu.pools.reset()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with start_server(use_environment=False) as server:
        yield server


@pytest.fixture(scope="session")
def databases() -> Iterator[int]:
    """Numbers of databases that nobody else uses."""
    return itertools.count(1)


@pytest.fixture(scope="module")
def complete_api(
    server: EmbeddedServer, databases: Iterator[int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Complete]:
    """An API with everything on, in a process of its own, and a worker."""
    from .complete import complete

    with complete(server.url.removesuffix("0") + str(next(databases)), tmp_path_factory.mktemp("complete")) as api:
        yield api


@pytest.fixture(scope="module")
def celery_app(server: EmbeddedServer, databases: Iterator[int]) -> Celery:
    return make_celery(server.url.removesuffix("0") + str(next(databases)))


@pytest.fixture(scope="module")
def runtime(celery_app: Celery) -> Runtime:
    return setup(celery_app)


@pytest.fixture(scope="module")
def api(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    """The API as it is without options."""
    with serving(runtime, job_router(celery_app)) as api:
        yield api


def assert_problem(response: httpx.Response, status: int, name: str | None = None) -> dict[str, Any]:
    """The members of a problem document (RFC 9457)."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    members: dict[str, Any] = response.json()
    assert members["status"] == status
    assert isinstance(members["detail"], str)
    assert members["detail"]
    assert members["title"]
    if name is not None:
        assert members["type"] == f"urn:aijobs:problem:{name}"
    return members
