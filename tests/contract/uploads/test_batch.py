"""Several files at once, a job for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.conftest import Api, assert_problem

from .forms import (
    FILE_BYTES,
    PDF,
    UPLOAD_FILES,
    Part,
    kept,
    multipart,
    part,
    pdf,
    post,
    send,
)


def test_a_job_for_each_file(api: Api) -> None:
    files = [pdf(filename=f"{name}.pdf") for name in "abc"]
    response = post(api, "read/batch", *files, data={"title": "t"})
    answer = response.json()
    assert (response.status_code, answer["accepted"], answer["refused"]) == (202, 3, 0)
    for job, name in zip(answer["jobs"], "abc", strict=True):
        kwargs = json.loads(api.job(job["job_id"]).arguments_json or "")[1]
        assert (kwargs["title"], kwargs["document"]["name"]) == ("t", f"{name}.pdf")
        assert api.client.get(job["status_url"]).status_code == 200
        assert job["job_id"] in kwargs["document"]["key"]


def test_each_file_is_accepted_or_refused_on_its_own(api: Api) -> None:
    big: Part = ("document", ("big.txt", b"x" * (FILE_BYTES + 5)))
    answer = post(api, "read/batch", big, pdf(), pdf(content=b"no pdf")).json()
    assert (answer["accepted"], answer["refused"]) == (1, 2)
    names = [one.get("type", "job").rpartition(":")[2] for one in answer["jobs"]]
    assert names == ["file-too-large", "job", "unsupported-file"]


def test_a_batch_of_which_all_are_refused(api: Api) -> None:
    response = post(api, "read/batch", pdf(content=b"no"), pdf(), data={"pages": "many"})
    members = assert_problem(response, 422, "invalid-request")
    assert (members["accepted"], members["refused"]) == (0, 2)
    assert [one["status"] for one in members["jobs"]] == [415, 422]


def test_a_batch_without_files(api: Api) -> None:
    assert_problem(send(api, "read/batch", multipart(part('name="title"', b"t"))), 422, "invalid-request")


def test_a_batch_with_too_many_files(api: Api) -> None:
    files = [pdf(filename=f"{n}.pdf") for n in range(UPLOAD_FILES + 1)]
    assert_problem(post(api, "read/batch", *files), 413, "body-too-large")


def test_a_batch_again_gives_the_same_jobs(api: Api, folder: Path) -> None:
    headers = {"Idempotency-Key": "batch-1"}
    files = [pdf(filename="a.pdf"), pdf(filename="b.pdf", content=PDF + b"b")]
    first = post(api, "read/batch", *files, headers=headers).json()
    count = len(kept(folder))
    again = post(api, "read/batch", *files, headers=headers).json()
    assert [one["job_id"] for one in again["jobs"]] == [one["job_id"] for one in first["jobs"]]
    changed = post(api, "read/batch", files[0], pdf(filename="c.pdf", content=PDF + b"c"), headers=headers).json()
    assert [one["status"] for one in changed["jobs"]] == ["queued", 422]
    assert len(kept(folder)) == count


@pytest.mark.parametrize("task", ["merge", "small/batch/x", "unknown"])
def test_only_tasks_with_one_file_have_a_batch(api: Api, task: str) -> None:
    assert post(api, f"{task}/batch", pdf()).status_code in (404, 405)
