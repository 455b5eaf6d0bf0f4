"""Where the app is silent aijobs speaks; what the app has said, it leaves."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.transport import get_transport_cls

from aijobs import setup
from aijobs.broker import transport as leased
from aijobs.worker.defaults import weakened_promises

REDIS = "redis://localhost:1/0"

#: What the app of each test says, and Celery's old names for it.
CHOSEN: dict[str, Any] = {
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    "worker_soft_shutdown_timeout": 0.0,
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
    assert (conf.task_reject_on_worker_lost, conf.worker_soft_shutdown_timeout) == (True, 5.0)
    assert weakened_promises(app) == []


@pytest.mark.parametrize("broker", ["amqp://guest@localhost//", "memory://", "sqs://"])
def test_another_broker_keeps_its_transport(broker: str) -> None:
    app = app_of(broker)
    setup(app)
    assert app.conf.broker_transport is None
    assert app.conf.task_default_priority is None
    assert app.conf.broker_transport_options == {}
    assert app.conf.task_acks_late is True


@pytest.mark.parametrize(
    ("broker", "transport"),
    [
        ("redis://h/1", "Transport"),
        ("rediss://h", "Transport"),
        ("redis+socket:///run/redis.sock", "Transport"),
        ("redis://a;redis://b", "Transport"),
        ("sentinel://a:1;sentinel://b:2", "SentinelTransport"),
    ],
)
def test_redis_brokers_have_leases_wherever_a_connection_turns(broker: str, transport: str) -> None:
    app = app_of(broker)
    setup(app)
    connection: Any = app.connection_for_read()
    names = [connection.transport_cls, connection.clone().transport_cls]
    for _ in range(2):
        connection.maybe_switch_next()
        names.append(connection.transport_cls)
    assert {get_transport_cls(name) for name in names} == {getattr(leased, transport)}


def test_tls_stays_tls() -> None:
    app = app_of("rediss://h?ssl_cert_reqs=required")
    setup(app)
    assert app.connection_for_read().ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert app_of("redis://h").connection_for_read().ssl is False


def test_an_app_may_keep_kombus_transport() -> None:
    app = app_of(broker_transport="redis")
    setup(app)
    assert app.connection_for_read().transport_cls == "redis"
    assert app.conf.task_default_priority is None


@pytest.mark.parametrize("options", [{}, {"visibility_timeout": 60}])
def test_sockets_have_time_outs_whatever_else_the_app_says(options: dict[str, int]) -> None:
    app = app_of(broker_transport_options=options)
    setup(app)
    assert app.conf.broker_transport_options == options
    assert (leased.Transport.Channel.socket_timeout, leased.Transport.Channel.socket_connect_timeout) == (5.0, 2.0)


def test_what_weakens_a_promise_is_named() -> None:
    app = in_the_constructor()
    assert weakened_promises(app) == [
        "task_acks_late is False: a job is lost when its worker dies.",
        "task_reject_on_worker_lost is False: a job is failed when its process dies, not run again.",
        "worker_prefetch_multiplier is 8: a worker hoards jobs behind a long one.",
        "task_serializer is 'yaml': arguments cannot be kept in the record, so a job cannot be retried from it.",
        "worker_soft_shutdown_timeout is 0.0: a stop by SIGQUIT cuts off jobs that are about to end.",
    ]


def test_two_apps_do_not_mix() -> None:
    chosen, silent = in_the_constructor(), app_of()
    setup(silent)
    assert (chosen.conf.worker_prefetch_multiplier, silent.conf.worker_prefetch_multiplier) == (8, 1)
