"""Secrets and signatures of webhooks, as Standard Webhooks 1.0 has them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

_PREFIX = "whsec_"


def read_secret(text: str) -> bytes:
    """The key that a secret stands for.

    Raises:
        ValueError: it is none; the text says why and does not repeat it.
    """
    if not text.startswith(_PREFIX):
        raise ValueError(f"it does not begin with {_PREFIX}")
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:
        raise ValueError(f"what follows {_PREFIX} is no Base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"it holds {len(key)} bytes; a secret has 24 to 64")
    return key


def sign(keys: Sequence[bytes], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers that identify a message and prove where it comes from.

    Args:
        keys: all that receivers may have, in any order; each gives a signature of its own.
        message_id: without a full stop, and the same for each attempt.
        at: when this attempt is made.
        body: as it is sent.
    """
    timestamp = str(int(at.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
    }
