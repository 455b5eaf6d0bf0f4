"""Server-sent events: nothing lost, nothing twice, in order."""

from __future__ import annotations

import re
import threading
import uuid

import pytest

from aijobs.store.values import NewJob
from tests.helpers import wait_until

from .conftest import Api, Event, assert_problem, stream, whole


def test_a_stream_begins_with_a_snapshot_and_ends_with_the_job(api: Api) -> None:
    claim = api.run()
    with stream(api, claim.job_id) as events:
        assert events.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.response.headers["cache-control"] == "no-store, no-transform"
        assert events.response.headers["x-accel-buffering"] == "no"
        (snapshot,) = events.take(1)
        api.report(claim, 0.5, current=1, total=2)
        (progress,) = events.take(1)
        api.succeed(claim, {"texts": 1})
        (completed,) = events.events()
    assert (snapshot.kind, snapshot.data["status"], snapshot.id) == ("job.snapshot", "running", snapshot.data["seq"])
    assert (progress.kind, progress.data["progress"]) == ("job.progress", 0.5)
    assert progress.data["progress_detail"]["total"] == 2
    assert (completed.kind, completed.data["status"]) == ("job.completed", "success")
    assert completed.data["result"] == {"texts": 1}
    assert [progress.id, completed.id] == [snapshot.id + 1, snapshot.id + 2]
    for one in (snapshot, progress, completed):
        assert (one.data["seq"], one.data["job_id"]) == (one.id, claim.job_id)
    assert completed.data["urls"]["self"] == f"/jobs/{claim.job_id}"


def test_the_first_bytes_set_the_retry_time(api: Api) -> None:
    claim = api.run()
    api.succeed(claim)
    assert api.get(f"/{claim.job_id}/events").content.startswith(b"retry: 2000\n\n")


def test_a_finished_job_is_told_at_once(api: Api) -> None:
    claim = api.run()
    api.fail(claim)
    snapshot, completed = whole(api, claim.job_id)
    assert (snapshot.kind, completed.kind) == ("job.snapshot", "job.completed")
    assert completed.data["error"]["code"] == "exception"
    # Who saw the snapshot only still gets the end.
    assert whole(api, claim.job_id, snapshot.id) == [completed]


def test_who_has_seen_the_end_is_sent_away(api: Api) -> None:
    claim = api.run()
    api.succeed(claim)
    end = whole(api, claim.job_id)[-1].id
    for seen in (end, end + 1, 10**14):
        response = api.get(f"/{claim.job_id}/events", headers={"Last-Event-ID": str(seen)})
        assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("bad", ["x", "-1", "1-0", "1.0", " ", "9" * 16, "٣", "0x1", "1,2", "\ufeff1", "1;"])
def test_bad_event_ids(api: Api, bad: str) -> None:
    job_id = api.queue()
    if bad.strip():
        response = api.get(f"/{job_id}/events", headers={"Last-Event-ID": bad.encode()})
        assert_problem(response, 400, "invalid-event-id")
    response = api.get(f"/{job_id}/events", params={"starting_after": bad})
    assert_problem(response, 400, "invalid-event-id")


def test_two_event_ids(api: Api) -> None:
    response = api.get(f"/{api.queue()}/events", headers=[("Last-Event-ID", "1"), ("Last-Event-ID", "1")])
    assert_problem(response, 400, "invalid-event-id")


def test_the_header_counts_before_the_parameter(api: Api) -> None:
    claim = api.run()
    api.succeed(claim)
    everything = whole(api, claim.job_id, starting_after=0)
    assert [one.id for one in everything] == list(range(1, len(everything) + 1))
    assert whole(api, claim.job_id, everything[1].id, starting_after=0) == everything[2:]
    assert whole(api, claim.job_id, "")[0].kind == "job.snapshot"


def test_resuming_is_exact_wherever_the_client_was_cut_off(api: Api) -> None:
    claim = api.run()
    for step in range(1, 250):
        api.report(claim, step / 250, current=step)
    api.succeed(claim)
    everything = whole(api, claim.job_id, starting_after=0)
    assert [one.id for one in everything] == list(range(1, len(everything) + 1))
    assert len(everything) > 250
    for cut in (0, 1, 99, 100, 101, 200, len(everything) - 1):
        assert whole(api, claim.job_id, cut) == everything[cut:]


def test_clients_that_come_and_go_get_every_event_once(api: Api) -> None:
    claim = api.run()
    steps = 300

    def work() -> None:
        for step in range(steps):
            api.report(claim, step / steps, current=step)
        api.succeed(claim)

    worker = threading.Thread(target=work)
    seen: list[Event] = []
    worker.start()
    while not seen or seen[-1].kind != "job.completed":
        with stream(api, claim.job_id, seen[-1].id if seen else 0) as events:
            for one in events.events():
                seen.append(one)
                if len(seen) % 37 == 0:
                    break
    worker.join()
    assert [one.id for one in seen] == list(range(1, len(seen) + 1))
    assert [one.data["progress_detail"]["current"] for one in seen if one.kind == "job.progress"] == list(range(steps))


def test_a_new_attempt_is_told(api: Api) -> None:
    claim = api.run()
    with stream(api, claim.job_id) as events:
        events.take(1)
        again = api.start(claim.job_id)
        kinds = [one.kind for one in events.take(2)]
        api.succeed(again)
        assert kinds == ["job.attempt", "job.status"]
        assert [one.kind for one in events.events()] == ["job.completed"]


