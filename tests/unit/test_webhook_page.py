"""What the page on webhooks lists is what the code has."""

from __future__ import annotations

import re
from typing import get_args

from aijobs.job import WEBHOOK_EVENTS
from aijobs.store import deliveries
from aijobs.store.deliveries import DeliveryOutcome
from aijobs.store.webhooks import LOG_LENGTH
from aijobs.webhooks.delivery import BUSY_SECONDS, OFF_SECONDS
from aijobs.webhooks.schedule import Schedule
from aijobs.webhooks.sending import MOST_READ, TIMEOUT_SECONDS
from aijobs.webhooks.task import DELIVER, PAUSE_SECONDS, TICK_SECONDS
from tests.docs.pages import code, read, table

UNITS = {"seconds": 1, "minutes": 60, "hours": 3_600, "day": 86_400}


def test_events_and_outcomes() -> None:
    assert {code(row[0])[0] for row in table("webhooks.md", "Event")} == set(WEBHOOK_EVENTS)
    assert [code(row[0])[0] for row in table("webhooks.md", "Outcome")] == list(DeliveryOutcome)


def test_waits() -> None:
    first, *rest = table("webhooks.md", "Attempt")
    assert first[0] == "1"
    waits = []
    for number, (attempt, wait) in enumerate(rest, 2):
        amount, unit = re.findall(r"^(\d+|a) (\w+)", wait)[0]
        assert str(number) in attempt
        waits.append((1 if amount == "a" else int(amount)) * UNITS[unit])
    assert waits == list(Schedule().waits)
    assert Schedule().lifetime == 3 * 86_400
    assert f"up to {Schedule().jitter:.0%} longer".replace("%", " %") in read("webhooks.md")


def test_numbers() -> None:
    text = " ".join(read("webhooks.md").split())
    assert f"{MOST_READ // 1024} KiB" in text
    assert f"The newest {LOG_LENGTH} attempts" in text
    assert f"for {OFF_SECONDS / 86_400:g} days" in text
    assert DELIVER in text
    assert TIMEOUT_SECONDS == 10
    assert "ten seconds" in text
    assert max(BUSY_SECONDS, PAUSE_SECONDS) <= 60
    assert "within a minute or so" in text
    assert TICK_SECONDS < 1


def test_kinds_of_errors() -> None:
    kinds = set(get_args(deliveries.ErrorKind))
    text = " ".join(read("webhooks.md").split())
    sentence = re.findall(r"`error` says why: ([^;]*);", text)[0]
    assert set(code(sentence)) == kinds
