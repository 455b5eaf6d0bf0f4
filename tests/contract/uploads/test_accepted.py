"""Forms that become jobs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from aijobs import UploadedFile
from aijobs.files.keys import is_key
from aijobs.runtime import Runtime
from tests.contract.conftest import Api

from .forms import (
    FILE_BYTES,
    PDF,
    PNG,
    Part,
    arguments,
    multipart,
    part,
    pdf,
    pdf_part,
    post,
    send,
)


def test_a_file_becomes_a_handle_in_the_arguments(api: Api, runtime: Runtime) -> None:
    response = post(api, "read", pdf(), data={"title": "A title", "pages": "7"})
    job = response.json()
    assert response.headers["location"] == job["status_url"] == f"/jobs/{job['job_id']}"
    sent = arguments(api, response)
    assert (sent["title"], sent["pages"]) == ("A title", 7)
    file = UploadedFile(**sent["document"])
    assert (file.name, file.size, file.content_type) == ("report.pdf", len(PDF), "application/pdf")
    assert file.sha256 == hashlib.sha256(PDF).hexdigest()
    assert job["job_id"] in file.key
    with runtime.files.open(file.key) as stored:
        assert stored.read() == PDF
    # Neither where the file is nor any argument is for clients.
    assert file.key not in api.get(f"/{job['job_id']}").text


def test_fields_take_the_types_of_their_parameters(api: Api) -> None:
    data = {
        "title": "12",
        "pages": "12",
        "level": "2",
        "since": "2025-05-01",
        "exact": "yes",
        "tags": '["a", "b"]',
        "options": '{"language": "en", "nested": [{"language": "de"}]}',
        "free": "[1]",
    }
    sent = arguments(api, post(api, "read", pdf(), data=data))
    del sent["document"]
    assert sent == {
        "title": "12",
        "pages": 12,
        "level": 2,
        "since": "2025-05-01",
        "exact": True,
        "tags": ["a", "b"],
        "options": {"language": "en", "nested": [{"language": "de", "nested": []}]},
        "free": "[1]",
    }


def test_what_was_not_filled_in_counts_as_left_out(api: Api) -> None:
    data = {"title": "", "pages": "", "tags": "", "since": ""}
    sent = arguments(api, post(api, "read", pdf(), data=data))
    assert set(sent) == {"document", "title"}
    assert sent["title"] == ""


def test_client_fields_come_as_fields_too(api: Api) -> None:
    response = post(api, "read", pdf(), data={"metadata": '{"customer": "42"}'})
    assert response.json()["metadata"] == {"customer": "42"}


def test_an_optional_file(api: Api) -> None:
    cover: Part = ("cover", ("c.png", PNG))
    assert set(arguments(api, post(api, "small", pdf(content=PDF[:900]), cover))) == {"document", "cover"}
    assert set(arguments(api, post(api, "small", pdf(content=PDF[:900])))) == {"document"}


def test_a_file_input_left_empty_counts_as_left_out(api: Api) -> None:
    body = multipart(pdf_part(PDF[:900]), part('name="cover"; filename=""', b"", "application/octet-stream"))
    assert set(arguments(api, send(api, "small", body))) == {"document"}


def test_a_list_of_files(api: Api) -> None:
    files = [pdf("parts", filename=f"{name}.pdf", content=PDF + name.encode()) for name in "abc"]
    sent = arguments(api, post(api, "merge", *files, data={"title": "t"}))
    assert [one["name"] for one in sent["parts"]] == ["a.pdf", "b.pdf", "c.pdf"]
    assert len({one["sha256"] for one in sent["parts"]}) == 3


def test_a_positional_file_and_other_fields(api: Api) -> None:
    response = post(api, "anything", ("data", ("noextension", b"\x01\x02")), data={"x": "1", "y": "[]"})
    assert response.status_code == 202, response.text
    stored = json.loads(api.job(response.json()["job_id"]).arguments_json or "")
    assert stored[0][0]["content_type"] == "application/octet-stream"
    assert stored[1] == {"x": "1", "y": "[]"}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("/abs/olute.txt", "olute.txt"),
        ("zwei Wörter 文書.txt", "zwei Wörter 文書.txt"),
        ("e\u0301.TXT", "é.TXT"),
        ("a\x00b\x1b.txt", "ab.txt"),
        ("evil\u202etxt.exe.txt", "eviltxt.exe.txt"),
        ("x" * 400 + ".txt", "x" * 251 + ".txt"),
        ("....txt", "....txt"),
        ("a.txt. .", "a.txt"),
    ],
)
def test_names_are_for_people_only(api: Api, runtime: Runtime, folder: Path, sent: str, shown: str) -> None:
    quoted = sent.replace("\\", "\\\\")
    body = multipart(part(f'name="document"; filename="{quoted}"', b"text"))
    file = UploadedFile(**arguments(api, send(api, "read", body))["document"])
    assert file.name == shown
    assert is_key(file.key)
    assert (folder / file.key).resolve().is_relative_to(folder.resolve())


def test_the_extended_file_name_is_ignored(api: Api) -> None:
    disposition = 'name="document"; filename="a.txt"; filename*=UTF-8\'\'b.exe'
    body = multipart(part(disposition, b"text"))
    assert arguments(api, send(api, "read", body))["document"]["name"] == "a.txt"


def test_the_declared_type_of_a_part_does_not_count(api: Api) -> None:
    response = post(api, "read", ("document", ("a.pdf", PDF, "text/html")))
    assert arguments(api, response)["document"]["content_type"] == "application/pdf"


@pytest.mark.parametrize("size", [1, FILE_BYTES - 1, FILE_BYTES])
def test_sizes_up_to_the_limit(api: Api, runtime: Runtime, size: int) -> None:
    content = (b"0123456789" * (size // 10 + 1))[:size]
    file = UploadedFile(**arguments(api, post(api, "read", ("document", ("a.txt", content))))["document"])
    assert file.size == size
    with runtime.files.open(file.key) as stored:
        assert stored.read() == content


def test_content_that_looks_like_a_boundary(api: Api, runtime: Runtime) -> None:
    content = b"text\r\n--X\r\n--XX-\r\n--" * 5_000
    body = multipart(part('name="document"; filename="a.txt"', content), boundary="XXX")
    file = UploadedFile(**arguments(api, send(api, "read", body, boundary="XXX"))["document"])
    with runtime.files.open(file.key) as stored:
        assert stored.read() == content


def test_chunked_in_tiny_pieces(api: Api) -> None:
    body = multipart(pdf_part(PDF[:500]), part('name="title"', b"t"))
    pieces = (body[index : index + 3] for index in range(0, len(body), 3))
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    response = api.client.post("/jobs/read", content=pieces, headers=headers)
    assert arguments(api, response)["title"] == "t"


def test_preamble_quoted_boundary_and_epilogue(api: Api) -> None:
    body = b"\r\n" + multipart(pdf_part()) + b"\r\nepilogue"
    headers = {"Content-Type": 'Multipart/Form-Data; charset=utf-8; BOUNDARY="B"'}
    assert api.client.post("/jobs/read", content=body, headers=headers).status_code == 202
