"""Secrets, signatures, the schedule, the settings, and what is told."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from standardwebhooks import Webhook as Verifier

from aijobs import ConfigurationError, EventType, InvalidWebhook, JobStatus, Settings, Webhook, setup
from aijobs.runtime import Runtime
from aijobs.store.deliveries import Announcement, DueAnnouncement
from aijobs.webhooks import check_webhook
from aijobs.webhooks.config import WebhookConfig, read_config
from aijobs.webhooks.delivery import message_id, write_body
from aijobs.webhooks.schedule import Schedule, read_retry_after
from aijobs.webhooks.signing import read_secret, sign
from aijobs.webhooks.task import DELIVER, WebhooksStep, add_webhooks

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)


def secret(size: int = 32, fill: int = 7) -> str:
    return "whsec_" + base64.b64encode(bytes([fill]) * size).decode()


# --- secrets and signatures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_has_24_to_64_bytes(size: int) -> None:
    assert read_secret(secret(size)) == bytes([7]) * size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (secret(23), "it holds 23 bytes; a secret has 24 to 64"),
        (secret(65), "it holds 65 bytes"),
        (secret().removeprefix("whsec_"), "it does not begin with whsec_"),
        ("whsec_", "it holds 0 bytes"),
        ("whsec_hidden!", "what follows whsec_ is no Base64"),
        (secret()[:-1], "what follows whsec_ is no Base64"),
        ("whsec_é" + secret(), "what follows whsec_ is no Base64"),
        ("whsk_hidden", "it does not begin with whsec_"),
    ],
)
def test_another_secret_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_secret(text)
    assert "hidden" not in str(caught.value)


def test_the_reference_library_verifies_every_signature() -> None:
    secrets, at = [secret(fill=1), secret(fill=2)], datetime.now(UTC)
    headers = sign([read_secret(one) for one in secrets], "job_7", at, b'{"a":"\xc3\xa9"}')
    assert headers["webhook-signature"].count("v1,") == 2
    for one in secrets:
        assert Verifier(one).verify(b'{"a":"\xc3\xa9"}', headers) == {"a": "é"}
        assert Verifier(one).sign("job_7", at, '{"a":"é"}') in headers["webhook-signature"].split()


# --- the schedule --------------------------------------------------------------------------------------------------


def test_attempts_are_made_for_three_days() -> None:
    schedule, age, attempt, waits = Schedule(jitter=0), 0.0, 1, []
    while (wait := schedule.wait_after(attempt, age)) is not None:
        waits.append(wait)
        age, attempt = age + wait, attempt + 1
    assert waits == [5, 300, 1_800, 7_200, 18_000, 36_000, 86_400, 86_400]
    assert 2 * 86_400 < age < 3 * 86_400


def test_waits_are_spread() -> None:
    waits = {Schedule().wait_after(1, 0) for _ in range(200)}
    assert len(waits) > 100
    assert all(wait is not None and 4.5 <= wait <= 5.5 for wait in waits)


def test_a_receiver_may_ask_for_longer_waits_but_not_for_shorter_ones() -> None:
    schedule = Schedule(jitter=0)
    assert schedule.wait_after(1, 0, asked=60) == 60
    assert schedule.wait_after(2, 0, asked=60) == 300
    assert schedule.wait_after(1, 0, asked=1e9) == 86_400
    assert schedule.wait_after(1, 2.5 * 86_400, asked=86_400) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("9" * 400, 999_999_999),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 59.322),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 59.322),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Fri, 99 Jan 2026 03:05:05 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert read_retry_after(text, NOW) == pytest.approx(seconds)


# --- settings ------------------------------------------------------------------------------------------------------


def environ(**values: str) -> Settings:
    return Settings.from_env({f"AIJOBS_{name}": value for name, value in values.items()})


def test_webhooks_are_off_by_default() -> None:
    assert read_config(Settings()) is None
    with pytest.raises(ConfigurationError, match="Webhooks are off: set AIJOBS_WEBHOOK_SECRETS"):
        check_webhook(Settings(), Webhook("https://hooks.example.com/"))


def test_the_settings_make_a_configuration() -> None:
    settings = environ(
        WEBHOOK_SECRETS=f"{secret(fill=1)}, {secret(fill=2)}\n{secret(fill=3)}",
        WEBHOOK_URL="https://hooks.example.com/path?token=hidden",
        WEBHOOK_QUEUE="hooks",
        PUBLIC_URL="https://api.example.com/jobs/",
    )
    keys = tuple(bytes([fill]) * 32 for fill in (1, 2, 3))
    expected = WebhookConfig(
        keys, "https://hooks.example.com/path?token=hidden", "hooks", False, "https://api.example.com/jobs"
    )
    assert read_config(settings) == expected
    assert "hidden" not in repr(expected)
    assert "\\x01" not in repr(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WEBHOOK_URL": "https://hidden.example.com"}, "AIJOBS_WEBHOOK_URL needs AIJOBS_WEBHOOK_SECRETS"),
        ({"WEBHOOK_SECRETS": "hidden"}, r"AIJOBS_WEBHOOK_SECRETS is wrong: secret 1 .* whsec_.*openssl rand"),
        ({"WEBHOOK_SECRETS": f"{secret()} hidden"}, "secret 2 cannot be used"),
        (
            {"WEBHOOK_SECRETS": secret(), "WEBHOOK_EVENTS": "job.progress"},
            "AIJOBS_WEBHOOK_EVENTS is wrong: .*job.status",
        ),
        ({"WEBHOOK_SECRETS": secret(), "PUBLIC_URL": "hidden"}, "AIJOBS_PUBLIC_URL is wrong: .*https://"),
        ({"WEBHOOK_SECRETS": secret(), "WEBHOOK_URL": "http://hidden.com"}, "AIJOBS_WEBHOOK_URL is wrong: .*https://"),
        ({"WEBHOOK_SECRETS": secret(), "WEBHOOK_URL": "https://10.0.0.1/hidden"}, "AIJOBS_WEBHOOK_URL .* IP address"),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(values: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_config(environ(**values))
    assert "hidden" not in str(caught.value)


def test_missing_packages_are_named() -> None:
    script = f"""
