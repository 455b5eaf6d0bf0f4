"""What the generator learns from apps as teams write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from aijobs.compose import inspection
from aijobs.compose.inspection import Facts, Queue, inspect
from aijobs.errors import ConfigurationError

Make = Callable[..., Path]

WORKER = """
    from celery import Celery
    from aijobs import AGENT, DOCUMENT, ProgressTask

    celery_app = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0")

    @celery_app.task(base=ProgressTask, bind=True, **AGENT.options())
    def research(self, question: str) -> str: ...

    @celery_app.task(base=ProgressTask, bind=True, **DOCUMENT.but(queue="heavy").options())
    def ingest(self, path: str) -> str: ...
"""
API = """
    from fastapi import FastAPI
    from aijobs import job_router
    from shop.worker import celery_app

    app = FastAPI()
    app.include_router(job_router(celery_app))
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a package `shop` of these modules."""

    def build(**modules: str) -> Path:
        package = tmp_path / "shop"
        package.mkdir()
        for name, text in {"__init__": "", **modules}.items():
            (package / f"{name}.py").write_text(dedent(text))
        return tmp_path

    return build


def looked_at(root: Path, api: str | None = None) -> Facts:
    return inspect("shop.worker:celery_app", api, root)


def test_queues_and_time_limits_come_from_the_tasks(make: Make) -> None:
    facts = looked_at(make(worker=WORKER, main=API), "shop.main:app")
    assert facts == Facts(
        (Queue("celery", ("shop.worker.research",), 960.0), Queue("heavy", ("shop.worker.ingest",), 330.0)),
        scheduler="celery.beat:PersistentScheduler",
    )


def test_routes_and_declared_queues_count(make: Make) -> None:
    more = """
    celery_app.conf.task_default_queue = "fast"
    celery_app.conf.task_routes = {"shop.worker.research": {"queue": "agents"}}
    """
    facts = looked_at(make(worker=WORKER + more))
    assert [queue.name for queue in facts.queues] == ["fast", "heavy", "agents"]


def test_schedule_scheduler_and_soft_shutdown(make: Make) -> None:
    more = """
    celery_app.conf.update(
        beat_schedule={"nightly": {"task": "shop.worker.ingest", "schedule": 60, "args": ["a"]}},
        beat_scheduler="redbeat.RedBeatScheduler",
        worker_soft_shutdown_timeout=90,
    )
    """
    facts = looked_at(make(worker=WORKER + more))
    assert facts.has_schedule
    assert facts.has_lock
    assert facts.soft_shutdown_seconds == 90.0


def test_the_health_route_is_found_below_any_prefix(make: Make) -> None:
    api = API.replace("job_router(celery_app)", "job_router(celery_app, prefix='/work'), prefix='/v2'")
    assert looked_at(make(worker=WORKER, main=api), "shop.main:app").health_path == "/v2/work/health"


def test_a_health_route_with_parameters_cannot_be_asked(make: Make) -> None:
    api = API.replace("job_router(celery_app)", "job_router(celery_app), prefix='/{tenant}'")
    assert looked_at(make(worker=WORKER, main=api), "shop.main:app").health_path is None


def test_an_api_without_job_routes_has_no_health_route(make: Make) -> None:
    api = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/health')\ndef health(): ..."
    assert looked_at(make(worker=WORKER, main=api), "shop.main:app").health_path is None


def test_what_modules_print_does_no_harm(make: Make) -> None:
    assert looked_at(make(worker="print('{}')\n" + dedent(WORKER))).queues


@pytest.mark.parametrize(
    ("worker", "says"),
    [
        ("import nothing_of_this_name", "shop.worker cannot be imported.*nothing_of_this_name"),
        ("celery = 1", "shop.worker has no 'celery_app'"),
        ("celery_app = 1", "not a Celery app but a int"),
        ("import os; os._exit(3)", "ended the interpreter"),
        ("raise SystemExit(1)", "cannot be imported"),
        (
            "from celery import Celery\ncelery_app = Celery('shop')\n@celery_app.task\ndef plain(): ...",
            r"aijobs is not attached to shop.worker:celery_app.*aijobs.setup\(app\)",
        ),
    ],
)
def test_what_is_wrong_is_said(make: Make, worker: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        looked_at(make(worker=worker))


def test_a_module_that_is_not_there(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="There is no 'worker' in the package 'shop'"):
        looked_at(make())


def test_an_api_that_is_not_there(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="no 'main' in the package 'shop'"):
        looked_at(make(worker=WORKER), "shop.main:app")


def test_an_import_that_does_not_end_is_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "IMPORT_SECONDS", 1.0)
    with pytest.raises(ConfigurationError, match=r"takes longer than 1 s. Does a module do its work"):
        looked_at(make(worker="import threading\nthreading.Event().wait()"))


def test_an_api_that_alone_attaches_aijobs_is_not_enough(make: Make) -> None:
    worker = "from celery import Celery\ncelery_app = Celery('shop', broker='redis://localhost:1/0')\n"
    api = API.replace("job_router(celery_app)", "job_router(celery_app, tasks=[])")
    with pytest.raises(ConfigurationError, match="is not attached"):
        looked_at(make(worker=worker, main=api), "shop.main:app")
