"""The Celery task that tells webhooks, and the worker's thread that sends it for each event that is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import Celery, Task, bootsteps
from kombu.exceptions import OperationalError

from aijobs.errors import AijobsError, StoreUnavailable
from aijobs.runtime import Runtime, runtime_of
from aijobs.store.deliveries import DueAnnouncement
from aijobs.webhooks.config import WebhookConfig, read_config
from aijobs.webhooks.schedule import Schedule
from aijobs.worker.defaults import default_priority
from aijobs.worker.periodic import Periodic

logger = logging.getLogger(__name__)

#: What the task is called.
DELIVER = "aijobs.deliver_webhook"

#: How often a worker looks for events that are due, seconds.
TICK_SECONDS = 0.5
#: How many it takes at a time.
MOST_TAKEN = 100
#: Seconds that a task which was sent has until it is sent again; twice as long after each time.
PAUSE_SECONDS = 60.0

_LATER = "Webhooks are told later"


class DeliverWebhook(Task):
    """What the task is beside its function; an app may set `schedule` and `resolve` of its own."""

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    serializer = "json"
    # Longer than an attempt takes, whatever is the app's default.
    soft_time_limit = 45
    time_limit = 60

    #: When what was not taken is tried again.
    schedule = Schedule()
    #: Looks up hosts; None means the system's resolver.
    resolve: Any = None


def deliver(task: DeliverWebhook, job_id: str, seq: int) -> None:
    """Tells a webhook of one event, unless that is not to be done now; what is told is in the store."""
    from aijobs.webhooks.delivery import Sender
    from aijobs.webhooks.sending import look_up

    runtime = runtime_of(task.app)
    config = read_config(runtime.settings)
    if config is None:
        logger.error("This worker has no AIJOBS_WEBHOOK_SECRETS; what it was to tell is told by others, or later.")
        return
    sender = Sender(runtime.store, config, task.schedule, task.resolve or look_up)
    try:
        delivery = sender.deliver(DueAnnouncement(job_id, seq))
    except StoreUnavailable as error:
        logger.warning("An event of job %s is told later: %s", job_id, error)
        return
    if delivery is not None:
        said = delivery.status_code or delivery.error
        logger.info("Webhook of job %s, attempt %d: %s (%s)", job_id, delivery.attempt, delivery.outcome, said)


class Dispatcher:
    """Sends a task for each event that is due.

    Args:
        app: whose jobs they are.
        config: where the tasks go.
    """

    def __init__(self, app: Celery, config: WebhookConfig) -> None:
        self._app = app
        self._store = runtime_of(app).store
        self._options = {"queue": config.queue} if config.queue else {}
        # Short, and before jobs that take long.
        self._priority = None if default_priority(app) is None else 0
        self._away = False

    def dispatch(self) -> int:
        """Sends a task for each event that is due; how many there were.

        Raises:
            StoreUnavailable: the job store does not answer.
            OperationalError: the broker does not; what was not sent is due again soon.
        """
        due = self._store.run(self._store.take_announcements(MOST_TAKEN, PAUSE_SECONDS))
        if due:
            self._send(due)
        return len(due)

    def _send(self, due: Sequence[DueAnnouncement]) -> None:
        # A connection of its own: a pool's lock that this thread holds while the worker forks stays held in the child.
        with self._app.connection_for_write() as connection, self._app.amqp.Producer(connection) as producer:
            task: Any = self._app.tasks[DELIVER]
            for one in due:
                task.apply_async(
                    (one.job_id, one.seq), producer=producer, retry=False, priority=self._priority, **self._options
                )

    def tick(self) -> bool:
        """Does the same, and tells whether more may be due; that store or broker are away is said once."""
        try:
            more = self.dispatch() == MOST_TAKEN
        except (AijobsError, OperationalError, OSError) as error:
            if not self._away:
                logger.warning("%s: %s", _LATER, error)
            self._away = True
            return False
        self._away = False
        return more


def dispatching(app: Celery, config: WebhookConfig) -> Periodic:
    """What sends the tasks in a worker, twice a second."""
    return Periodic("aijobs-webhooks", TICK_SECONDS, Dispatcher(app, config).tick, _LATER)


class WebhooksStep(bootsteps.StartStopStep):
    """Has a worker tell webhooks."""

    label = "aijobs webhooks"
    #: A thread must not run while the pool forks.
    requires = ("celery.worker.components:Pool",)

    _periodic: Periodic | None = None

    def start(self, worker: Any) -> None:
        """Begins to look for events that are due."""
        config = read_config(runtime_of(worker.app).settings)
        if config is None:
            return
        if config.allow_private:
            logger.warning(
                "aijobs: AIJOBS_WEBHOOK_ALLOW_PRIVATE is on, so whoever names a webhook can have requests sent to "
                "private addresses of this network. It is for development only."
            )
        self._periodic = dispatching(worker.app, config)
        self._periodic.start()

    def stop(self, worker: Any) -> None:
        """Looks no more."""
        if self._periodic is not None:
            self._periodic.stop()

    terminate = stop


def add_webhooks(runtime: Runtime) -> None:
    """Gives an app the task and its workers the thread, when webhooks are on.

    Raises:
        ConfigurationError: a setting is wrong, or what webhooks need is not installed.
    """
    if read_config(runtime.settings) is None:
        return
    app = runtime.app
    app.task(base=DeliverWebhook, bind=True, name=DELIVER, shared=False)(deliver)
    app.steps["worker"].add(WebhooksStep)
