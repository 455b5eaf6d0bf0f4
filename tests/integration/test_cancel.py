"""A cancel stops the job: whatever its code is doing, in which pool, and without harm to any other job."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from celery.contrib.testing.worker import start_worker

from aijobs import ErrorCode, EventType, Job, JobStatus, cancel
from aijobs.store.values import JobFilter
from tests.helpers import wait_until

from .conftest import Worker, running_worker, short_lease

GRACE_SECONDS = 0.5
UNFINISHED = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


@pytest.fixture(scope="module")
def patient(server_url: str, folder: Path) -> Iterator[Worker]:
    """Waits long before it ends a process, so that what stops must have heard."""
    more = short_lease(server_url, AIJOBS_CANCEL_GRACE_SECONDS="60")
    with running_worker("cancel_app", folder, more, "prefork", "-c", "2") as running:
        yield running


@pytest.fixture(scope="module")
def strict(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Soon ends a process; its queue is its own."""
    more = short_lease(server_url, AIJOBS_CANCEL_GRACE_SECONDS=str(GRACE_SECONDS))
    with running_worker(
        "cancel_app", tmp_path_factory.mktemp("strict"), more, "prefork", "-c", "2", "-Q", "strict"
    ) as running:
        yield running


def begun(marker: str) -> int:
    """The id of the process in which a task has begun."""
    file = Path(f"{marker}.began")
    return int(wait_until(lambda: file.read_text() if file.exists() else "", "the start"))


def cleaned(marker: str) -> bool:
    return Path(f"{marker}.cleaned").exists()


def assert_revoked(worker: Worker, job: Job) -> None:
    assert (job.status, worker.code(job), job.attempt) == (JobStatus.REVOKED, ErrorCode.CANCELLED, 1)
    assert sum(event.type is EventType.COMPLETED for event in worker.events(job.id)) == 1


def run_and_cancel(worker: Worker, task: str, marker: str, **options: str) -> Job:
    job_id = worker.send(task, marker, **options)
    begun(marker)
    cancel(worker.app, job_id)
    return worker.end(job_id)


@pytest.mark.parametrize("task", ["report", "spin", "doze", "swallow", "wrap", "retry_all", "update"])
def test_cancel_stops_a_task_and_spares_its_process(patient: Worker, marker: str, task: str) -> None:
    job = run_and_cancel(patient, task, marker)
    assert_revoked(patient, job)
    assert cleaned(marker)
    process = begun(marker)
    assert psutil.pid_exists(process)


def test_a_task_that_reports_while_it_cleans_up_is_not_stopped_again(patient: Worker, marker: str) -> None:
    job_id = patient.send("clean_with_reports", marker)
    patient.until(job_id, lambda job: job.progress_detail is not None, "a report")
    cancel(patient.app, job_id)
    assert_revoked(patient, patient.end(job_id))
    assert cleaned(marker)


def test_a_task_may_make_an_end_of_its_own(patient: Worker, marker: str) -> None:
    job = run_and_cancel(patient, "notice", marker)
    assert (job.status, job.result) == (JobStatus.SUCCESS, "stopped in time")


def test_call_that_does_not_return_is_ended(strict: Worker, tmp_path: Path) -> None:
    stuck, other = str(tmp_path / "stuck"), str(tmp_path / "other")
    job_id = strict.send("sink", stuck, queue="strict")
    neighbour = strict.send("short", 5, queue="strict")
    process = begun(stuck)
    cancel(strict.app, job_id)
    assert_revoked(strict, strict.end(job_id))
    wait_until(lambda: not psutil.pid_exists(process), "the end of the process")
    assert strict.end(neighbour).status is JobStatus.SUCCESS
    assert strict.job(neighbour).attempt == 1
    assert run_and_cancel(strict, "doze", other, queue="strict").status is JobStatus.REVOKED, "the pool is whole again"


def test_cleaning_up_has_the_grace(strict: Worker, marker: str) -> None:
    # It takes longer than the grace, but SIGTERM does not stop it either, and SIGKILL comes later.
    job = run_and_cancel(strict, "doze", marker, queue="strict")
    assert_revoked(strict, job)


def test_cancelled_member_of_a_chord(patient: Worker, marker: str) -> None:
    header = patient.module.send_chord(marker)
    begun(marker)
    member = next(child for child in header.parent.children if patient.job(child.id).task.endswith("doze"))
    cancel(patient.app, member.id)
    assert_revoked(patient, patient.end(member.id))
    assert patient.run("give", 3).status is JobStatus.SUCCESS


