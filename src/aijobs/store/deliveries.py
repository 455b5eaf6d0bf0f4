"""What webhooks are to be told, and what became of it: plain values, whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from aijobs.job import EventType, JobStatus

#: Why there was no answer: none in time, no such host, nobody there, a wrong certificate, no HTTP, an address that is
#: not allowed, one that said that it is gone, a mistake of ours.
ErrorKind: TypeAlias = Literal["timeout", "dns", "connect", "tls", "protocol", "address", "switched_off", "internal"]


@dataclass(frozen=True, slots=True)
class DueAnnouncement:
    """Names an event that a webhook is to be told."""

    job_id: str
    #: The event's number in the job's stream.
    seq: int


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event to be told, as it was when it happened; what happens to the job later does not change it."""

    type: EventType
    at: datetime
    task: str
    status: JobStatus
    #: The job's attempt and revision.
    job_attempt: int
    rev: int
    #: Counts the attempts to tell it, from 1, and when this one began, by the store's clock.
    attempt: int
    begun_at: datetime
    batch_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: The job's own webhook; None means the app's.
    url: str | None = field(default=None, repr=False)
    #: Whether the receiver said that it is gone.
    switched_off: bool = False


class DeliveryOutcome(StrEnum):
    """What came of an attempt to tell a webhook of an event."""

    DELIVERED = "delivered"
    #: It is tried again.
    RETRYING = "retrying"
    #: It was tried for long enough.
    GIVEN_UP = "given_up"
    #: The receiver said that it is gone (410), now or earlier.
    GONE = "gone"
    #: The address is not allowed.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to tell a webhook of an event."""

    #: The event's number in the job's stream, and its type.
    seq: int
    event: EventType
    #: Counts the attempts for this event, from 1.
    attempt: int
    #: When it began.
    at: datetime
    duration_seconds: float
    outcome: DeliveryOutcome
    #: What the receiver answered; None when it did not.
    status_code: int | None = None
    #: What went wrong when there was no answer.
    error: ErrorKind | None = None
    #: When it is tried again.
    next_attempt_at: datetime | None = None
