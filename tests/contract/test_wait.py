"""`Prefer: wait=N` (RFC 7240): held until there is something to tell, and no longer than asked for."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request

from aijobs import setup
from aijobs.embedded import EmbeddedServer, start_server
from aijobs.http import job_router
from aijobs.http.waiting import seconds_to_wait
from tests.helpers import frozen, wait_until

from .conftest import DEADLINE_SECONDS, Api, assert_problem, make_celery, serving
from .processes import PATIENCE, api_process

#: Longer than anything here takes, so that an answer has not waited for it.
LONG = {"Prefer": "wait=25"}
SHORT = {"Prefer": "wait=1"}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


class Held:
    """A request that the API holds, once this is made."""

    def __init__(self, api: Api, pool: ThreadPoolExecutor, job_id: str, headers: dict[str, str] | None = None) -> None:
        before = listeners(api, job_id)
        self.began = time.monotonic()
        self._answer: Future[httpx.Response] = pool.submit(api.get, f"/{job_id}", headers={**LONG, **(headers or {})})
        wait_until(lambda: self._answer.done() or listeners(api, job_id) > before, "the wait")
        assert not self._answer.done()

    def answer(self) -> httpx.Response:
        """Its answer, for which it did not wait until its time was up."""
        answer = self._answer.result(DEADLINE_SECONDS)
        assert time.monotonic() - self.began < 24
        return answer


def listeners(api: Api, job_id: str) -> int:
    """1 while a request waits for news of the job."""
    return int(api.command("PUBSUB", "NUMSUB", f"aijobs:news:{job_id}")[1])


def newest(api: Api) -> str:
    return str(api.get("", params={"limit": 1}).json()["jobs"][0]["job_id"])


def submitted_after(api: Api, before: str) -> str:
    """The id of the job whose submission waits for its end."""
    wait_until(lambda: newest(api) != before, "the submission")
    job_id = newest(api)
    wait_until(lambda: listeners(api, job_id), "the wait")
    return job_id


class TestGet:
    def test_it_answers_when_the_job_has_changed(self, api: Api, pool: ThreadPoolExecutor) -> None:
        claim = api.run()
        held = Held(api, pool, claim.job_id)
        api.report(claim, 0.5)
        answer = held.answer()
        assert (answer.status_code, answer.json()["progress"]) == (200, 0.5)
        assert answer.headers["preference-applied"] == "wait=25"
        held = Held(api, pool, claim.job_id, {"If-None-Match": answer.headers["etag"]})
        api.succeed(claim, 7)
        assert held.answer().json()["result"] == 7

    def test_nothing_happens(self, api: Api) -> None:
        claim = api.run()
        began = time.monotonic()
        answer = api.get(f"/{claim.job_id}", headers=SHORT)
        assert time.monotonic() - began >= 0.99
        assert (answer.status_code, answer.json()["status"]) == (200, "running")
        known = {"If-None-Match": answer.headers["etag"]}
        unchanged = api.get(f"/{claim.job_id}", headers={**SHORT, **known})
        assert time.monotonic() - began >= 1.99
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["preference-applied"] == "wait=1"

    def test_a_client_that_has_missed_something_hears_it_at_once(self, api: Api) -> None:
        claim = api.run()
        tag = api.get(f"/{claim.job_id}").headers["etag"]
        api.report(claim, 0.5)
        began = time.monotonic()
        assert api.get(f"/{claim.job_id}", headers={**LONG, "If-None-Match": tag}).json()["progress"] == 0.5
        assert time.monotonic() - began < 24

    def test_a_finished_job_is_not_waited_for(self, api: Api) -> None:
        claim = api.run()
        api.succeed(claim)
        began = time.monotonic()
        answer = api.get(f"/{claim.job_id}", headers=LONG)
        known = api.get(f"/{claim.job_id}", headers={**LONG, "If-None-Match": answer.headers["etag"]})
        assert time.monotonic() - began < 24
        assert (answer.status_code, known.status_code) == (200, 304)

    def test_another_place_in_the_queue_is_no_news(self, api: Api, pool: ThreadPoolExecutor) -> None:
        ahead, job_id = api.queue(), api.queue()
        place = api.get(f"/{job_id}").json()["queue_position"]
        held = Held(api, pool, job_id, {"If-None-Match": api.get(f"/{job_id}").headers["etag"]})
        assert api.client.delete(f"/jobs/{ahead}").status_code == 200
        moved = api.get(f"/{job_id}")
        assert moved.json()["queue_position"] == place - 1
        again = pool.submit(api.get, f"/{job_id}", headers={**LONG, "If-None-Match": moved.headers["etag"]})
        api.start(job_id)
        assert held.answer().json()["status"] == again.result(DEADLINE_SECONDS).json()["status"] == "running"

    def test_an_unknown_job(self, api: Api) -> None:
        assert_problem(api.get("/no-such-job", headers=LONG), 404, "job-not-found")

    def test_many_wait_over_one_connection(self, api: Api, pool: ThreadPoolExecutor) -> None:
        claims = [api.run() for _ in range(5)]
        held = [Held(api, pool, claim.job_id) for claim in claims]
        more = [pool.submit(api.get, f"/{claim.job_id}", headers=LONG) for claim in claims for _ in range(8)]
        assert len(api.command("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) == 1
        for claim in claims:
            api.succeed(claim)
        assert {one.answer().json()["status"] for one in held} == {"success"}
        assert {one.result(DEADLINE_SECONDS).json()["status"] for one in more} == {"success"}
        wait_until(lambda: all(listeners(api, claim.job_id) == 0 for claim in claims), "the end of listening")

    def test_a_client_that_leaves_is_not_waited_for(self, api: Api) -> None:
        claim = api.run()
        with asked(api, f"GET /jobs/{claim.job_id}", b""):
            wait_until(lambda: listeners(api, claim.job_id), "the wait")
        wait_until(lambda: listeners(api, claim.job_id) == 0, "the end of the wait")


class TestPost:
    def test_the_end_is_the_answer(self, api: Api, pool: ThreadPoolExecutor) -> None:
        (answer,) = self.wait_for(api, pool, [LONG])
        assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (200, "success", "done")
        assert answer.headers["location"] == answer.json()["status_url"] == answer.json()["urls"]["self"]
        assert answer.headers["preference-applied"] == "wait=25"
        assert "retry-after" not in answer.headers

    def test_it_is_not_done_in_time(self, api: Api) -> None:
        answer = api.submit(headers=SHORT)
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert "preference-applied" not in answer.headers
        assert api.job(answer.json()["job_id"]).status == "queued"

    def test_who_submits_it_again_waits_as_well(self, api: Api, pool: ThreadPoolExecutor) -> None:
        first, again = self.wait_for(api, pool, [{**LONG, "Idempotency-Key": "wait-1"}] * 2)
        assert (first.status_code, again.status_code) == (200, 200)
        assert first.json()["job_id"] == again.json()["job_id"]
        assert ["idempotency-replayed" in one.headers for one in (first, again)].count(True) == 1
        late = api.submit(headers={**LONG, "Idempotency-Key": "wait-1"})
        assert (late.status_code, late.json()["result"]) == (200, "done")
        assert api.submit(headers={"Idempotency-Key": "wait-1"}).status_code == 202

    def test_a_client_that_leaves_loses_nothing(self, api: Api) -> None:
        before = newest(api)
        with asked(api, "POST /jobs/embed", b'{"texts": ["a"]}'):
            job_id = submitted_after(api, before)
        wait_until(lambda: listeners(api, job_id) == 0, "the end of the wait")
        assert api.job(job_id).status == "queued"
        assert newest(api) == job_id

    def wait_for(
        self, api: Api, pool: ThreadPoolExecutor, requests: Sequence[dict[str, str]]
    ) -> Sequence[httpx.Response]:
        """The answers of requests for one job, which ends while they wait."""
        before = newest(api)
        answers = [pool.submit(api.submit, headers=headers) for headers in requests]
        job_id = submitted_after(api, before)
        claim = api.start(job_id)
        api.report(claim, 0.5)
        assert not any(answer.done() for answer in answers)
        api.succeed(claim, "done")
        return [answer.result(DEADLINE_SECONDS) for answer in answers]


@contextmanager
def asked(api: Api, what: str, body: bytes) -> Iterator[socket.socket]:
    """A client that has sent a request that waits; afterwards it has left."""
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port or 80)) as client:
        head = f"{what} HTTP/1.1\r\nhost: test\r\nprefer: wait=25\r\ncontent-type: application/json\r\n"
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        yield client


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with start_server(tmp_path, use_environment=False) as server:
        yield server


@pytest.mark.parametrize("how", ["down", "hanging"])
def test_the_store_is_lost_meanwhile(fragile: EmbeddedServer, pool: ThreadPoolExecutor, how: str) -> None:
    app = make_celery(fragile.url)
    with serving(setup(app), job_router(app)) as api:
        claim = api.run()
        submitted = pool.submit(api.submit, headers=LONG)
        job_id = submitted_after(api, claim.job_id)
        held = Held(api, pool, claim.job_id)
        if how == "down":
            fragile.stop()
            lost = [held.answer(), submitted.result(DEADLINE_SECONDS)]
        else:
            with frozen(fragile):
                lost = [held.answer(), submitted.result(DEADLINE_SECONDS)]
    assert_problem(lost[0], 503, "store-unavailable")
    # It was submitted, and that is what its client has to know.
    assert (lost[1].status_code, lost[1].json()["job_id"]) == (202, job_id)


def test_sigterm_ends_the_wait(
    server: EmbeddedServer, databases: Iterator[int], tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    url = server.url.removesuffix("0") + str(next(databases))
    app = make_celery(url)
    with (
        api_process({"TEST_URL": url, **PATIENCE}, tmp_path / "api.log") as (address, running),
        httpx.Client(base_url=address, timeout=DEADLINE_SECONDS) as client,
    ):
        api = Api(address, setup(app), client)
        held = Held(api, pool, api.queue(task="count", body={"items": 1}))
        running.send_signal(signal.SIGTERM)
        assert (held.answer().status_code, held.answer().json()["status"]) == (200, "queued")
        assert running.wait(DEADLINE_SECONDS) in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "api.log").read_text()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (["wait=10"], 10),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["wait=10; x=y"], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (['foo="a, wait=3", wait=10'], 10),
        (["wait=10, wait=3"], 10),
        (["wait=10", "wait=3"], 10),
        (["wait=0"], 0),
        (["wait=007"], 7),
        (["wait=30"], 30),
        (["wait=31"], 30),
        ([f"wait={'9' * 500}"], 30),
        ([], None),
        ([""], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=1.5"], None),
        (["wait=-1"], None),
        (["wait=ten"], None),
        (['wait="10'], None),
        (["wait=x, wait=10"], None),
        (["await=10"], None),
        (["handling=lenient; wait=10"], None),
        (["wait=\N{ARABIC-INDIC DIGIT ONE}"], None),
        ([",,;=\",\\\\=wait=10"], None),
        (['"' * 60_000], None),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_how_a_preference_is_read(given: Sequence[str], seconds: int | None) -> None:
    headers: list[Any] = [(b"prefer", one.encode("utf-8")) for one in given]
    assert seconds_to_wait(Request({"type": "http", "headers": headers})) == seconds
