"""Whatever is wrong is a problem document with a 4xx, never a 500, and never another format."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from .conftest import Api, assert_problem

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{'a': 1}",
        b'{"a": 1} x',
        b'{"first": NaN}',
        b'{"first": Infinity}',
        b'{"first": "\\ud800"}',
        b'{"first": "\\udc00\\ud800"}',
        b'{"first": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"\x00",
        b"[" * 100_000,
        b'{"first":' * 50_000,
        b'{"first": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"first": ' + b"9" * 5_000 + b"}",
        "{}".encode("utf-16"),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_json(api: Api, content: bytes) -> None:
    for task in ("anything", "no-such-task"):
        assert_problem(api.client.post(f"/jobs/{task}", content=content, headers=JSON), 400, "invalid-json")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "text/json",
        "application/jsonp",
        "json",
        "",
        "multipart/form-data",
    ],
)
def test_what_is_not_declared_as_json(api: Api, kind: str) -> None:
    response = api.client.post("/jobs/embed", content=b'{"texts": []}', headers={"Content-Type": kind})
    assert_problem(response, 415, "unsupported-media-type")


def test_what_is_not_declared_at_all(api: Api) -> None:
    assert_problem(api.client.post("/jobs/embed", content=b'{"texts": []}'), 415, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.team+json", "Application/JSON"])
def test_what_is_declared_as_json(api: Api, kind: str) -> None:
    response = api.client.post("/jobs/embed", content=b'{"texts": []}', headers={"Content-Type": kind})
    assert response.status_code == 202


def test_a_large_body(api: Api) -> None:
    too_large = b'{"texts": ["' + b"x" * 1_048_576 + b'"]}'
    assert_problem(api.client.post("/jobs/embed", content=too_large, headers=JSON), 413, "body-too-large")
    chunks = (too_large[start : start + 65_536] for start in range(0, len(too_large), 65_536))
    assert_problem(api.client.post("/jobs/embed", content=chunks, headers=JSON), 413, "body-too-large")
    nearly = b'{"texts": ["' + b"x" * 1_000_000 + b'"]}'
    assert api.client.post("/jobs/embed", content=nearly, headers=JSON).status_code == 202


@pytest.mark.parametrize("body", [[], "texts", 1])
def test_a_text_does_not_speak_of_python(api: Api, body: Any) -> None:
    assert assert_problem(api.submit("embed", body), 422)["detail"] == "#: Input should be an object"


def test_many_faults_make_a_short_answer(api: Api) -> None:
    response = api.submit("embed", {"texts": [1] * 999})
    assert len(assert_problem(response, 422)["errors"]) == 50
    response = api.submit("embed", {"texts": [1] * 300_000})
    assert assert_problem(response, 422)["errors"][0]["pointer"] == "#"
    long_name = api.submit("embed", {"texts": [], "x" * 500_000: 1})
    assert assert_problem(long_name, 422)["errors"][0]["pointer"] == "#"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/jobs", "GET, HEAD"),
        ("PATCH", "/jobs/", "GET, HEAD"),
        ("OPTIONS", "/jobs/x", "DELETE, GET, HEAD"),
        ("PUT", "/jobs/embed", "POST"),
        ("GET", "/jobs/embed", "POST"),
        ("GET", "/jobs/batches", "POST"),
        ("POST", "/jobs/stats", "GET, HEAD"),
        ("POST", "/jobs/x/events", "GET"),
        ("BREW", "/jobs/x/result", "GET, HEAD"),
        ("GET", "/jobs/x/cancel", "POST"),
    ],
)
def test_wrong_methods(api: Api, method: str, path: str, allow: str) -> None:
    response = api.client.request(method, path)
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/a/b"),
        ("GET", "/jobs/a/"),
        ("POST", "/jobs/embed/"),
        ("GET", "/jobs//"),
        ("GET", "/jobs/a/events/"),
        ("GET", "/jobs/a/b%0ac/d%0a"),
        ("BREW", "/jobs/a/b/c"),
    ],
)
def test_wrong_paths(api: Api, method: str, path: str) -> None:
    assert_problem(api.client.request(method, path), 404, "route-not-found")


def test_the_list_has_a_path_with_and_without_a_slash(api: Api) -> None:
    assert api.get("").status_code == api.get("/").status_code == 200
    assert api.get("/").json()["jobs"][:1] == api.get("").json()["jobs"][:1]


@pytest.mark.parametrize(
    "job_id",
    [
        "%00",
        "a%00b",
        "%0a",
        "stats%0a",
        "%ff",
        "%ed%a0%80",
        "x" * 256,
        "x" * 10_000,
        "%F0%9F%98%80",
        "..%2e",
        "*",
        "[a-z]*",
        "%25",
        "a%3Ab",
        "null",
        "0",
    ],
)
def test_odd_ids_are_unknown(api: Api, job_id: str) -> None:
    bodies = set()
    for path in ("", "/result", "/events"):
        response = api.get(f"/{job_id}{path}")
        assert_problem(response, 404, "job-not-found")
        bodies.add(response.content)
    assert_problem(api.client.delete(f"/jobs/{job_id}"), 404, "job-not-found")
    assert len(bodies) == 1


def test_odd_names_of_tasks_are_unknown(api: Api) -> None:
    for name in ("%00", "%0a", "x" * 10_000, "%ff", "__class__", "embed%20"):
        assert_problem(api.submit(name, {}), 404, "task-not-found")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=", "limit=99999999999999999999999", "status=lost", "status=",
        "status=queued&status=%00", "created_after=yesterday", "created_before=9999999999999999999999",
        "created_after=0.5", "created_before=1700000000", "created_after=", "created_before=-5",
    ],
)  # fmt: skip
def test_wrong_filters(api: Api, query: str) -> None:
    members = assert_problem(api.get(f"?{query}"), 422, "invalid-request")
    assert members["errors"][0]["parameter"].startswith(query.partition("=")[0])
    assert members["errors"][0]["in"] == "query"


@pytest.mark.parametrize("cursor", ["", "x", "%00", "AAAA", "a" * 5_000, "%F0%9F%98%80", "====", "A" * 40, "..%2F.."])
def test_wrong_cursors(api: Api, cursor: str) -> None:
    assert_problem(api.get(f"?cursor={cursor}"), 400, "invalid-cursor")


def test_an_event_id_is_looked_at_wherever_it_is(api: Api) -> None:
    path = f"/{api.queue()}/events?starting_after=x"
    assert_problem(api.get(path), 400, "invalid-event-id")
    assert_problem(api.get(path, headers={"Last-Event-ID": "0"}), 400, "invalid-event-id")


def raw(api: Api, request: bytes) -> bytes:
    """What a server says to bytes that no client library would send."""
    address = urlsplit(api.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10) as connection:
        connection.sendall(request)
        reply = b""
        while b"\r\n\r\n" not in reply and (chunk := connection.recv(65_536)):
            reply += chunk
        return reply


def test_odd_headers(api: Api) -> None:
    job_id = api.queue()
    for header in (b"If-None-Match: \xff\xfe", b'If-None-Match: "', b"Accept: \x80", b"Last-Event-ID: \xff"):
        request = b"GET /jobs/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n\r\n" % (job_id.encode(), header)
        assert raw(api, request).startswith(b"HTTP/1.1 200 ")
    body = b'{"texts": []}'
    for length in (b"-1", b"x", b"1e3", b"99999999999999999999999999"):
        head = b"POST /jobs/embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n"
        assert raw(api, head % length + body)[9:12] in (b"400", b"413")


def test_a_duplicate_content_type(api: Api) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    assert_problem(api.client.post("/jobs/embed", content=b"{}", headers=headers), 415, "unsupported-media-type")
