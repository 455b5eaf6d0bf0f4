"""Which store an app's records live in, and who executes a job."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from aijobs import ConfigurationError, Settings
from aijobs.runtime import Runtime, runtime_of
from aijobs.store.values import Claim
from aijobs.worker.claims import TOKEN, claim_of, is_job, new_token

STORE, RESULTS, BROKER = "redis://:sesame@store/1", "redis://:sesame@results/2", "redis://:sesame@broker/3"


def app_of(broker: Any = None, backend: str | None = None) -> Celery:
    return Celery("runtime", broker=broker, backend=backend, set_as_current=False)


@pytest.mark.parametrize(
    ("store", "backend", "broker", "chosen"),
    [
        (STORE, RESULTS, BROKER, STORE),
        (None, RESULTS, BROKER, RESULTS),
        (None, None, BROKER, BROKER),
        (None, "rpc://", BROKER, BROKER),
        (None, "db+sqlite:///results.db", BROKER, BROKER),
        (None, RESULTS, "amqp://guest@localhost//", RESULTS),
        (STORE, "rpc://", "amqp://guest@localhost//", STORE),
        (None, "redis://", None, "redis://localhost/0"),
    ],
)
def test_the_first_of_setting_results_and_broker(
    store: str | None, backend: str | None, broker: str | None, chosen: str
) -> None:
    runtime = Runtime(app_of(broker, backend), Settings(store_url=store))
    assert runtime.store_url == chosen
    assert "sesame" not in runtime.store.url


def test_a_configuration_that_comes_late_counts() -> None:
    app = app_of()
    runtime = runtime_of(app)
    app.conf.result_backend = RESULTS
    assert runtime.store_url == RESULTS


def test_without_a_redis_the_setting_is_named() -> None:
    runtime = Runtime(app_of("amqp://guest:sesame@localhost//", "rpc://"), Settings())
    with pytest.raises(ConfigurationError) as caught:
        _ = runtime.store
    assert str(caught.value) == (
        "aijobs found no place for the job records: neither the result backend ('rpc://') nor the broker "
        "('amqp://guest:***@localhost//') is Redis or Valkey. Set AIJOBS_STORE_URL to a redis:// URL that the API and "
        "the workers reach."
    )


def test_a_store_url_that_is_wrong_is_not_passed_over() -> None:
    runtime = Runtime(app_of(BROKER, RESULTS), Settings(store_url="http://store"))
    with pytest.raises(ConfigurationError, match="'http://store' cannot hold job records"):
        _ = runtime.store_url


def test_an_app_has_one_runtime_and_another_app_another() -> None:
    app = app_of(BROKER)
    assert runtime_of(app) is runtime_of(app)
    assert runtime_of(app).store is runtime_of(app).store
    assert runtime_of(app_of(BROKER)) is not runtime_of(app)


class TestClaim:
    def test_without_a_request_it_is_a_bystanders(self) -> None:
        assert claim_of(app_of(), "job", None) == Claim("job")

    def test_it_says_what_the_request_says(self) -> None:
        app = app_of()

        @app.task(name="embed", shared=False, max_retries=4)
        def embed() -> None: ...

        app.finalize()
        request = SimpleNamespace(
            task="embed", hostname="w1@host", delivery_info={"routing_key": "gpu"}, **{TOKEN: "token"}
        )
        assert claim_of(app, "job", request) == Claim("job", "token", "embed", "gpu", "w1@host", max_attempts=5)

    @pytest.mark.parametrize("retries", [None, 0])
    def test_attempts_are_one_more_than_retries_or_without_end(self, retries: int | None) -> None:
        app = app_of()

        @app.task(name="embed", shared=False, max_retries=retries)
        def embed() -> None: ...

        app.finalize()
        known = claim_of(app, "job", SimpleNamespace(task="embed"))
        assert known.max_attempts == (None if retries is None else 1)
        assert claim_of(app, "job", SimpleNamespace(task="unknown")).max_attempts is None

    def test_every_delivery_has_a_token_of_its_own(self) -> None:
        assert len({new_token() for _ in range(1_000)}) == 1_000

    @pytest.mark.parametrize(
        ("name", "job"), [("embed", True), ("celery.chord_unlock", False), ("celerylike.task", True), (None, True)]
    )
    def test_celerys_own_tasks_are_no_jobs(self, name: str | None, job: bool) -> None:
        assert is_job(name) is job
