"""What jobs give out while they run: asked for, followed, and gone on with, nothing missing and nothing twice."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from celery import Celery
from fastapi import Header

from aijobs import setup
from aijobs.embedded import EmbeddedServer
from aijobs.http import job_router
from aijobs.job import ErrorCode, EventType, Job, JobStatus
from aijobs.runtime import Runtime
from aijobs.settings import Settings
from aijobs.store.values import Failure, NewJob, OutputEntry, OutputWrite

from .conftest import Api, Event, assert_problem, make_celery, serving, stream, whole
from .streaming import Attempt, Reader, read, retried

HOSTILE = "a\n\nevent: job.completed\r\ndata: {}\x85\u2028\u2029\x00 \\ud83d 😀 </script>"


def begin(api: Api, **options: Any) -> Attempt:
    return Attempt(api, api.run(**options))


def output(api: Api, job_id: str, **options: Any) -> dict[str, Any]:
    response = api.get(f"/{job_id}/output", **options)
    assert response.status_code == 200, response.text
    members: dict[str, Any] = response.json()
    return members


class TestAsked:
    def test_pieces_are_in_order_and_texts_are_joined(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("Once ", "upon ", {"source": 1}, ["a", None])
        attempt.emit("a ", "time")
        assert output(api, attempt.claim.job_id) == {
            "job_id": attempt.claim.job_id,
            "seq": api.job(attempt.claim.job_id).seq,
            "attempt": 1,
            "pieces": [
                {"text": "Once upon "},
                {"data": {"source": 1}},
                {"data": ["a", None]},
                {"text": "a time"},
            ],
            "truncated": False,
            "text": "Once upon a time",
            "finished": False,
        }

    def test_a_job_that_gives_nothing_out(self, api: Api) -> None:
        job_id = api.queue()
        nothing = {"pieces": [], "text": "", "truncated": False, "finished": False}
        assert output(api, job_id) == {"job_id": job_id, "seq": 1, "attempt": 0, **nothing}
        api.report(api.start(job_id), 0.5)
        assert output(api, job_id) == {"job_id": job_id, "seq": 3, "attempt": 1, **nothing}

    def test_it_stays_when_the_job_has_ended(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("all")
        api.succeed(attempt.claim, "all")
        found = output(api, attempt.claim.job_id)
        assert (found["text"], found["finished"]) == ("all", True)
        assert found["seq"] == api.job(attempt.claim.job_id).seq

    def test_the_job_says_where_it_is_and_does_not_hold_it(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("text")
        before = list_reads(api)
        job = api.get(f"/{attempt.claim.job_id}").json()
        assert "output" not in job
        assert list_reads(api) == before
        assert output(api, attempt.claim.job_id)["text"] == "text"
        assert api.client.get(job["urls"]["output"]).json()["text"] == "text"
        assert list_reads(api) == before + 2

    def test_an_unchanged_output_is_304_and_not_read(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("one ")
        first = api.get(f"/{attempt.claim.job_id}/output")
        assert (first.headers["cache-control"], first.headers["retry-after"]) == ("private, no-cache", "1")
        known = {"If-None-Match": first.headers["etag"]}
        before = list_reads(api)
        for tags in (known, {"If-None-Match": f'"x", W/{first.headers["etag"]}'}, {"If-None-Match": "*"}):
            unchanged = api.get(f"/{attempt.claim.job_id}/output", headers=tags)
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged.headers["etag"] == first.headers["etag"]
        assert list_reads(api) == before
        attempt.emit("two")
        second = api.get(f"/{attempt.claim.job_id}/output", headers=known)
        assert (second.status_code, second.json()["text"]) == (200, "one two")
        assert second.headers["etag"] != first.headers["etag"]
        api.succeed(attempt.claim)
        third = api.get(f"/{attempt.claim.job_id}/output", headers={"If-None-Match": second.headers["etag"]})
        assert (third.status_code, third.json()["finished"]) == (200, True)
        assert "retry-after" not in third.headers

    def test_head_is_get_without_a_body(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("text")
        url = f"/jobs/{attempt.claim.job_id}/output"
        got, head = api.client.get(url), api.client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("etag", "content-length", "content-type", "cache-control"):
            assert head.headers[name] == got.headers[name]
        assert api.client.head(url, headers={"If-None-Match": got.headers["etag"]}).status_code == 304

    def test_other_methods_are_refused(self, api: Api) -> None:
        for method in ("POST", "PUT", "DELETE"):
            response = api.client.request(method, f"/jobs/{api.queue()}/output")
            assert_problem(response, 405, "method-not-allowed")
            assert response.headers["allow"] == "GET, HEAD"

    @pytest.mark.parametrize(
        "job_id",
        [
            *("unknown", "%00", "%0a", "x" * 300, "*", "a%3Ab", "%F0%9F%98%80", "%ff", "..%2F..", "events"),
            *("%20", "{id}", "'", "a%0d%0ab", "%E2%80%AE", "output"),
        ],
    )
    def test_hostile_ids(self, api: Api, job_id: str) -> None:
        for method in ("GET", "HEAD"):
            assert api.client.request(method, f"/jobs/{job_id}/output").status_code == 404
        assert api.get(f"/{job_id}/output").json()["title"] in ("Job not found", "Route not found", "Batch not found")

    def test_a_job_that_was_deleted_has_none(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("text")
        api.succeed(attempt.claim)
        assert api.runtime.store.run(api.runtime.store.delete(attempt.claim.job_id))
        assert_problem(api.get(f"/{attempt.claim.job_id}/output"), 404, "job-not-found")
        assert api.command("KEYS", f"*{attempt.claim.job_id}*") == []

    def test_whatever_a_text_holds_arrives(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit(HOSTILE, {HOSTILE: [HOSTILE, 1e300, 2**60, True]})
        expected: list[dict[str, Any]] = [{"text": HOSTILE}, {"data": {HOSTILE: [HOSTILE, 1e300, 2**60, True]}}]
        assert output(api, attempt.claim.job_id)["pieces"] == expected
        with stream(api, attempt.claim.job_id) as events:
            (snapshot,) = events.take(1)
        assert snapshot.data["output"]["pieces"] == expected
        (text, data) = whole_until(api, attempt.claim.job_id, "job.output", 2)
        assert (text.data["text"], data.data["data"]) == (HOSTILE, expected[1]["data"])


def list_reads(api: Api) -> int:
    """How often output was read from the store."""
    return int(api.command("INFO", "commandstats").get("cmdstat_lrange", {"calls": 0})["calls"])


def whole_until(api: Api, job_id: str, kind: str, count: int) -> list[Event]:
    """The first events of a kind in a job's history."""
    found: list[Event] = []
    with stream(api, job_id, 0) as events:
        for one in events.events():
            found += [one] if one.kind == kind else []
            if len(found) == count:
                break
    return found


