"""Telling a webhook of one event: begun in the store, sent, and noted in the store."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from aijobs.errors import InvalidWebhook
from aijobs.store.base import JobStore
from aijobs.store.deliveries import Announcement, Delivery, DeliveryOutcome, DueAnnouncement, ErrorKind
from aijobs.store.record import rfc3339
from aijobs.webhooks.address import read_url
from aijobs.webhooks.config import WebhookConfig
from aijobs.webhooks.schedule import Schedule, read_retry_after
from aijobs.webhooks.sending import Answer, Resolve, post
from aijobs.webhooks.signing import sign
from aijobs.worker.patience import SHORT_PATIENCE_SECONDS, run_patiently

logger = logging.getLogger(__name__)

#: Seconds after which an attempt that did not end, as its worker was lost, may be made again.
BUSY_SECONDS = 30.0
#: What receivers see as the sender.
USER_AGENT = f"aijobs/{version('aijobs')}"

#: Seconds for which nothing is sent to an address that answered 410.
OFF_SECONDS = 30 * 86_400.0

#: Answers after which nothing is tried again.
_FINAL: Mapping[ErrorKind, DeliveryOutcome] = {
    "address": DeliveryOutcome.REFUSED,
    "switched_off": DeliveryOutcome.GONE,
}


@dataclass(frozen=True, slots=True)
class Sender:
    """Makes attempts.

    Args:
        store: holds what is to be told.
        config: how.
        schedule: when it is tried again.
        resolve: looks up hosts.
    """

    store: JobStore
    config: WebhookConfig
    schedule: Schedule
    resolve: Resolve

    def deliver(self, due: DueAnnouncement) -> Delivery | None:
        """Makes one attempt; None when none is to be made now.

        Raises:
            StoreUnavailable: the job store does not answer; the event is told later.
        """
        announcement = self.store.run(self.store.begin_delivery(due, self.config.url, BUSY_SECONDS))
        if announcement is None:
            return None
        began = time.monotonic()
        answer = self._send(due, announcement)
        delivery = self._judge(due, announcement, answer, time.monotonic() - began)
        off = OFF_SECONDS if answer.status_code == 410 else None
        settle = self.store.settle_delivery(due, self.config.url, delivery, off)
        run_patiently(self.store, settle, SHORT_PATIENCE_SECONDS)
        return delivery

    def _send(self, due: DueAnnouncement, announcement: Announcement) -> Answer:
        if announcement.switched_off:
            return Answer(error="switched_off")
        private = self.config.allow_private
        try:
            endpoint = read_url(announcement.url or self.config.url, private)
        except InvalidWebhook:
            # It was allowed once; the settings have changed since.
            return Answer(error="address")
        body = write_body(due, announcement, self.config.public_url)
        headers = {"content-type": "application/json", "user-agent": USER_AGENT}
        headers |= sign(self.config.keys, message_id(due), announcement.begun_at, body)
        try:
            return post(endpoint, headers, body, resolve=self.resolve, allow_private=private)
        except Exception:
            # Whatever it is, it must not make the attempt look as if its worker had been lost.
            logger.exception("A webhook of job %s could not be sent", due.job_id)
            return Answer(error="internal")

    def _judge(self, due: DueAnnouncement, announcement: Announcement, answer: Answer, duration: float) -> Delivery:
        outcome, following = _final_outcome(answer), None
        if outcome is None:
            now = announcement.begun_at + timedelta(seconds=duration)
            asked = read_retry_after(answer.retry_after, now)
            wait = self.schedule.wait_after(announcement.attempt, (now - announcement.at).total_seconds(), asked)
            outcome = DeliveryOutcome.GIVEN_UP if wait is None else DeliveryOutcome.RETRYING
            following = None if wait is None else now + timedelta(seconds=wait)
        return Delivery(
            due.seq,
            announcement.type,
            announcement.attempt,
            announcement.begun_at,
            round(duration, 6),
            outcome,
            answer.status_code,
            answer.error,
            following,
        )


def message_id(due: DueAnnouncement) -> str:
    """What receivers tell messages apart by: the same for each attempt, without a full stop, and fit for a header."""
    return f"{quote(due.job_id, safe='').replace('.', '%2E')}_{due.seq}"


def write_body(due: DueAnnouncement, announcement: Announcement, public_url: str | None) -> bytes:
    """What a receiver is told: which job, and how it stood; the same for each attempt."""
    data: dict[str, Any] = {
        "job_id": due.job_id,
        "task": announcement.task,
        "status": announcement.status,
        "attempt": announcement.job_attempt,
        "batch_id": announcement.batch_id,
        "metadata": dict(announcement.metadata),
        "rev": announcement.rev,
        "seq": due.seq,
        "urls": public_url and _urls(f"{public_url}/{quote(due.job_id, safe='')}"),
    }
    message = {"type": announcement.type, "timestamp": rfc3339(announcement.at), "data": data}
    return json.dumps(message, separators=(",", ":")).encode()


def _urls(job_url: str) -> dict[str, str]:
    return {"self": job_url, "events": f"{job_url}/events", "result": f"{job_url}/result"}


def _final_outcome(answer: Answer) -> DeliveryOutcome | None:
    if answer.delivered:
        return DeliveryOutcome.DELIVERED
    if answer.status_code == 410:
        return DeliveryOutcome.GONE
    return None if answer.error is None else _FINAL.get(answer.error)