import sys
sys.modules["httpcore"] = None
from aijobs import ConfigurationError, Settings
from aijobs.webhooks.config import read_config
try:
    read_config(Settings(webhook_secrets=({secret()!r},)))
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "Webhooks need more packages: pip install 'aijobs[webhooks]'.\n"


def test_a_jobs_own_webhook_is_checked() -> None:
    settings = environ(WEBHOOK_SECRETS=secret())
    check_webhook(settings, Webhook("https://hooks.example.com/"))
    with pytest.raises(InvalidWebhook):
        check_webhook(settings, Webhook("http://localhost/"))
    check_webhook(environ(WEBHOOK_SECRETS=secret(), WEBHOOK_ALLOW_PRIVATE="true"), Webhook("http://localhost/"))


# --- attaching -----------------------------------------------------------------------------------------------------


def plain_app() -> Celery:
    return Celery(broker="redis://localhost:1/0", set_as_current=False)


def test_an_app_without_webhooks_has_nothing_of_them() -> None:
    app = plain_app()
    setup(app)
    assert DELIVER not in app.tasks
    assert WebhooksStep not in app.steps["worker"]


def test_attaching_does_not_read_the_apps_configuration() -> None:
    app = plain_app()
    add_webhooks(Runtime(app, environ(WEBHOOK_SECRETS=secret())))
    assert not app.finalized
    assert not app.configured
    app.conf.task_default_queue = "mine"
    task = app.tasks[DELIVER]
    assert (task.acks_late, task.ignore_result, task.serializer) == (True, True, "json")
    assert WebhooksStep in app.steps["worker"]


def test_a_wrong_setting_is_told_when_an_app_is_attached() -> None:
    with pytest.raises(ConfigurationError, match="AIJOBS_WEBHOOK_SECRETS"):
        add_webhooks(Runtime(plain_app(), environ(WEBHOOK_SECRETS="nonsense")))


# --- what is told --------------------------------------------------------------------------------------------------

ANNOUNCEMENT = Announcement(EventType.COMPLETED, NOW, "shop.embed", JobStatus.FAILED, 2, 9, 1, NOW, "b", {"k": "é"})


def test_a_body_is_thin() -> None:
    body = json.loads(write_body(DueAnnouncement("a/b", 7), ANNOUNCEMENT, "https://api.example.com/jobs"))
    assert body == {
        "type": "job.completed",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "data": {
            "job_id": "a/b",
            "task": "shop.embed",
            "status": "failed",
            "attempt": 2,
            "batch_id": "b",
            "metadata": {"k": "é"},
            "rev": 9,
            "seq": 7,
            "urls": {
                "self": "https://api.example.com/jobs/a%2Fb",
                "events": "https://api.example.com/jobs/a%2Fb/events",
                "result": "https://api.example.com/jobs/a%2Fb/result",
            },
        },
    }
    assert json.loads(write_body(DueAnnouncement("a", 7), ANNOUNCEMENT, None))["data"]["urls"] is None


@pytest.mark.parametrize(
    "job_id", ["odd.id", "line\r\nX-Evil: 1", "é", "a b", "\ud800".encode("utf-8", "replace").decode()]
)
def test_a_message_id_fits_a_header_and_a_signature(job_id: str) -> None:
    found = message_id(DueAnnouncement(job_id, 7))
    assert found.isascii()
    assert found.isprintable()
    assert not set(". \r\n") & set(found)
    headers = sign([read_secret(secret())], found, datetime.now(UTC) + timedelta(seconds=1), b"{}")
    assert Verifier(secret()).verify(b"{}", headers) == {}
