"""Presets: sound values, Celery's words for them, and refusals that say why."""

from __future__ import annotations

import math
from typing import Any

import pytest
from celery import Celery, Task

from aijobs import AGENT, DOCUMENT, EMBEDDING_BATCH, LLM_CALL, REPORT, ConfigurationError, Preset

NAMED = {
    "AGENT": AGENT,
    "DOCUMENT": DOCUMENT,
    "EMBEDDING_BATCH": EMBEDDING_BATCH,
    "LLM_CALL": LLM_CALL,
    "REPORT": REPORT,
}
each_preset = pytest.mark.parametrize("preset", NAMED.values(), ids=NAMED)


def task_with(preset: Preset) -> Any:
    app = Celery("presets", set_as_current=False)
    options = preset.options()

    @app.task(shared=False, **options)
    def work() -> None: ...

    app.finalize()
    return work


@each_preset
def test_a_named_preset_retries_what_may_go_right_the_next_time(preset: Preset) -> None:
    assert preset.acks_late
    assert issubclass(ConnectionResetError, preset.retry_for)
    assert not issubclass(ValueError, preset.retry_for)
    assert preset.soft_time_limit is not None
    assert preset.time_limit is not None
    assert preset.soft_time_limit < preset.time_limit


@each_preset
def test_celery_takes_every_option(preset: Preset) -> None:
    task = task_with(preset)
    assert isinstance(task, Task)
    assert (task.max_retries, task.acks_late) == (preset.max_retries, True)
    assert (task.soft_time_limit, task.time_limit) == (preset.soft_time_limit, preset.time_limit)


def test_options_in_celerys_words() -> None:
    preset = Preset(retry_for=(OSError,), max_retries=5, backoff=2, backoff_max=60, jitter=False, queue="gpu")
    assert preset.options() == {
        "max_retries": 5,
        "acks_late": True,
        "soft_time_limit": None,
        "time_limit": None,
        "default_retry_delay": 2,
        "retry_transient": False,
        "obey_providers": True,
        "patience": 3_600,
        "autoretry_for": (OSError,),
        "retry_backoff": 2,
        "retry_backoff_max": 60,
        "retry_jitter": False,
        "queue": "gpu",
    }


def test_what_is_not_asked_for_is_left_to_the_app() -> None:
    assert Preset().options().keys() == {
        "max_retries",
        "acks_late",
        "soft_time_limit",
        "time_limit",
        "default_retry_delay",
        "retry_transient",
        "obey_providers",
        "patience",
    }


@each_preset
def test_a_named_preset_retries_what_client_libraries_call_a_lost_connection(preset: Preset) -> None:
    options = preset.options()
    assert (options["retry_transient"], options["obey_providers"]) == (True, True)
    assert options["patience"] >= 10 * preset.backoff_max


def test_transient_errors_alone_are_backed_off_from_too() -> None:
    options = Preset(retry_transient=True, backoff=7).options()
    assert options["retry_backoff"] == 7
    assert "autoretry_for" not in options


def test_no_backoff_retries_at_once() -> None:
    options = Preset(retry_for=(OSError,), backoff=0).options()
    assert "retry_backoff" not in options
    assert options["default_retry_delay"] == 0


def test_but_changes_some_values_of_a_copy() -> None:
    changed = LLM_CALL.but(max_retries=None, queue="llm")
    assert (changed.max_retries, changed.queue, changed.backoff) == (None, "llm", LLM_CALL.backoff)
    assert LLM_CALL.queue is None


def test_but_names_what_can_be_changed() -> None:
    with pytest.raises(ConfigurationError, match=r"no value named 'retries'; it has retry_for, max_retries, backoff"):
        LLM_CALL.but(retries=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"soft_time_limit": 0}, "soft_time_limit must be a number of seconds above 0, or None, not 0"),
        ({"time_limit": -1.5}, r"time_limit must be a number of seconds above 0, or None, not -1\.5"),
        ({"time_limit": math.inf}, "time_limit must be a number of seconds above 0, or None, not inf"),
        ({"time_limit": math.nan}, "time_limit must be a number of seconds above 0, or None, not nan"),
        ({"time_limit": "60"}, "time_limit must be a number of seconds above 0, or None, not '60'"),
        ({"max_retries": -1}, "max_retries must be a whole number from 0 up, not -1"),
        ({"max_retries": 1.5}, r"max_retries must be a whole number from 0 up, not 1\.5"),
        ({"backoff": None}, "backoff must be a whole number from 0 up, not None"),
        ({"backoff": 0.5}, r"backoff must be a whole number from 0 up, not 0\.5"),
        ({"patience": -1}, "patience must be a number of seconds from 0 up, not -1"),
        ({"patience": math.nan}, "patience must be a number of seconds from 0 up, not nan"),
        ({"patience": None}, "patience must be a number of seconds from 0 up, not None"),
        ({"backoff_max": -1}, "backoff_max must be a whole number from 0 up, not -1"),
        ({"retry_for": (OSError, "ValueError")}, "retry_for takes exception classes, not 'ValueError'"),
        ({"retry_for": (int,)}, "retry_for takes exception classes, not <class 'int'>"),
        ({"soft_time_limit": 9, "time_limit": 9}, r"soft_time_limit \(9 s\) must be below time_limit \(9 s\)"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_with_what_it_should_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^Preset: {message}"):
        Preset(**wrong)
    with pytest.raises(ConfigurationError, match=message):
        Preset().but(**wrong)
