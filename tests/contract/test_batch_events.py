"""A batch's event stream: every change of its jobs once, in order, until the last one is over."""

from __future__ import annotations

import threading
import uuid
from contextlib import AbstractContextManager
from typing import Any

import pytest
from celery import Celery

from aijobs.http import StreamLimits, job_router
from aijobs.runtime import Runtime
from tests.helpers import wait_until

from . import conftest
from .conftest import Api, Event, Stream, assert_problem, serving


def stream(api: Api, batch_id: str, last: object = None, **params: Any) -> AbstractContextManager[Stream]:
    return conftest.stream(api, f"batches/{batch_id}", last, **params)


def whole(api: Api, batch_id: str, last: object = None, **params: Any) -> list[Event]:
    return conftest.whole(api, f"batches/{batch_id}", last, **params)


def submit(api: Api, count: int) -> tuple[str, list[str]]:
    """The id of a new batch, and those of its jobs."""
    items = [{"custom_id": f"item-{number}", "task": "nightly"} for number in range(count)]
    response = api.client.post("/jobs/batches", json={"items": items})
    assert response.status_code == 202, response.text
    return response.json()["batch_id"], [one["job_id"] for one in response.json()["items"]]


def finish_all(api: Api, jobs: list[str]) -> None:
    for job_id in jobs:
        api.succeed(api.start(job_id))


def test_a_stream_begins_with_a_snapshot_and_ends_with_the_batch(api: Api) -> None:
    batch_id, (first, second) = submit(api, 2)
    with stream(api, batch_id) as events:
        assert events.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        (snapshot,) = events.take(1)
        api.succeed(api.start(second))
        api.client.delete(f"/jobs/{first}")
        *changes, completed = events.events()
    assert (snapshot.kind, snapshot.id, snapshot.data["counts"]["queued"]) == ("batch.snapshot", 2, 2)
    assert snapshot.data == {"seq": 2, **api.client.get(f"/jobs/batches/{batch_id}").json()} | {
        name: snapshot.data[name] for name in ("status", "counts", "progress", "rev", "completed_at", "expires_at")
    }
    assert [(one.kind, one.id) for one in changes] == [("batch.progress", number) for number in (3, 4, 5)]
    assert changes[1].data == {
        "seq": 4,
        "batch_id": batch_id,
        "job_id": second,
        "custom_id": "item-1",
        "status": "success",
        "counts": {"total": 2, "queued": 1, "running": 0, "success": 1, "failed": 0, "revoked": 0},
        "progress": 0.5,
    }
    assert [(one.data["custom_id"], one.data["status"]) for one in changes] == [
        ("item-1", "running"),
        ("item-1", "success"),
        ("item-0", "revoked"),
    ]
    assert (completed.kind, completed.id, completed.data["status"]) == ("batch.completed", 6, "completed")
    assert completed.data == {"seq": 6, **api.client.get(f"/jobs/batches/{batch_id}").json()}


def test_a_completed_batch_is_told_at_once(api: Api) -> None:
    batch_id, jobs = submit(api, 1)
    finish_all(api, jobs)
    snapshot, completed = whole(api, batch_id)
    assert (snapshot.kind, completed.kind) == ("batch.snapshot", "batch.completed")
    assert whole(api, batch_id, snapshot.id) == [completed]


def test_who_has_seen_the_end_is_sent_away(api: Api) -> None:
    batch_id, jobs = submit(api, 1)
    finish_all(api, jobs)
    end = whole(api, batch_id)[-1].id
    for seen in (end, end + 1, 10**14):
        response = api.get(f"/batches/{batch_id}/events", headers={"Last-Event-ID": str(seen)})
        assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("bad", ["x", "-1", "1-0", "9" * 16, "1,2"])
def test_bad_event_ids(api: Api, bad: str) -> None:
    batch_id, _ = submit(api, 1)
    for options in ({"headers": {"Last-Event-ID": bad}}, {"params": {"starting_after": bad}}):
        assert_problem(api.get(f"/batches/{batch_id}/events", **options), 400, "invalid-event-id")


