"""Output of real workers, in every pool: seen while the task runs, whole at its end, void after a lost attempt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aijobs import ErrorCode, EventType, JobStatus, Output, Piece, cancel
from tests.helpers import wait_until

from .conftest import Worker, running_worker, short_lease

WORDS_10 = "".join(f"{number} " for number in range(10))
WORDS_50 = "".join(f"{number} " for number in range(50))


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def worker(request: pytest.FixtureRequest, server_url: str, folder: Path) -> Iterator[Worker]:
    queue = f"output-{request.param}"
    with running_worker(
        "output_app", folder, short_lease(server_url), request.param, "-c", "2", "-Q", queue
    ) as running:
        yield running


def send(worker: Worker, task: str, *args: Any) -> str:
    return worker.send(task, *args, queue=f"output-{worker.pool}")


def output(worker: Worker, job_id: str) -> Output | None:
    found = worker.runtime.store.run(worker.runtime.store.output(job_id))
    assert found is not None
    return found[1]


def text(worker: Worker, job_id: str) -> str:
    found = output(worker, job_id)
    return "" if found is None else found.text


def told(worker: Worker, job_id: str) -> list[Any]:
    """What a client that follows the events has at last: a new attempt makes it begin anew."""
    pieces: list[Any] = []
    for event in worker.events(job_id):
        if event.type is EventType.ATTEMPT:
            pieces.clear()
        if event.type is EventType.OUTPUT:
            pieces.append(event.data.get("text", event.data.get("data")))
    return pieces


def test_a_stream_is_given_out_and_returned(worker: Worker) -> None:
    job_id = send(worker, "write", 2_000)
    job = worker.end(job_id)
    whole = "".join(f"{number} " for number in range(2_000))
    assert job.result == whole
    assert output(worker, job_id) == Output(1, (Piece(None, {"count": 2_000}), Piece(whole)))
    count, *texts = told(worker, job_id)
    assert (count, "".join(texts)) == ({"count": 2_000}, whole)
    assert len(texts) < 200, "tokens are coalesced"
    events = worker.events(job_id)
    (line,) = [event.data for event in events if event.type is EventType.LOG]
    assert line == {"attempt": 1, "level": "debug", "message": "begins", "fields": {"count": 2_000}}
    assert events[-1].type is EventType.COMPLETED


def test_the_last_token_is_seen_while_the_task_goes_on(worker: Worker, marker: str) -> None:
    job_id = send(worker, "write_and_wait", marker)
    # The task waits for this, so nothing but the interval brings the token here.
    worker.until(job_id, lambda job: text(worker, job_id).endswith("last"), "the last token")
    assert worker.job(job_id).status is JobStatus.RUNNING
    Path(f"{marker}.seen").touch()
    assert worker.end(job_id).status is JobStatus.SUCCESS


def test_a_retry_makes_the_first_output_void(worker: Worker) -> None:
    job_id = send(worker, "retry_midway")
    assert worker.end(job_id).result == 2
    expected = "".join(f"2.{number} " for number in range(50))
    assert output(worker, job_id) == Output(2, (Piece(expected),))
    assert "".join(told(worker, job_id)) == expected
    first = [event.data for event in worker.events(job_id) if event.type is EventType.OUTPUT]
    assert "".join(one["text"] for one in first if one["attempt"] == 1) == expected.replace("2.", "1.")


def test_what_waits_when_a_task_fails_is_there(worker: Worker) -> None:
    job_id = send(worker, "fail_midway")
    assert worker.end(job_id).status is JobStatus.FAILED
    assert text(worker, job_id) == WORDS_50
    assert [event.type for event in worker.events(job_id)][-2:] == [EventType.LOG, EventType.COMPLETED]


def test_what_waits_when_a_task_ends_itself_is_there(worker: Worker) -> None:
    job_id = send(worker, "ignore_midway")
    assert worker.code(worker.end(job_id)) is ErrorCode.REJECTED
    assert text(worker, job_id) == WORDS_50


def test_a_cancel_stops_a_stream_and_closes_it(worker: Worker, marker: str) -> None:
    job_id = send(worker, "endless", marker)
    worker.until(job_id, lambda job: bool(text(worker, job_id)), "the first token")
    cancel(worker.app, job_id)
    assert worker.end(job_id).status is JobStatus.REVOKED
    assert Path(f"{marker}.closed").exists()
    assert text(worker, job_id).endswith("on cleaned")


def test_helper_threads_speak_for_their_job(worker: Worker) -> None:
    job_id = send(worker, "speak_from_threads")
    assert worker.end(job_id).status is JobStatus.SUCCESS
    found = output(worker, job_id)
    assert found is not None
    for who in range(4):
        assert [piece.data["n"] for piece in found.pieces if piece.data["who"] == who] == list(range(200))


def test_nonsense_fails_the_job_and_says_why(worker: Worker) -> None:
    job_id = send(worker, "emit_nonsense")
    job = worker.end(job_id)
    assert job.error is not None
    assert job.error.message.startswith("TypeError: emit() takes text and what JSON can hold.")
    assert text(worker, job_id) == "x" * 10


def test_a_lost_process_makes_its_output_void(server_url: str, tmp_path: Path, marker: str) -> None:
    with running_worker("output_app", tmp_path, short_lease(server_url), "prefork", "-c", "1", "-Q", "dying") as worker:
        job_id = worker.send("die_midway", marker, queue="dying")
        worker.until(job_id, lambda job: text(worker, job_id) == WORDS_10, "the output of the first attempt")
        Path(f"{marker}.seen").touch()
        job = worker.end(job_id)
        assert (job.status, job.attempt, job.lost_deliveries) == (JobStatus.SUCCESS, 2, 1)
        expected = WORDS_10 + "0 1 2 "
        assert output(worker, job_id) == Output(2, (Piece(expected),))
        wait_until(lambda: "".join(told(worker, job_id)) == expected, "what a client has")