def test_a_trimmed_history_is_a_gap(api: Api) -> None:
    claim = api.run()
    for step in range(20):
        api.report(claim, step / 20)
    history = f"aijobs:job:{claim.job_id}:events"
    api.command("XTRIM", history, "MAXLEN", 5)
    with stream(api, claim.job_id, 3) as events:
        (gap,) = events.take(1)
        assert (gap.kind, gap.data["status"], gap.id) == ("stream.gap", "running", api.job(claim.job_id).seq)
        api.report(claim, 0.99)
        (progress,) = events.take(1)
        assert (progress.kind, progress.id) == ("job.progress", gap.id + 1)
        api.command("DEL", history)
        api.succeed(claim)
        assert [one.kind for one in events.events()] == ["job.completed"]
    assert [one.kind for one in whole(api, claim.job_id, 3)] == ["stream.gap", "job.completed"]


def test_a_history_that_was_lost_is_a_gap(api: Api) -> None:
    claim = api.run()
    with stream(api, claim.job_id, 1_000) as events:
        (gap,) = events.take(1)
        assert (gap.kind, gap.id) == ("stream.gap", api.job(claim.job_id).seq)


def test_cancelling_a_queued_job_ends_its_streams(api: Api) -> None:
    job_id = api.queue()
    with stream(api, job_id) as events:
        events.take(1)
        api.client.delete(f"/jobs/{job_id}")
        (completed,) = events.events()
        assert completed.data["status"] == "revoked"


def test_events_cannot_be_smuggled_into_events(api: Api) -> None:
    claim = api.run()
    with stream(api, claim.job_id) as events:
        events.take(1)
        api.report(claim, 0.5, message="a\n\nevent: job.completed\r\ndata: {}\x85\u2028\u2029\x00")
        (progress,) = events.take(1)
        assert (
            progress.data["progress_detail"]["message"] == "a\n\nevent: job.completed\r\ndata: {}\x85\u2028\u2029\x00"
        )


def test_head_is_not_for_streams(api: Api) -> None:
    assert api.client.head(f"/jobs/{api.queue()}/events").status_code == 405


def test_many_watch_one_job_over_one_connection(api: Api) -> None:
    claims = [api.run() for _ in range(3)]
    seen: list[list[str]] = [[] for _ in range(30)]

    def watch(index: int) -> None:
        with stream(api, claims[index % 3].job_id) as events:
            for one in events.events():
                seen[index].append(one.kind)

    clients = [threading.Thread(target=watch, args=(index,)) for index in range(len(seen))]
    for client in clients:
        client.start()
    wait_until(lambda: all(seen), "the snapshots")
    pattern = re.compile(rf"aijobs:news:({'|'.join(claim.job_id for claim in claims)})")
    channels = [name.decode() for name in api.command("PUBSUB CHANNELS", "aijobs:news:*")]
    assert sum(bool(pattern.fullmatch(name)) for name in channels) == 3
    assert sum(int(one["sub"]) >= 3 for one in api.command("CLIENT LIST", "TYPE", "pubsub")) == 1
    for claim in claims:
        api.succeed(claim)
    for client in clients:
        client.join()
    assert seen == [["job.snapshot", "job.completed"]] * len(seen)


def test_events_are_read_once_however_many_follow(api: Api) -> None:
    claim = api.run()
    clients, steps = 20, 10
    seen: list[list[str]] = [[] for _ in range(clients)]

    def follow(index: int) -> None:
        with stream(api, claim.job_id) as events:
            for one in events.events():
                seen[index].append(one.kind)

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(seen), "the snapshots")
    before = reads(api)
    for step in range(steps):
        api.report(claim, step / steps)
        wait_until(lambda: min(map(len, seen)) == step + 2, "the event")  # noqa: B023
    # For each event a reading, and perhaps one more that finds nothing.
    assert steps <= reads(api) - before <= 2 * steps
    api.succeed(claim)
    for thread in threads:
        thread.join()
    assert seen == [["job.snapshot", *["job.progress"] * steps, "job.completed"]] * clients


def reads(api: Api) -> int:
    """How often events were read from the store."""
    return int(api.command("INFO", "commandstats")["cmdstat_xrange"]["calls"])


def test_the_end_of_an_earlier_run_is_no_end(api: Api) -> None:
    claim = api.run()
    with stream(api, claim.job_id) as events:
        (snapshot,) = events.take(1)
    api.fail(claim)
    store = api.runtime.store
    store.run(store.create(NewJob(claim.job_id, "contract.embed"), reopen=True))
    again = api.start(claim.job_id)
    with stream(api, claim.job_id, snapshot.id) as events:
        told = [(one.kind, one.data["status"]) for one in events.take(2)]
        assert told == [("job.status", "failed"), ("job.status", "queued")]
        assert [one.kind for one in events.take(2)] == ["job.attempt", "job.status"]
        api.succeed(again)
        (completed,) = events.events()
    assert completed.data["status"] == "success"
    ends = [one.id for one in whole(api, claim.job_id, snapshot.id) if one.kind == "job.completed"]
    assert ends == [completed.id]


def test_an_unknown_job_has_no_stream(api: Api) -> None:
    assert_problem(api.get(f"/{uuid.uuid4()}/events"), 404, "job-not-found")
