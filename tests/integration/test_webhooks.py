"""Webhooks from a real worker to a real receiver, whatever becomes of either."""

from __future__ import annotations

import base64
import json
import os
import signal
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery
from standardwebhooks import Webhook as Verifier

from aijobs import Webhook, cancel, settings
from aijobs.store.values import NewJob
from aijobs.webhooks import Delivery, deliveries, enable
from tests.docs.reader import free_port
from tests.helpers import wait_until

from .conftest import Worker, running_worker
from .receiver import Receiver, receiving, status

OLD, NEW = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def environ(server_url: str, receiver: Receiver) -> Iterator[dict[str, str]]:
    values = {
        "TEST_BROKER_URL": server_url,
        "TEST_BACKEND_URL": server_url,
        "TEST_LIFETIME": "1000",
        "AIJOBS_KEY_PREFIX": "hooked",
        "AIJOBS_LEASE_SECONDS": "5",
        "AIJOBS_WEBHOOK_SECRETS": f"{NEW} {OLD}",
        "AIJOBS_WEBHOOK_URL": receiver.url("/app"),
        "AIJOBS_WEBHOOK_ALLOW_PRIVATE": "true",
        "AIJOBS_PUBLIC_URL": "https://api.example.com/jobs/",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        settings.current.cache_clear()
        yield values
    settings.current.cache_clear()


@pytest.fixture(scope="module")
def worker(environ: dict[str, str], folder: Path) -> Iterator[Worker]:
    with running_worker("webhooks_app", folder, environ, "prefork", "-c", "2") as running:
        yield running


def send(worker: Worker, task: str, *args: object, url: str, events: Sequence[str] = ("job.completed",)) -> str:
    """A job with a webhook of its own."""
    job_id, store = str(uuid.uuid4()), worker.runtime.store
    new = NewJob(job_id, getattr(worker.module, task).name, queue="celery", webhook=Webhook(url, events))
    store.run(store.create(new))
    return worker.send(task, *args, task_id=job_id)


def settled(worker: Worker, job_id: str, count: int = 1) -> list[Delivery]:
    """The log of a job's webhook once so many attempts are in it."""

    def look() -> list[Delivery] | None:
        found = list(deliveries(worker.app, job_id))
        return found if len(found) >= count else None

    return wait_until(look, f"attempt {count} for {job_id}")


def outcomes(log: Sequence[Delivery]) -> list[tuple[int, str, int | str | None]]:
    return [(one.attempt, one.outcome, one.status_code or one.error) for one in log]


def test_the_apps_webhook_is_told_of_a_job_that_anybody_sent(worker: Worker, receiver: Receiver) -> None:
    job = worker.run("add", 1, 2)
    (one,) = settled(worker, job.id)
    (got,) = [got for got in receiver.wait("/app") if job.id in got.headers["webhook-id"]]
    body = json.loads(got.body)
    assert datetime.fromisoformat(body.pop("timestamp")) - (job.completed_at or job.created_at) < timedelta(
        milliseconds=1
    )
    assert body == {
        "type": "job.completed",
        "data": {
            "job_id": job.id,
            "task": "webhooks_app.add",
            "status": "success",
            "attempt": 1,
            "batch_id": None,
            "metadata": {},
            "rev": job.rev,
            "seq": job.seq,
            "urls": {
                "self": f"https://api.example.com/jobs/{job.id}",
                "events": f"https://api.example.com/jobs/{job.id}/events",
                "result": f"https://api.example.com/jobs/{job.id}/result",
            },
        },
    }
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("aijobs/")
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["webhook-id"] == f"{job.id}_{job.seq}"
    assert (one.outcome, one.status_code, one.error, one.next_attempt_at) == ("delivered", 204, None, None)
    assert job.completed_at is not None
    assert one.at > job.completed_at - timedelta(seconds=60)
    assert one.duration_seconds > 0


def test_each_secret_verifies_while_they_are_rotated(worker: Worker, receiver: Receiver) -> None:
    job_id = send(worker, "add", 1, 2, url=receiver.url("/verified"))
    (got,) = receiver.wait("/verified")
    for secret in (OLD, NEW):
        assert Verifier(secret).verify(got.body, dict(got.headers))["data"]["job_id"] == job_id
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(other).verify(got.body, dict(got.headers))
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(NEW).verify(got.body.replace(b"success", b"failed"), dict(got.headers))


def test_every_kind_of_end_is_told(worker: Worker, receiver: Receiver) -> None:
    failed = send(worker, "fail", url=receiver.url("/ends"))
    cancelled = str(uuid.uuid4())
    store = worker.runtime.store
    store.run(
        store.create(NewJob(cancelled, "webhooks_app.add", queue="nobody", webhook=Webhook(receiver.url("/ends"))))
    )
    cancel(worker.app, cancelled)
    told = {body["job_id"]: body["status"] for body in _data(receiver, "/ends", 2)}
    assert told == {failed: "failed", cancelled: "revoked"}


def test_a_job_is_followed_from_event_to_event(worker: Worker, receiver: Receiver) -> None:
    everything = ("job.status", "job.attempt", "job.completed")
    send(worker, "add", 1, 2, url=receiver.url("/followed"), events=everything)
    bodies = [json.loads(got.body) for got in receiver.wait("/followed", 3)]
    told = {(body["data"]["seq"], body["type"], body["data"]["status"]) for body in bodies}
    assert told == {(1, "job.status", "queued"), (2, "job.status", "running"), (3, "job.completed", "success")}


def test_a_receiver_that_was_down_is_told_once_it_is_up(worker: Worker) -> None:
    port = free_port()
    later = Receiver(port)
    job_id = send(worker, "add", 1, 2, url=later.url("/late"))
    failed = settled(worker, job_id, 2)
    with receiving(port, known=later):
        later.wait("/late")
        log = wait_until(lambda: _ended(worker, job_id), "the delivery")
    assert set(outcomes(failed)) <= {(number, "retrying", "connect") for number in range(1, 50)}
    assert log[-1].outcome == "delivered"
    assert [one.attempt for one in log] == list(range(1, len(log) + 1))
    assert all(one.next_attempt_at for one in log[:-1])


def test_each_attempt_has_the_same_id_and_body(worker: Worker, receiver: Receiver) -> None:
    def fail_twice(handler: object, count: int) -> None:
        status(500 if count < 3 else 200)(handler, count)  # type: ignore[arg-type]

    receiver.replies["/flaky"] = fail_twice
    job_id = send(worker, "add", 1, 2, url=receiver.url("/flaky"))
    got = receiver.wait("/flaky", 3)
    assert len({(one.headers["webhook-id"], one.body) for one in got}) == 1
    assert outcomes(settled(worker, job_id, 3)) == [(1, "retrying", 500), (2, "retrying", 500), (3, "delivered", 200)]


@pytest.mark.parametrize("code", [301, 302, 307, 308, 400, 404, 503])
def test_nothing_but_2xx_is_success(worker: Worker, receiver: Receiver, code: int) -> None:
    path = f"/status-{code}"
    receiver.replies[path] = status(code, Location=receiver.url("/elsewhere"))
    job_id = send(worker, "add", 1, 2, url=receiver.url(path))
    assert outcomes(settled(worker, job_id))[0] == (1, "retrying", code)
    receiver.replies[path] = status(202)
    wait_until(lambda: _ended(worker, job_id), "the delivery")
    assert receiver.at("/elsewhere") == []


def test_a_receiver_may_ask_to_be_left_alone(worker: Worker, receiver: Receiver) -> None:
    receiver.replies["/busy"] = status(429, Retry_After="3600")
    job_id = send(worker, "add", 1, 2, url=receiver.url("/busy"))
    (one,) = settled(worker, job_id)
    # The schedule of this app ends before that.
    assert (one.outcome, one.status_code, one.next_attempt_at) == ("given_up", 429, None)
    receiver.replies["/busy"] = status(429, Retry_After="600")
    job_id = send(worker, "add", 1, 2, url=receiver.url("/busy"))
    (one,) = settled(worker, job_id)
    assert one.next_attempt_at is not None
    assert timedelta(seconds=599) < one.next_attempt_at - one.at < timedelta(seconds=660)


def test_a_receiver_that_is_gone_hears_no_more_of_this_job(worker: Worker, receiver: Receiver) -> None:
    receiver.replies["/gone"] = status(410)
    job_id = send(worker, "add", 1, 2, url=receiver.url("/gone"))
    assert outcomes(settled(worker, job_id)) == [(1, "gone", 410)]
    store = worker.runtime.store
    store.run(store.create(NewJob(job_id, "webhooks_app.add", webhook=Webhook(receiver.url("/gone"))), reopen=True))
    cancel(worker.app, job_id)
    assert outcomes(settled(worker, job_id, 2)) == [(1, "gone", 410), (1, "gone", "switched_off")]
    assert len(receiver.at("/gone")) == 1
    other = send(worker, "add", 1, 2, url=receiver.url("/gone"))
    assert outcomes(settled(worker, other)) == [(1, "gone", 410)]


def test_the_apps_receiver_is_switched_off_and_on(worker: Worker, receiver: Receiver, environ: dict[str, str]) -> None:
    receiver.replies["/app"] = status(410)
    first = worker.run("add", 1, 2)
    assert outcomes(settled(worker, first.id)) == [(1, "gone", 410)]
    receiver.replies["/app"] = status(204)
    second = worker.run("add", 1, 2)
    assert outcomes(settled(worker, second.id)) == [(1, "gone", "switched_off")]
    assert enable(worker.app, environ["AIJOBS_WEBHOOK_URL"])
    assert not enable(worker.app, environ["AIJOBS_WEBHOOK_URL"])
    third = worker.run("add", 1, 2)
    assert outcomes(settled(worker, third.id)) == [(1, "delivered", 204)]


def test_deliveries_are_no_jobs(worker: Worker, receiver: Receiver) -> None:
    job = worker.run("add", 1, 2)
    settled(worker, job.id)
    store = worker.runtime.store
    workers = wait_until(lambda: store.run(store.workers()), "the worker's beat")
    assert all(job.task != "aijobs.deliver_webhook" for worker in workers for job in worker.jobs)
    stats = store.run(store.stats(["aijobs.deliver_webhook"]))
    assert sum(stats.tasks["aijobs.deliver_webhook"].values()) == 0


def test_secrets_and_addresses_are_in_no_log(worker: Worker) -> None:
    log = worker.log.read_text()
    assert "Webhook of job" in log
    assert not any(hidden in log for hidden in (OLD, NEW, "/verified", "/gone"))
    assert "AIJOBS_WEBHOOK_ALLOW_PRIVATE is on" in log


def test_a_worker_that_dies_between_end_and_delivery_is_made_up_for(
    environ: dict[str, str], folder: Path, receiver: Receiver, tmp_path: Path
) -> None:
    alone = {**environ, "AIJOBS_KEY_PREFIX": "dying", "AIJOBS_WEBHOOK_QUEUE": "dying-webhooks"}
    first, second, busy = (tmp_path / name for name in ("first", "second", "busy"))
    # It knows nothing of this store, so the workers make the records.
    sender = Celery(broker=environ["TEST_BROKER_URL"], set_as_current=False)
    for folder_of_one in (first, second):
        folder_of_one.mkdir()
    with running_worker("webhooks_app", first, alone, "prefork", "-c", "1", "-Q", "dying") as dying:
        job_id = sender.send_task("webhooks_app.add", (1, 2), queue="dying").id
        # Nothing else runs in the only process, and nobody consumes the queue of webhooks.
        sender.send_task("webhooks_app.wait_for", (str(busy),), queue="dying")
        wait_until(Path(f"{busy}.began").exists, "the next job's start")
        os.killpg(dying.process.pid, signal.SIGKILL)
        dying.process.wait()
    assert not _told(receiver, job_id)
    busy.touch()
    with running_worker("webhooks_app", second, alone, "prefork", "-c", "1", "-Q", "dying,dying-webhooks"):
        wait_until(lambda: _told(receiver, job_id), "the webhook")


def _told(receiver: Receiver, job_id: str) -> bool:
    return any(job_id in got.headers["webhook-id"] for got in receiver.at("/app"))


def _data(receiver: Receiver, path: str, count: int) -> list[dict[str, str]]:
    return [json.loads(got.body)["data"] for got in receiver.wait(path, count)]


def _ended(worker: Worker, job_id: str) -> list[Delivery] | None:
    log = list(deliveries(worker.app, job_id))
    return log if log and log[-1].next_attempt_at is None else None
