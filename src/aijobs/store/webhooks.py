"""The store's operations for webhooks: an outbox of events to tell, and a log of the attempts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from typing_extensions import override

from aijobs.job import EventType, JobStatus
from aijobs.store import scripts
from aijobs.store.base import Operation
from aijobs.store.deliveries import Announcement, Delivery, DeliveryOutcome, DueAnnouncement
from aijobs.store.execution import Call, ScriptExecutor
from aijobs.store.record import from_us, to_fields, to_us

#: So many attempts are remembered for a job.
LOG_LENGTH = 50


class WebhookOperations(ScriptExecutor):
    """The part of a store that knows what webhooks are to be told."""

    @override
    def take_announcements(self, limit: int, pause: float) -> Operation[Sequence[DueAnnouncement]]:
        return Call(scripts.WEBHOOK_TAKE, (limit, int(pause * 1e6)), _read_due)

    @override
    def begin_delivery(self, due: DueAnnouncement, app_url: str, busy: float) -> Operation[Announcement | None]:
        arguments = (due.job_id, due.seq, _digest(app_url), int(busy * 1e6))
        return Call(scripts.WEBHOOK_BEGIN, arguments, _read_announcement)

    @override
    def settle_delivery(
        self, due: DueAnnouncement, app_url: str, delivery: Delivery, switch_off_for: float | None = None
    ) -> Operation[bool]:
        following = "" if delivery.next_attempt_at is None else to_us(delivery.next_attempt_at)
        off = "" if switch_off_for is None else int(switch_off_for * 1e6)
        where = due.job_id, due.seq, _digest(app_url)
        arguments = (*where, delivery.attempt, _write_delivery(delivery), following, LOG_LENGTH, off)
        return Call(scripts.WEBHOOK_SETTLE, arguments, bool)

    @override
    def deliveries(self, job_id: str) -> Operation[Sequence[Delivery]]:
        return Call(scripts.WEBHOOK_LOG, (job_id,), _read_log)

    @override
    def enable_webhook(self, app_url: str) -> Operation[bool]:
        return Call(scripts.WEBHOOK_ENABLE, (_digest(app_url),), bool)


def _digest(url: str) -> str:
    """What stands for an address in a key, which must not show it."""
    return hashlib.sha256(url.encode()).hexdigest()


def _read_due(reply: Any) -> Sequence[DueAnnouncement]:
    return [DueAnnouncement(job_id.decode(), int(seq)) for job_id, seq in reply]


def _read_announcement(reply: Any) -> Announcement | None:
    flat, off, now = reply
    return _announcement(to_fields(flat), bool(off), from_us(now.decode())) if flat else None


def _announcement(fields: Mapping[str, str], switched_off: bool, begun_at: datetime) -> Announcement:
    return Announcement(
        type=EventType(fields["type"]),
        at=from_us(fields["at"]),
        task=fields["task"],
        status=JobStatus(fields["status"]),
        job_attempt=int(fields["job_attempt"]),
        rev=int(fields["rev"]),
        attempt=int(fields["attempt"]),
        begun_at=begun_at,
        batch_id=fields.get("batch_id"),
        metadata=json.loads(fields.get("metadata", "{}")),
        url=fields.get("url"),
        switched_off=switched_off,
    )


def _write_delivery(delivery: Delivery) -> str:
    following = delivery.next_attempt_at
    known = asdict(delivery) | {"at": to_us(delivery.at), "next_attempt_at": following and to_us(following)}
    return json.dumps({name: value for name, value in known.items() if value is not None})


def _read_log(reply: Any) -> Sequence[Delivery]:
    return [_read_delivery(json.loads(line)) for line in reply]


def _read_delivery(known: dict[str, Any]) -> Delivery:
    following = known.pop("next_attempt_at", None)
    return Delivery(
        **known
        | {
            "event": EventType(known["event"]),
            "outcome": DeliveryOutcome(known["outcome"]),
            "at": from_us(known["at"]),
            "next_attempt_at": following and from_us(following),
        }
    )