class TestFollowed:
    def test_each_piece_is_an_event(self, api: Api) -> None:
        attempt = begin(api)
        job_id = attempt.claim.job_id
        with stream(api, job_id) as events:
            (snapshot,) = events.take(1)
            attempt.emit("Once ", {"source": 1})
            attempt.log("half", pages=3)
            text, data, log = events.take(3)
            api.succeed(attempt.claim)
            (completed,) = events.events()
        assert snapshot.data["output"] is None
        assert (text.kind, data.kind, log.kind) == ("job.output", "job.output", "job.log")
        assert text.data == {"seq": text.id, "job_id": job_id, "attempt": 1, "text": "Once "}
        assert data.data == {"seq": data.id, "job_id": job_id, "attempt": 1, "data": {"source": 1}}
        said = {"level": "info", "message": "half", "fields": {"pages": 3}}
        assert log.data == {"seq": log.id, "job_id": job_id, "attempt": 1, **said}
        assert [one.id for one in (text, data, log, completed)] == list(range(snapshot.id + 1, snapshot.id + 5))
        assert "output" not in completed.data

    def test_a_connection_in_the_middle_shows_all_so_far_and_goes_on(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("one ", {"n": 2})
        with stream(api, attempt.claim.job_id) as events:
            (snapshot,) = events.take(1)
            attempt.emit("three")
            (more,) = events.take(1)
        pieces = [{"text": "one "}, {"data": {"n": 2}}]
        assert snapshot.data["output"] == {"attempt": 1, "pieces": pieces, "truncated": False}
        assert (more.id, more.data["text"]) == (snapshot.id + 1, "three")

    def test_a_finished_job_shows_all_of_it_and_its_end(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("all")
        api.succeed(attempt.claim, "all")
        snapshot, completed = whole(api, attempt.claim.job_id)
        assert snapshot.data["output"]["pieces"] == [{"text": "all"}]
        assert (completed.kind, completed.id) == ("job.completed", snapshot.id + 1)

    def test_what_was_asked_for_goes_on_with_events(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("one ")
        known = output(api, attempt.claim.job_id)
        attempt.emit("two")
        api.succeed(attempt.claim)
        later = whole(api, attempt.claim.job_id, starting_after=known["seq"])
        assert known["text"] + "".join(one.data.get("text", "") for one in later) == "one two"

    def test_resuming_is_exact_wherever_the_client_was_cut_off(self, api: Api) -> None:
        attempt = begin(api)
        for number in range(150):
            attempt.emit(f"{number} ", *([{"n": number}] if number % 7 == 0 else []))
        attempt = attempt.retry()
        for number in range(150):
            attempt.emit(f"again {number} ")
        api.succeed(attempt.claim)
        job_id = attempt.claim.job_id
        everything, found = whole(api, job_id, 0), output(api, job_id)
        assert [one.id for one in everything] == list(range(1, len(everything) + 1))
        assert found["text"] == "".join(f"again {number} " for number in range(150))
        for cut in sorted(random.Random(7).sample(range(len(everything)), 25)):
            rest = whole(api, job_id, cut)
            assert rest == everything[cut:]
            assert read(everything[:cut] + rest).pieces == found["pieces"], cut

    def test_clients_that_come_and_go_while_it_is_given_out(self, api: Api) -> None:
        attempt, tokens = begin(api), [f"{number} " for number in range(300)]
        job_id = attempt.claim.job_id

        def work() -> None:
            for token in tokens:
                attempt.emit(token)
            api.succeed(attempt.claim)

        worker = threading.Thread(target=work)
        worker.start()
        reader, chance = Reader(), random.Random(11)
        while not reader.over:
            # Now and then a page is loaded anew, and knows nothing.
            last = None if chance.random() < 0.3 else reader.last
            with stream(api, job_id, last) as events:
                for one in events.events():
                    reader.take(one.kind, one.data)
                    assert reader.text == "".join(tokens)[: len(reader.text)]
                    if chance.random() < 0.1:
                        break
        worker.join()
        assert reader.text == "".join(tokens) == output(api, job_id)["text"]

    def test_a_trimmed_history_is_a_gap_with_all_output(self, api: Api) -> None:
        attempt = begin(api)
        tokens = [f"{number} " for number in range(60)]
        for token in tokens[:50]:
            attempt.emit(token)
        job_id = attempt.claim.job_id
        history = f"aijobs:job:{job_id}:events"
        early = whole_until(api, job_id, "job.output", 5)
        api.command("XTRIM", history, "MAXLEN", 5)
        with stream(api, job_id, early[-1].id) as events:
            (gap,) = events.take(1)
            for token in tokens[50:]:
                attempt.emit(token)
            later = events.take(10)
        assert (gap.kind, gap.id) == ("stream.gap", later[0].id - 1)
        assert read([*early, gap, *later]).text == "".join(tokens)
        api.command("DEL", history)
        api.succeed(attempt.claim)
        gap, completed = whole(api, job_id, early[-1].id)
        assert read([*early, gap, completed]).text == "".join(tokens)

    def test_a_new_attempt_makes_the_old_ones_output_void(self, api: Api) -> None:
        first = begin(api)
        job_id = first.claim.job_id
        with stream(api, job_id) as events:
            seen = events.take(1)
            first.emit("from the first")
            second = first.retry()
            # The output of an attempt that failed is there until the next one begins.
            second.emit("from ")
            seen += events.take(5)
            with stream(api, job_id) as others:
                late = others.take(1)
                second.emit("the second")
                late += others.take(1)
            seen += events.take(1)
        kinds = [one.kind for one in seen[1:]]
        assert kinds == ["job.output", "job.status", "job.attempt", "job.status", "job.output", "job.output"]
        assert read(seen).text == read(late).text == "from the second"
        found = output(api, job_id)
        assert (found["attempt"], found["text"]) == (2, "from the second")
        assert late[0].data["output"]["attempt"] == 2

    def test_a_failed_attempt_is_shown_until_the_next_one_begins(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("half")
        store, job_id = api.runtime.store, attempt.claim.job_id
        assert store.run(store.requeue(attempt.claim, Failure(ErrorCode.EXCEPTION, "no", ""))).accepted
        found = output(api, job_id)
        assert (found["attempt"], found["text"]) == (1, "half")
        retried(api, job_id)
        found = output(api, job_id)
        assert (found["attempt"], found["text"]) == (2, "")

    def test_a_new_run_begins_without_output(self, api: Api) -> None:
        attempt = begin(api)
        attempt.emit("of the first run")
        api.fail(attempt.claim)
        job_id, store = attempt.claim.job_id, api.runtime.store
        seen = whole(api, job_id)
        assert read(seen).text == "of the first run"
        store.run(store.create(NewJob(job_id, "contract.embed"), reopen=True))
        assert output(api, job_id)["text"] == ""
        again = Attempt(api, api.start(job_id))
        again.emit("of the second")
        api.succeed(again.claim)
        assert read([seen[0], *whole(api, job_id, seen[0].id)]).text == "of the second"
        assert read(whole(api, job_id)).text == "of the second"

    def test_streams_of_batches_leave_it_out(self, api: Api) -> None:
        body = {"items": [{"custom_id": "a", "task": "embed", "input": {"texts": []}}]}
        batch = api.client.post("/jobs/batches", json=body).json()
        attempt = Attempt(api, api.start(batch["items"][0]["job_id"]))
        with api.client.stream("GET", batch["urls"]["events"], params={"starting_after": 0}) as response:
            attempt.emit("text")
            api.succeed(attempt.claim)
            text = response.read().decode()
        assert "job.output" not in text
        assert "batch.completed" in text


@pytest.fixture(scope="module")
def frugal(server: EmbeddedServer, databases: Iterator[int]) -> Iterator[Api]:
    """An API over a store that keeps as little output as it can."""
    app = make_celery(server.url.removesuffix("0") + str(next(databases)))
    runtime = setup(app)
    runtime.settings = Settings.from_env({"AIJOBS_OUTPUT_BYTES": "65536"})
    with serving(runtime, job_router(app)) as api:
        yield api


def test_the_oldest_output_goes_first(frugal: Api) -> None:
    attempt = begin(frugal)
    tokens = [f"{number:07} " for number in range(20_000)]
    with stream(frugal, attempt.claim.job_id) as events:
        seen = events.take(1)
        for start in range(0, len(tokens), 500):
            attempt.emit("".join(tokens[start : start + 500]))
            seen += events.take(1)
        attempt.emit({"all": len(tokens)})
        seen += events.take(1)
    # Who was there from the beginning has all of it.
    assert read(seen).text == "".join(tokens)
    found = output(frugal, attempt.claim.job_id)
    assert (found["truncated"], found["pieces"][-1]) == (True, {"data": {"all": 20_000}})
    assert "".join(tokens).endswith(found["text"])
    assert 32_768 < len(found["text"]) <= 65_536
    with stream(frugal, attempt.claim.job_id) as events:
        (snapshot,) = events.take(1)
    assert snapshot.data["output"]["truncated"] is True
    assert read([snapshot]).text == found["text"]


ANN, BOB, EVE = ({"X-User": name} for name in ("ann", "bob", "eve"))


@pytest.fixture(scope="module")
def private(celery_app: Celery, runtime: Runtime) -> Iterator[Api]:
    """An API where jobs belong to somebody, and Eve may not read even her own."""

    def owner(x_user: Annotated[str, Header()]) -> str:
        return x_user

    def authorize(action: str, owner: str | None, job: Job | None) -> bool:
        return action == "submit" or owner != "eve"

    with serving(runtime, job_router(celery_app, owner=owner, authorize=authorize)) as api:
        yield api


def test_another_owners_output_is_unknown(private: Api) -> None:
    attempt = begin(private, headers=ANN)
    attempt.emit("a secret of Ann's")
    path = f"/{attempt.claim.job_id}"
    own = private.get(f"{path}/output", headers=ANN)
    assert own.json()["text"] == "a secret of Ann's"
    before = list_reads(private)
    for tags in ({}, {"If-None-Match": own.headers["etag"]}, {"If-None-Match": "*"}):
        foreign = private.get(f"{path}/output", headers={**BOB, **tags})
        assert_problem(foreign, 404, "job-not-found")
        assert foreign.content == private.get(f"/{uuid.uuid4()}/output", headers=BOB).content
    assert_problem(private.get(f"{path}/events", headers=BOB), 404, "job-not-found")
    assert list_reads(private) == before


def test_who_may_not_read_a_job_may_not_read_its_output(private: Api) -> None:
    attempt = begin(private, headers=EVE)
    attempt.emit("text")
    assert_problem(private.get(f"/{attempt.claim.job_id}/output", headers=EVE), 404, "job-not-found")


def test_what_is_written_with_the_end_is_there(api: Api) -> None:
    attempt = begin(api)
    attempt.emit("half")
    store, rest = api.runtime.store, [OutputEntry(EventType.OUTPUT, b'{"text":" a word"}')]
    api.client.delete(f"/jobs/{attempt.claim.job_id}")
    end = store.finish(attempt.claim, JobStatus.REVOKED, output=OutputWrite(attempt.said, rest))
    assert store.run(end).accepted
    assert output(api, attempt.claim.job_id)["text"] == "half a word"
    everything = whole(api, attempt.claim.job_id, 0)
    assert read(everything).text == read(whole(api, attempt.claim.job_id)).text == "half a word"
    assert [one.kind for one in everything][-2:] == ["job.output", "job.completed"]
