"""What the settings say of webhooks, checked and ready for use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec

from aijobs.errors import ConfigurationError, InvalidWebhook
from aijobs.job import Webhook, check_webhook_events
from aijobs.settings import Settings
from aijobs.webhooks.address import check_url
from aijobs.webhooks.signing import read_secret


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """How webhooks are sent."""

    keys: tuple[bytes, ...] = field(repr=False)
    #: The app's own address; empty without one.
    url: str = field(repr=False)
    queue: str | None
    allow_private: bool
    #: Where clients reach the job routes, without a slash at the end.
    public_url: str | None


@lru_cache(maxsize=8)
def read_config(settings: Settings) -> WebhookConfig | None:
    """What the settings say; None while webhooks are off.

    Raises:
        ConfigurationError: a setting is wrong, or what webhooks need is not installed.
    """
    url = settings.webhook_url.get_secret_value() if settings.webhook_url else ""
    if not settings.webhook_secrets:
        if url:
            raise ConfigurationError("AIJOBS_WEBHOOK_URL needs AIJOBS_WEBHOOK_SECRETS: every webhook is signed.")
        return None
    if find_spec("httpcore") is None or find_spec("idna") is None:
        raise ConfigurationError("Webhooks need more packages: pip install 'aijobs[webhooks]'.")
    keys = tuple(_key(number, secret.get_secret_value()) for number, secret in enumerate(settings.webhook_secrets, 1))
    _check("AIJOBS_WEBHOOK_EVENTS", lambda: check_webhook_events(settings.webhook_events))
    if url:
        _check("AIJOBS_WEBHOOK_URL", lambda: check_url(url, settings.webhook_allow_private))
    public_url = settings.public_url and settings.public_url.rstrip("/")
    if public_url and not public_url.startswith(("https://", "http://")):
        raise ConfigurationError("AIJOBS_PUBLIC_URL is wrong: it must be like https://api.example.com/jobs.")
    return WebhookConfig(keys, url, settings.webhook_queue, settings.webhook_allow_private, public_url)


def check_webhook(settings: Settings, webhook: Webhook) -> None:
    """Checks that a job may have a webhook of its own.

    Raises:
        InvalidWebhook: its address is not allowed.
        ConfigurationError: webhooks are off.
    """
    if not settings.webhook_secrets:
        raise ConfigurationError("Webhooks are off: set AIJOBS_WEBHOOK_SECRETS, which they are signed with.")
    check_url(webhook.url, settings.webhook_allow_private)


def _key(number: int, secret: str) -> bytes:
    try:
        return read_secret(secret)
    except ValueError as error:
        raise ConfigurationError(
            f"AIJOBS_WEBHOOK_SECRETS is wrong: secret {number} cannot be used, as {error}. "
            'Make one with: echo "whsec_$(openssl rand -base64 32)"'
        ) from None


def _check(name: str, check: Callable[[], None]) -> None:
    try:
        check()
    except InvalidWebhook as error:
        raise ConfigurationError(f"{name} is wrong: {error}") from None
