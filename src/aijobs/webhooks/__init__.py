"""Telling others of jobs by HTTP, as Standard Webhooks 1.0 has it (https://www.standardwebhooks.com).

Every event that a webhook wants is put down in the job store in the same step that makes it happen, and taken from
there by whichever worker is alive, so none is forgotten.
"""

from aijobs.job import WEBHOOK_EVENTS, Webhook
from aijobs.store.deliveries import Delivery, DeliveryOutcome
from aijobs.webhooks.address import check_url
from aijobs.webhooks.config import check_webhook
from aijobs.webhooks.log import deliveries, deliveries_async, enable, enable_async

__all__ = [
    "WEBHOOK_EVENTS",
    "Delivery",
    "DeliveryOutcome",
    "Webhook",
    "check_url",
    "check_webhook",
    "deliveries",
    "deliveries_async",
    "enable",
    "enable_async",
]
