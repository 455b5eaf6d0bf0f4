"""Files that are not taken."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Api, assert_problem

from .forms import (
    FILE_BYTES,
    PDF,
    PNG,
    UPLOAD_BYTES,
    UPLOAD_FILES,
    multipart,
    pdf,
    pdf_part,
    post,
)


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("a.pdf", b"This is no PDF"),
        ("a.pdf", PNG),
        ("a.png", PDF),
        ("a.txt", b"MZ\x90\x00binary"),
        ("a.csv", b"a,b\n\x00\x01"),
        ("a.docx", b"PK\x03\x04" + b"\0" * 26 + b"META-INF/MANIFEST.MF"),
        ("a.exe", b"MZ"),
        ("a.zip", b"PK\x03\x04"),
        ("a.svg", b"<svg/>"),
        ("a.pdf.exe", PDF),
        ("a", PDF),
        (".pdf", PDF),
        ("a.", PDF),
        ("invoice\u202efdp.exe", PDF),
    ],
)
def test_files_that_are_not_taken(api: Api, filename: str, content: bytes) -> None:
    members = assert_problem(post(api, "read", pdf(content=content, filename=filename)), 415, "unsupported-file")
    assert members["errors"][0]["pointer"] == "#/document"


def test_rules_of_a_parameter(api: Api) -> None:
    small = PDF[:900]
    assert_problem(post(api, "small", ("document", ("a.txt", b"text"))), 415, "unsupported-file")
    text = assert_problem(post(api, "small", pdf(content=PDF[:1_001])), 413, "file-too-large")
    assert "1000 bytes" in text["detail"]
    members = assert_problem(post(api, "small", pdf(content=small), pdf("cover", small)), 415, "unsupported-file")
    assert "image/*" in members["detail"]
    assert members["errors"][0]["pointer"] == "#/cover"


def test_a_program_is_not_taken_even_where_anything_is(api: Api) -> None:
    assert_problem(post(api, "anything", ("data", ("x", b"\x7fELF\x02"))), 415, "unsupported-file")


def test_an_empty_file(api: Api) -> None:
    members = assert_problem(post(api, "read", ("document", ("a.txt", b""))), 422, "invalid-request")
    assert members["errors"][0] == {"pointer": "#/document", "detail": "The file is empty.", "type": "empty"}


@pytest.mark.parametrize("size", [FILE_BYTES + 1, 2 * FILE_BYTES])
def test_a_file_above_the_limit(api: Api, size: int) -> None:
    members = assert_problem(post(api, "read", ("document", ("a.txt", b"x" * size))), 413, "file-too-large")
    assert f"{FILE_BYTES} bytes" in members["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit(api: Api, chunked: bool) -> None:
    body = multipart(pdf_part(name="parts")) + b"epilogue" * (UPLOAD_BYTES // 8)
    content = (body[i : i + 60_000] for i in range(0, len(body), 60_000)) if chunked else body
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    response = api.client.post("/jobs/merge", content=content, headers=headers)
    assert f"{UPLOAD_BYTES} bytes" in assert_problem(response, 413, "body-too-large")["detail"]


def test_too_many_files(api: Api) -> None:
    files = [pdf("parts", filename=f"{n}.pdf") for n in range(UPLOAD_FILES + 1)]
    members = assert_problem(post(api, "merge", *files, data={"title": "t"}), 413, "body-too-large")
    assert f"{UPLOAD_FILES} files" in members["detail"]
