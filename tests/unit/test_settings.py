"""The settings: what they take, and what they say of what they do not."""

from __future__ import annotations

import logging

import pytest
from pydantic import ValidationError

from aijobs import ConfigurationError, Settings
from aijobs.settings import current


def test_everything_has_a_default() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.store_url, settings.key_prefix, settings.retention_seconds) == (None, "aijobs", 86_400)


def test_each_field_is_read_from_its_variable() -> None:
    values = {
        "store_url": "redis://h/1",
        "key_prefix": "team:jobs",
        "retention_seconds": 60.5,
        "failed_retention_seconds": 62.0,
        "active_retention_seconds": 61.0,
        "store_timeout_seconds": 1.0,
        "progress_interval_seconds": 0.5,
        "output_interval_seconds": 0.02,
        "output_bytes": 65_536,
        "inline_result_bytes": 0,
        "arguments_bytes": 1,
        "checkpoint_bytes": 2_048,
        "max_events": 10,
        "lease_seconds": 7.5,
        "max_deliveries": 1,
        "cancel_grace_seconds": 0.5,
        "sync_tasks": "refuse",
        "files_url": "s3://bucket/files",
        "file_bytes": 1,
        "upload_bytes": 2,
        "upload_files": 3,
        "webhook_queue": "hooks",
        "webhook_allow_private": True,
        "public_url": "https://api.example.com/jobs",
        "health_folder": "/tmp/health",
    }
    lists = {"webhook_secrets": ("one", "two"), "webhook_events": ("job.status", "job.completed")}
    given = {**values, "webhook_secrets": " one, two", "webhook_events": "job.status job.completed", "webhook_url": "u"}
    settings = Settings.from_env({f"AIJOBS_{name.upper()}": str(value) for name, value in given.items()})
    read = settings.model_dump()
    assert tuple(secret.get_secret_value() for secret in read.pop("webhook_secrets")) == lists.pop("webhook_secrets")
    assert read.pop("webhook_url").get_secret_value() == "u"
    assert read == values | lists


def test_secrets_are_not_shown() -> None:
    settings = Settings(webhook_secrets=("whsec_hidden",), webhook_url="https://hidden.example")
    assert "hidden" not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_other_variables_and_empty_ones_do_not_count() -> None:
    assert Settings.from_env({"KEY_PREFIX": "x", "MY_AIJOBS_KEY_PREFIX": "x", "AIJOBS_KEY_PREFIX": " "}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("KEY_PREFIX", "spaced out", "should match pattern"),
        ("KEY_PREFIX", "x" * 65, "should match pattern"),
        ("KEY_PREFIX", "line\n", "should match pattern"),
        ("RETENTION_SECONDS", "secret-text", "valid number"),
        ("RETENTION_SECONDS", "0", "greater than 0"),
        ("RETENTION_SECONDS", "nan", "finite number"),
        ("RETENTION_SECONDS", "inf", "finite number"),
        ("ACTIVE_RETENTION_SECONDS", "-1", "greater than 0"),
        ("STORE_TIMEOUT_SECONDS", "0.01", "greater than or equal to 0.05"),
        ("STORE_TIMEOUT_SECONDS", "31", "less than or equal to 30"),
        ("PROGRESS_INTERVAL_SECONDS", "2", "less than or equal to 1"),
        ("INLINE_RESULT_BYTES", "-1", "greater than or equal to 0"),
        ("INLINE_RESULT_BYTES", "1.5", "valid integer"),
        ("ARGUMENTS_BYTES", "99999999", "less than or equal to 16777216"),
        ("MAX_EVENTS", "9", "greater than or equal to 10"),
        ("FAILED_RETENTION_SECONDS", "0", "greater than 0"),
        ("LEASE_SECONDS", "4.9", "greater than or equal to 5"),
        ("LEASE_SECONDS", "3601", "less than or equal to 3600"),
        ("MAX_DELIVERIES", "0", "greater than or equal to 1"),
        ("MAX_DELIVERIES", "101", "less than or equal to 100"),
        ("CANCEL_GRACE_SECONDS", "0", "greater than or equal to 0.1"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^AIJOBS_{name} is wrong: .*{message}") as caught:
        Settings.from_env({f"AIJOBS_{name}": value})
    assert "secret-text" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"AIJOBS_MAX_EVENTS is wrong: .*; AIJOBS_LEASE_SECONDS is wrong"):
        Settings.from_env({"AIJOBS_LEASE_SECONDS": "x", "AIJOBS_MAX_EVENTS": "x"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("AIJOBS_RETENTION_SECOND", " Did you mean AIJOBS_RETENTION_SECONDS?"),
        ("AIJOBS_KEYPREFIX", " Did you mean AIJOBS_KEY_PREFIX?"),
        ("AIJOBS_QQQ", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_warned_of(name: str, hint: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Settings.from_env({name: "1"}) == Settings()
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} is not a setting of aijobs and is ignored.{hint}"
    ]


def test_settings_made_in_code_are_checked_too() -> None:
    with pytest.raises(ValidationError):
        Settings(retention_second=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Settings(max_events=1)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().max_events = 20  # type: ignore[misc]


def test_a_process_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(current.cache_clear)
    first = current()
    monkeypatch.setenv("AIJOBS_KEY_PREFIX", "changed")
    assert current() is first
    current.cache_clear()
    assert current().key_prefix == "changed"
