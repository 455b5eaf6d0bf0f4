"""Clients that go away, lie about lengths, or may not come in."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from aijobs.http import job_router
from aijobs.runtime import Runtime
from tests.contract.conftest import Api, assert_problem, serving
from tests.helpers import wait_until

from .forms import (
    FILE_BYTES,
    PDF,
    UPLOAD_BYTES,
    connect,
    kept,
    multipart,
    part,
    pdf,
    pdf_part,
    post,
    send,
)


def test_a_client_that_goes_away_leaves_nothing(api: Api, folder: Path) -> None:
    body = multipart(pdf_part(PDF[:1_000] + b"x" * FILE_BYTES))[: FILE_BYTES - 1_000]
    before = kept(folder)
    with closing(connect(api, f"POST /jobs/read HTTP/1.1\r\nContent-Length: {FILE_BYTES * 2}", body)):
        begun = wait_until(lambda: kept(folder) - before, "the begin of the file")
        # Nothing is complete, so nothing may look as if it were.
        assert {path.parent.name for path in begun} == {"unfinished"}
    wait_until(lambda: kept(folder) <= before, "the removal of what the client had sent")


def test_a_client_that_goes_away_after_a_whole_file_leaves_nothing(api: Api, folder: Path) -> None:
    before = kept(folder)
    body = multipart(pdf_part(name="parts"), part('name="title"', b"never ends")).removesuffix(b"\r\n--B--\r\n")
    with closing(connect(api, "POST /jobs/merge HTTP/1.1\r\nContent-Length: 99999", body)):
        wait_until(lambda: kept(folder) - before, "the first file")
    wait_until(lambda: kept(folder) <= before, "the removal of the first file")


def test_a_shorter_content_length_cuts_the_form(api: Api) -> None:
    body = multipart(pdf_part())
    with closing(connect(api, f"POST /jobs/read HTTP/1.1\r\nContent-Length: {len(body) - 20}", body)) as connection:
        assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_content_length_above_the_limit_is_not_waited_for(api: Api) -> None:
    head = f"POST /jobs/read HTTP/1.1\r\nContent-Length: {UPLOAD_BYTES + 1}"
    with closing(connect(api, head, b"--B\r\n")) as connection:
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_dependency_that_refuses_comes_before_the_body(runtime: Runtime, folder: Path) -> None:
    from fastapi import Depends, HTTPException

    def login() -> None:
        raise HTTPException(401)

    before = kept(folder)
    with serving(runtime, job_router(runtime.app, dependencies=[Depends(login)])) as closed:
        assert_problem(post(closed, "read", pdf()), 401)
        assert_problem(send(closed, "read", b"nothing that could be read"), 401)
    assert kept(folder) == before
