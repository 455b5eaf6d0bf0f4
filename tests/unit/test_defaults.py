"""Where the app is silent aijobs speaks; what the app has said, it leaves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from aijobs import setup
from aijobs.worker.defaults import weakened_promises

REDIS = "redis://localhost:1/0"

#: What the app of each test says, and Celery's old names for it.
CHOSEN: dict[str, Any] = {
    "task_acks_late": False,
    "worker_prefetch_multiplier": 8,
    "task_serializer": "yaml",
    "result_expires": 60,
    "broker_transport_options": {"socket_timeout": 30.0},
    "task_default_priority": 9,
}
OLD_NAMES = {
    "task_acks_late": "CELERY_ACKS_LATE",
    "worker_prefetch_multiplier": "CELERYD_PREFETCH_MULTIPLIER",
    "task_serializer": "CELERY_TASK_SERIALIZER",
    "result_expires": "CELERY_TASK_RESULT_EXPIRES",
    "broker_transport_options": "BROKER_TRANSPORT_OPTIONS",
}


def app_of(broker: str = REDIS, **options: Any) -> Celery:
    return Celery("defaults", broker=broker, set_as_current=False, **options)


def in_the_constructor() -> Celery:
    app = app_of(**CHOSEN)
    setup(app)
    return app


def before_setup() -> Celery:
    app = app_of()
    app.conf.update(CHOSEN)
    setup(app)
    return app


def after_setup() -> Celery:
    app = app_of()
    setup(app)
    app.conf.update(CHOSEN)
    return app


def after_first_use() -> Celery:
    app = app_of()
    setup(app)
    assert app.conf.task_acks_late is True
    for option, value in CHOSEN.items():
        setattr(app.conf, option, value)
    return app


def from_a_module() -> Celery:
    app = app_of()
    setup(app)
    app.config_from_object(SimpleNamespace(**CHOSEN))
    return app


def from_a_module_with_a_namespace() -> Celery:
    app = app_of()
    names = {f"JOBS_{option.upper()}": value for option, value in CHOSEN.items()}
    app.config_from_object(SimpleNamespace(**names), namespace="JOBS")
    setup(app)
    return app


def from_defaults_of_its_own() -> Celery:
    app = app_of()
    app.add_defaults(CHOSEN)
    setup(app)
    return app


@pytest.mark.parametrize(
    "say",
    [
        in_the_constructor,
        before_setup,
        after_setup,
        after_first_use,
        from_a_module,
        from_a_module_with_a_namespace,
        from_defaults_of_its_own,
    ],
)
def test_what_the_app_says_stands(say: Callable[[], Celery]) -> None:
    app = say()
    assert {option: app.conf[option] for option in CHOSEN} == CHOSEN
    assert app.conf.task_track_started is True


@pytest.mark.parametrize("late", [False, True], ids=["before setup", "after setup"])
def test_celerys_old_names_are_understood(late: bool) -> None:
    app = app_of(broker="")
    if late:
        setup(app)
    old = {old: CHOSEN[name] for name, old in OLD_NAMES.items()}
    app.config_from_object(SimpleNamespace(BROKER_URL=REDIS, **old))
    setup(app)
    assert {option: app.conf[option] for option in OLD_NAMES} == {option: CHOSEN[option] for option in OLD_NAMES}


def test_a_silent_app_keeps_its_jobs_safe() -> None:
    app = app_of()
    setup(app)
    conf = app.conf
    assert (conf.task_acks_late, conf.task_track_started, conf.worker_prefetch_multiplier) == (True, True, 1)
    assert (conf.task_serializer, conf.result_serializer, conf.accept_content) == ("json", "json", ["json"])
    assert conf.result_expires == 86_400
    assert conf.broker_transport_options["socket_timeout"] > 1
    assert weakened_promises(app) == []


@pytest.mark.parametrize("broker", ["amqp://guest@localhost//", "memory://", "sqs://"])
def test_another_broker_keeps_its_transport(broker: str) -> None:
    app = app_of(broker)
    setup(app)
    assert app.conf.broker_transport is None
    assert app.conf.task_default_priority is None
    assert app.conf.broker_transport_options == {}
    assert app.conf.task_acks_late is True


def test_what_weakens_a_promise_is_named() -> None:
    app = in_the_constructor()
    assert weakened_promises(app) == [
        "task_acks_late is False: a job is lost when its worker dies.",
        "worker_prefetch_multiplier is 8: a worker hoards jobs behind a long one.",
        "task_serializer is 'yaml': arguments cannot be kept in the record, so a job cannot be retried from it.",
    ]


def test_two_apps_do_not_mix() -> None:
    chosen, silent = in_the_constructor(), app_of()
    setup(silent)
    assert (chosen.conf.worker_prefetch_multiplier, silent.conf.worker_prefetch_multiplier) == (8, 1)