def test_cancelled_link_of_a_chain(patient: Worker, marker: str) -> None:
    first = patient.module.doze.si(marker) | patient.module.give.si(1)
    last = first.apply_async()
    begun(marker)
    cancel(patient.app, last.parent.id)
    assert_revoked(patient, patient.end(last.parent.id))
    record = patient.runtime.store.run(patient.runtime.store.get(last.id))
    assert record is None or record.status is not JobStatus.SUCCESS


def test_cancel_and_completion_at_once(patient: Worker) -> None:
    before = children(patient)
    chance = random.Random(7)
    store = patient.runtime.store
    job_ids = {patient.send("short", chance.uniform(0, 0.05)) for _ in range(300)}
    mine = JobFilter(task="cancel_app.short", statuses=UNFINISHED)
    with signalled(before):
        while page := [job for job in store.run(store.list(mine, 1_000)).jobs if job.id in job_ids]:
            for job in page:
                if job.status is JobStatus.RUNNING and job.cancel_requested_at is None and chance.random() < 0.5:
                    time.sleep(chance.uniform(0, 0.01))
                    cancel(patient.app, job.id)
    jobs = list(map(patient.job, job_ids))
    assert {job.status for job in jobs} == {JobStatus.SUCCESS, JobStatus.REVOKED}
    for job in jobs:
        assert sum(event.type is EventType.COMPLETED for event in patient.events(job.id)) == 1
        assert job.attempt == 1
    assert children(patient) == before, "the pool's processes are the same"


@contextlib.contextmanager
def signalled(processes: set[int]) -> Iterator[None]:
    """Nudges processes all the time: in a task, between tasks, writing an end, handling the nudge before."""
    ended = threading.Event()

    def nudge() -> None:
        while not ended.wait(random.uniform(0, 0.002)):
            for process in processes:
                os.kill(process, signal.SIGUSR2)

    thread = threading.Thread(target=nudge)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def children(worker: Worker) -> set[int]:
    return {child.pid for child in psutil.Process(worker.process.pid).children()}


@pytest.mark.parametrize("start_method", ["spawn"])
def test_processes_that_were_not_forked(server_url: str, tmp_path: Path, marker: str, start_method: str) -> None:
    more = short_lease(server_url, TEST_START_METHOD=start_method, AIJOBS_CANCEL_GRACE_SECONDS="60")
    with running_worker("cancel_app", tmp_path, more, "prefork", "-c", "1", "-Q", start_method) as worker:
        assert_revoked(worker, run_and_cancel(worker, "doze", marker, queue=start_method))
        assert cleaned(marker)


@pytest.mark.parametrize("task", ["report", "spin", "doze", "update"])
def test_solo(solo: Worker, marker: str, task: str) -> None:
    assert_revoked(solo, run_and_cancel(solo, task, marker, queue="solo"))
    assert cleaned(marker)


@pytest.fixture(scope="module")
def solo(server_url: str, folder: Path) -> Iterator[Worker]:
    with running_worker("cancel_app", folder, short_lease(server_url), "solo", "-Q", "solo") as running:
        yield running


@pytest.mark.parametrize("task", ["report", "update"])
def test_threads_are_asked_when_they_report(threads: Worker, marker: str, task: str) -> None:
    assert_revoked(threads, run_and_cancel(threads, task, marker, queue="threads"))
    assert cleaned(marker)


@pytest.fixture(scope="module")
def threads(server_url: str, folder: Path) -> Iterator[Worker]:
    with running_worker(
        "cancel_app", folder, short_lease(server_url), "threads", "-c", "2", "-Q", "threads"
    ) as running:
        yield running


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """Celery sets the level of all logs."""
    level = logging.root.level
    try:
        yield
    finally:
        logging.root.setLevel(level)


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_worker_in_a_thread_of_another_program(patient: Worker, marker: str, pool: str) -> None:
    # The signal would end this process.
    with (
        logging_as_it_was(),
        start_worker(patient.app, pool=pool, queues=["embedded"], perform_ping_check=False, shutdown_timeout=30),
    ):
        assert_revoked(patient, run_and_cancel(patient, "report", marker, queue="embedded"))
    assert cleaned(marker)


def test_how_long_it_takes(patient: Worker, tmp_path: Path) -> None:
    took = []
    for number in range(20):
        marker = str(tmp_path / str(number))
        job_id = patient.send("notice", marker)
        begun(marker)
        time.sleep(random.uniform(0, 0.5))
        asked = time.monotonic()
        cancel(patient.app, job_id)
        patient.end(job_id)
        took.append(time.monotonic() - asked)
    print(f"median {statistics.median(took):.2f} s, worst {max(took):.2f} s")
    assert statistics.median(took) < 1
