"""Forms that are not as they should be: nothing is left of them."""

from __future__ import annotations

import json

import pytest

from aijobs.http.multipart import MOST_HEADER_BYTES, MOST_HEADERS
from aijobs.http.reading import MOST_FIELD_BYTES, MOST_FIELDS
from tests.contract.conftest import Api, assert_problem

from .forms import (
    PDF,
    arguments,
    multipart,
    part,
    pdf,
    pdf_part,
    post,
    send,
)


@pytest.mark.parametrize(
    ("parts", "pointer", "kind"),
    [
        ([], "#/document", "missing"),
        ([part('name="title"', b"t")], "#/document", "missing"),
        ([pdf_part(), pdf_part()], "#/document", "too_many_files"),
        ([pdf_part(), pdf_part(name="other")], "#", "extra_forbidden"),
        ([part('name="document"', b"text")], "#/document", "file_expected"),
        ([part('name="document"; filename=""', b"text")], "#/document", "file_expected"),
        ([pdf_part(name="title")], "#/title", "extra_forbidden"),
        ([pdf_part(), part('name="pages"', b"many")], "#/pages", "int_parsing"),
        ([pdf_part(), part('name="pages"', b"1e999")], "#/pages", "finite_number"),
        ([pdf_part(), part('name="level"', b"3")], "#/level", "enum"),
        ([pdf_part(), part('name="tags"', b"a, b")], "#/tags", "json_invalid"),
        ([pdf_part(), part('name="tags"', b"[1]")], "#/tags/0", "string_type"),
        ([pdf_part(), part('name="tags"', b"[" * 100_000)], "#/tags", "json_invalid"),
        ([pdf_part(), part('name="options"', b"NaN")], "#/options", "json_invalid"),
        ([pdf_part(), part('name="unknown"', b"x")], "#/unknown", "extra_forbidden"),
        ([pdf_part(), part('name="key"', b"x")], "#/key", "extra_forbidden"),
        ([pdf_part(), part('name="title"', b"a"), part('name="title"', b"b")], "#/title", "duplicate_field"),
        ([pdf_part(), part('name="title"', b"\xff\xfe")], "#/title", "string_unicode"),
    ],
)
def test_forms_that_are_not_valid(api: Api, parts: list[bytes], pointer: str, kind: str) -> None:
    members = assert_problem(send(api, "read", multipart(*parts)), 422, "invalid-request")
    fault = members["errors"][0]
    assert fault["type"] == kind, fault
    assert fault["pointer"].startswith(pointer)


def test_as_many_faults_as_a_field_can_hold(api: Api) -> None:
    body = multipart(pdf_part(), part('name="tags"', json.dumps([1] * 200_000).encode()))
    assert "1000 faults" in assert_problem(send(api, "read", body), 422, "invalid-request")["detail"]


@pytest.mark.parametrize(
    "parts",
    [
        [part(f'name="f{n}"', b"x") for n in range(MOST_FIELDS + 1)],
        [part(f'name="{n}"', b"") for n in range(10_000)],
        [part('name="title"', b"x" * (MOST_FIELD_BYTES // 2 + 1)), part('name="free"', b"x" * (MOST_FIELD_BYTES // 2))],
    ],
    ids=["one field too many", "ten thousand", "too long"],
)
def test_too_much_in_fields(api: Api, parts: list[bytes]) -> None:
    assert_problem(send(api, "read", multipart(pdf_part(), *parts)), 413, "body-too-large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--B",
        b"no boundary at all",
        multipart(pdf_part())[:-8],
        multipart(pdf_part())[: len(PDF)],
        multipart(pdf_part(), boundary="C"),
        multipart(b"no headers"),
        multipart(b"Content-Type: text/plain\r\n\r\nx"),
        multipart(b"Content-Disposition: attachment; name=title\r\n\r\nx"),
        multipart(part('filename="a.pdf"', PDF)),
        multipart(part('name="title"', b"x", "multipart/mixed; boundary=C")),
        multipart(part('name="title"', b"eA==", more=b"Content-Transfer-Encoding: base64\r\n")),
        multipart(part('name="title"', b"x", more=b"Content-Disposition: form-data; name=pages\r\n")),
        multipart(part('name="title"', b"x", more=b"X-A: " + b"a" * MOST_HEADER_BYTES + b"\r\n")),
        multipart(part('name="title"', b"x", more=b"".join(b"X-%d: 1\r\n" % n for n in range(MOST_HEADERS)))),
        multipart(part('name="title"', b"x", more=b"X-A: " + b"a" * 5_000 + b"\r\nX-B: " + b"b" * 5_000 + b"\r\n")),
        multipart(pdf_part(), part('name="title"', b"x", more=b"Bad Header: 1\r\n")),
        b"\r\n" * 50_000,
    ],
)
def test_forms_that_cannot_be_read(api: Api, body: bytes) -> None:
    assert_problem(send(api, "read", body), 400, "invalid-form")


@pytest.mark.parametrize(
    "boundary", ["", '""', "B; boundary=B", "B; boundary=C", "B" * 71, '"B\\"C"', '"B "', "boundary*=utf-8''B", "Bü"]
)
def test_boundaries_that_are_none(api: Api, boundary: str) -> None:
    headers = {b"Content-Type": f"multipart/form-data; boundary={boundary}".encode("latin-1")}
    response = api.client.post("/jobs/read", content=multipart(pdf_part()), headers=headers)
    assert_problem(response, 400, "invalid-form")


@pytest.mark.parametrize(
    "declared",
    [
        [],
        ["application/json"],
        ["application/x-www-form-urlencoded"],
        ["multipart/mixed; boundary=B"],
        ["text/plain"],
        ["multipart/form-data; boundary=B", "multipart/form-data; boundary=B"],
        ["multipart/form-data-x; boundary=B"],
    ],
)
def test_other_media_types(api: Api, declared: list[str]) -> None:
    headers = [("content-type", one) for one in declared]
    response = api.client.post("/jobs/read", content=multipart(pdf_part()), headers=headers)
    assert_problem(response, 415, "unsupported-media-type")


def test_a_handle_cannot_be_sent_as_json(api: Api) -> None:
    key = arguments(api, post(api, "read", pdf()))["document"]
    assert_problem(api.client.post("/jobs/read", json={"document": key}), 415, "unsupported-media-type")
    assert_problem(post(api, "read", pdf(), data={"document": json.dumps(key)}), 422)


def test_a_handle_cannot_be_sent_in_a_batch_of_jobs(api: Api) -> None:
    key = arguments(api, post(api, "read", pdf()))["document"]
    item = {"custom_id": "1", "task": "read", "input": {"document": key}}
    members = assert_problem(api.client.post("/jobs/batches", json={"items": [item]}), 422)
    assert "takes files" in members["detail"]