def test_an_unknown_batch_has_no_stream(api: Api) -> None:
    assert_problem(api.get(f"/batches/{uuid.uuid4()}/events"), 404, "batch-not-found")
    assert_problem(api.get(f"/{submit(api, 1)[0]}/events"), 404, "job-not-found")


def test_resuming_is_exact_wherever_the_client_was_cut_off(api: Api) -> None:
    batch_id, jobs = submit(api, 60)
    finish_all(api, jobs)
    everything = whole(api, batch_id, starting_after=0)
    assert [one.id for one in everything] == list(range(1, 182))
    for cut in (0, 1, 99, 100, 101, 179, 180):
        assert whole(api, batch_id, cut) == everything[cut:]


def test_clients_that_come_and_go_get_every_event_once(api: Api) -> None:
    batch_id, jobs = submit(api, 80)
    worker = threading.Thread(target=finish_all, args=(api, jobs))
    seen: list[Event] = []
    worker.start()
    while not seen or seen[-1].kind != "batch.completed":
        with stream(api, batch_id, seen[-1].id if seen else 0) as events:
            for one in events.events():
                seen.append(one)
                if len(seen) % 23 == 0:
                    break
    worker.join()
    assert [one.id for one in seen] == list(range(1, 242))
    over = [one.data["custom_id"] for one in seen if one.data["status"] == "success"]
    assert over == [f"item-{number}" for number in range(80)]
    shares = [one.data["progress"] for one in seen]
    assert (shares, shares[-1]) == (sorted(shares), 1)


def test_a_trimmed_history_is_a_gap(api: Api) -> None:
    batch_id, jobs = submit(api, 10)
    history = f"aijobs:batch:{batch_id}:events"
    api.command("XTRIM", history, "MAXLEN", 3)
    with stream(api, batch_id, 3) as events:
        (gap,) = events.take(1)
        assert (gap.kind, gap.id, gap.data["counts"]["queued"]) == ("stream.gap", 10, 10)
        finish_all(api, jobs)
        assert [one.id for one in events.events()] == list(range(11, 32))


def test_a_job_that_runs_anew_makes_the_stream_go_on(api: Api) -> None:
    batch_id, (job_id,) = submit(api, 1)
    api.fail(api.start(job_id))
    end = whole(api, batch_id)[-1].id
    assert api.client.post(f"/jobs/{job_id}/retry").status_code == 202
    with stream(api, batch_id, end - 1) as events:
        passed, queued = events.take(2)
        finish_all(api, [job_id])
        *_, completed = events.events()
    assert (passed.kind, passed.data["job_id"], passed.data["progress"]) == ("batch.progress", None, 1)
    assert (queued.data["status"], queued.data["progress"]) == ("queued", 0)
    assert completed.data["counts"]["success"] == 1


def test_a_cancel_ends_the_stream(api: Api) -> None:
    batch_id, _ = submit(api, 3)
    with stream(api, batch_id) as events:
        events.take(1)
        api.client.delete(f"/jobs/batches/{batch_id}")
        assert [one.data["status"] for one in events.events()] == ["revoked"] * 3 + ["completed"]


def test_many_watch_one_batch_over_one_connection(celery_app: Celery, runtime: Runtime) -> None:
    with serving(runtime, job_router(celery_app, stream_limits=StreamLimits(ping_seconds=0.2))) as api:
        batch_id, jobs = submit(api, 3)
        seen: list[list[Event]] = [[] for _ in range(20)]

        def watch(events: list[Event]) -> None:
            with stream(api, batch_id) as following:
                for one in following.events():
                    events.append(one)

        clients = [threading.Thread(target=watch, args=(events,)) for events in seen]
        for client in clients:
            client.start()
        wait_until(lambda: all(seen), "the snapshots")
        channels = [name.decode() for name in api.command("PUBSUB CHANNELS", f"aijobs:news:batch:{batch_id}")]
        assert len(channels) == 1
        finish_all(api, jobs)
        for client in clients:
            client.join()
        assert all(events == seen[0] for events in seen)
        assert [one.id for one in seen[0]] == list(range(3, 11))
