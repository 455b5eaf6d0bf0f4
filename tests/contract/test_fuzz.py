"""Bytes that no polite client sends: never a 5xx, never a hang, never an echo, and problem documents below the prefix.

The same ones each time; `AIJOBS_FUZZ_CASES=5000` asks for about so many others.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .complete import ALICE, BOB, Complete
from .wire import Header, Reply, exchange, request

#: In every value that is made up; what is refused must not come back. Names may: a pointer tells where a fault is.
CANARY = "kanarienvogel"

#: What the HTTP server says by itself of what is not HTTP.
NO_HTTP = b"Invalid HTTP request received."

ASKED = int(os.environ.get("AIJOBS_FUZZ_CASES", "0"))
FUZZ = settings(
    max_examples=ASKED // 8 or 60,
    derandomize=not ASKED,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON = (b"Content-Type", b"application/json")


@pytest.fixture(scope="module")
def api(complete_api: Complete) -> Iterator[Complete]:
    yield complete_api
    assert complete_api.tracebacks() == []


@pytest.fixture(scope="module")
def job_id(api: Complete) -> str:
    return api.submit("nothing")


def assert_proper(reply: Reply | None, *, http_at_all: bool = True, head: bool = False) -> Reply:
    """That an answer is none of the server's failures."""
    assert reply is not None
    assert reply.status < 500, reply
    told = reply.body + repr(reply.headers).encode()
    if reply.status >= 400:
        assert CANARY.encode() not in told, reply
        if not (reply.body == NO_HTTP and not http_at_all):
            assert reply.headers["content-type"] == "application/problem+json", reply
            assert head or json.loads(reply.body)["status"] == reply.status
    return reply


def visible(text: str) -> bytes:
    return text.encode("latin-1", "ignore").replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")


#: Values of headers: all that HTTP lets through, with blanks around it or not.
values = st.text(st.characters(max_codepoint=255), max_size=60).map(lambda text: visible(text).strip(b" \t"))
odd_values = st.one_of(
    values,
    st.sampled_from([b"", b'"', b'""', b",", b"*", b"W/", b"\xff\xfe", b"=", b"-1", b"0", b"1e9", b"9" * 400]),
    st.integers().map(lambda number: str(number).encode()),
).map(lambda value: value + CANARY.encode() if value else value)

#: Bytes of a path as they may come: encoded once, twice, or not at all.
encoded = st.one_of(
    st.binary(max_size=40).map(lambda raw: quote_from_bytes(raw, safe="")),
    st.text(max_size=30).map(lambda text: quote(text, safe="", errors="surrogatepass")),
    st.binary(max_size=20).map(lambda raw: quote(quote_from_bytes(raw, safe=""), safe="")),
)
tricks = st.sampled_from(
    [
        *("%2e%2e", "..%2f..", "%2F", "a%2Fb", "%5c", "%00", "%0a", "%0d%0a", "stats%0a", "%c0%ae", "%ed%a0%80"),
        *("%", "%zz", "%25", "%2525", "%F0%9F%92%A9", ";", "a;b=c", "~", "*", "-", "_", "", "x" * 300, "x" * 9_000),
    ]
)
taken = st.sampled_from(["health", "stats", "dead", "batches", "nothing", "events", ".", "..", ""])
segments = st.one_of(st.one_of(encoded, tricks).map(lambda text: text + CANARY), taken)

places = st.lists(segments, min_size=1, max_size=3).map("/".join)
tails = st.sampled_from(
    ["", "/", "/result", "/output", "/events", "/cancel", "/retry", "/webhooks", "/batch", "//", "/../x", "?", "#"]
)
methods = st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"DELETE", b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"BREW", b"x-y"]
)


@FUZZ
@given(place=places, tail=tails, method=methods, slashes=st.sampled_from(["/", "//"]))
def test_paths(api: Complete, place: str, tail: str, method: bytes, slashes: str) -> None:
    target = f"/jobs{slashes}{place}{tail}".encode()
    reply = exchange(api, request(method, target))
    assert_proper(reply, http_at_all=False, head=method == b"HEAD")


@FUZZ
@given(
    names=st.lists(
        st.sampled_from(["status", "task", "batch_id", "created_after", "limit", "cursor", "owner", "all", "children"]),
        min_size=1,
        max_size=4,
    ),
    given_values=st.lists(segments, min_size=4, max_size=4),
    place=st.sampled_from(["/jobs", "/jobs/", "/jobs/dead", "/jobs/x", "/jobs/x/events", "/jobs/stats"]),
    method=st.sampled_from([b"GET", b"HEAD", b"DELETE"]),
)
def test_queries(api: Complete, names: list[str], given_values: list[str], place: str, method: bytes) -> None:
    query = "&".join(f"{name}={value}" for name, value in zip(names, given_values, strict=False))
    reply = exchange(api, request(method, f"{place}?{query}".encode()))
    assert_proper(reply, http_at_all=False, head=method == b"HEAD")


@FUZZ
@given(data=st.data())
def test_cursors(api: Complete, data: st.DataObject) -> None:
    while not (cursor := api.client.get("/jobs?limit=1").json()["next_cursor"]):
        api.submit("nothing")
    at = data.draw(st.integers(0, len(cursor) - 1))
    mutated = data.draw(
        st.sampled_from(
            [
                cursor[:at],
                cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :],
                cursor + cursor,
                cursor[::-1],
                cursor[at:] + cursor[:at],
            ]
        )
    )
    if mutated != cursor:
        # The last character may hold bits that no byte has.
        assert api.client.get("/jobs", params={"limit": 1, "cursor": mutated}).status_code in (200, 400)
    for task, caller in (("nothing", ALICE), (None, BOB)):
        refused = api.client.get("/jobs", params={"cursor": cursor, **({"task": task} if task else {})}, headers=caller)
        assert refused.json()["type"] == "urn:aijobs:problem:invalid-cursor"


@FUZZ
@given(
    name=st.sampled_from(
        [
            b"If-None-Match", b"Prefer", b"Last-Event-ID", b"Idempotency-Key", b"Accept", b"Content-Type", b"Range",
            b"X-Forwarded-Prefix", b"Origin", b"Cookie", b"Accept-Encoding", b"If-Match", b"Content-Encoding",
        ]
    ),
    given_values=st.lists(odd_values, min_size=1, max_size=3),
    what=st.sampled_from(["submit", "get", "events", "list", "cancel", "output", "result"]),
)  # fmt: skip
def test_headers(api: Complete, job_id: str, name: bytes, given_values: list[bytes], what: str) -> None:
    method, target, body = {
        "submit": (b"POST", "/jobs/nothing", b"{}"),
        "get": (b"GET", f"/jobs/{job_id}", b""),
        "events": (b"GET", f"/jobs/{job_id}/events", b""),
        "list": (b"GET", "/jobs", b""),
        "cancel": (b"POST", f"/jobs/{job_id}/cancel", b""),
        "output": (b"GET", f"/jobs/{job_id}/output", b""),
        "result": (b"GET", f"/jobs/{job_id}/result", b""),
    }[what]
    headers = [*([JSON] if body and name != b"Content-Type" else []), *((name, value) for value in given_values)]
    assert_proper(exchange(api, request(method, target.encode(), headers, body)), http_at_all=False)


documents = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just(CANARY), st.just(10**400)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["first", "second", "count", "title", "parts", "day", "size", "items", "pause", "odd"]),
            inner,
        ),
    ),
    max_leaves=12,
)
encodings = st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "latin-1"])


@FUZZ
@given(
    data=st.data(), task=st.sampled_from(["anything", "scalars", "summarise", "choose", "calendar", "batches", "none"])
)
def test_json(api: Complete, data: st.DataObject, task: str) -> None:
    text = json.dumps(data.draw(documents), ensure_ascii=data.draw(st.booleans()))
    body = text.encode(data.draw(encodings), "replace")
    cut = data.draw(st.integers(0, len(body)))
    damage = data.draw(
        st.sampled_from([b"", b"\0", b"\xff", b'"', b"\\ud800", b"{", b"NaN", codecs.BOM_UTF8, b"1" * 5_000])
    )
    damaged = body[:cut] + damage + body[cut:]
    reply = assert_proper(exchange(api, request(b"POST", f"/jobs/{task}".encode(), [JSON], damaged)))
    assert reply.status in (202, 400, 404, 415, 422)


@FUZZ
@given(
    depth=st.sampled_from([1, 100, 1_000, 100_000]),
    pair=st.sampled_from([(b"[", b"]"), (b'{"first":', b"}"), (b'{"first":[', b"]}")]),
    closed=st.booleans(),
    task=st.sampled_from(["anything", "summarise", "batches", "none"]),
)
def test_depth(api: Complete, depth: int, pair: tuple[bytes, bytes], closed: bool, task: str) -> None:
    body = pair[0] * depth + (b"1" + pair[1] * depth if closed else b"")
    assert_proper(exchange(api, request(b"POST", f"/jobs/{task}".encode(), [JSON], body)))


PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
parts = st.tuples(
    st.sampled_from([b"document", b"title", b"pages", b"", b"\xff", b"a%22b", b"x" * 9_000]),
    st.sampled_from(
        [
            *(
                b"",
                b'; filename="kanarienvogel.txt"',
                b'; filename="../a.pdf"',
                b'; filename=""',
                b"; filename*=UTF-8''a.txt",
            ),
            *(b'; filename="a\0.txt"', b"\r\nContent-Type: multipart/mixed; boundary=c", b"\r\nX: " + b"y" * 9_000),
        ]
    ),
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"%PDF-1.7\n", b"\r\n--b\r\n", b"--b--", b"x" * 70_000, CANARY.encode()]),
    ),
)


@FUZZ
@given(
    drawn=st.lists(parts, max_size=4),
    end=st.sampled_from([b"--b--\r\n", b"--b--", b"--b", b"", b"--b--\r\nepilogue"]),
    kind=st.sampled_from(
        [
            *(
                b"multipart/form-data; boundary=b",
                b"multipart/form-data",
                b"multipart/form-data; boundary=",
                b"text/plain",
            ),
            *(b'multipart/form-data; boundary="b"; boundary=c', b"multipart/mixed; boundary=b", b"application/json"),
        ]
    ),
    target=st.sampled_from([b"/jobs/read", b"/jobs/read/batch", b"/jobs/compare", b"/jobs/nothing", b"/open/read"]),
    cut=st.integers(0, 40),
)
def test_forms(
    api: Complete, drawn: list[tuple[bytes, bytes, bytes]], end: bytes, kind: bytes, target: bytes, cut: int
) -> None:
    body = (b"".join(PART % part for part in drawn) + end)[cut if cut > 30 else 0 :]
    reply = exchange(api, request(b"POST", target, [(b"Content-Type", kind)], body or b"-"))
    assert assert_proper(reply).status in (202, 400, 413, 415, 422)


#: Sizes of chunks, and what stands behind them.
sizes = st.sampled_from([b"2", b"0002", b"2;x=y", b"2 ", b"-2", b"0x2", b"ffffffffffffffffff", b"", b"z", b"2\n"])


@FUZZ
@given(
    size=sizes,
    end=st.sampled_from([b"0\r\n\r\n", b"0\r\nX-T: y\r\n\r\n", b"", b"0\r\n", b"\r\n"]),
    headers=st.lists(
        st.sampled_from(
            [
                (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"gzip, chunked"), (b"Content-Length", b"2"),
                (b"Transfer-Encoding", b"identity"), (b"Content-Length", b"+2"), (b"Content-Length", b"2, 2"),
                (b"Content-Length", b"99999999999999999999"), (b"Expect", b"100-continue"), (b"Upgrade", b"h2c"),
            ]
        ),
        min_size=1,
        max_size=3,
    ),
    version=st.sampled_from([b"1.1", b"1.0", b"0.9", b"2.0", b"1.2"]),
)  # fmt: skip
def test_framing(api: Complete, size: bytes, end: bytes, headers: list[Header], version: bytes) -> None:
    body = size + b"\r\n{}\r\n" + end
    sent = request(b"POST", b"/jobs/nothing", [JSON, *headers], body, version)
    reply = exchange(api, sent, close=True)
    # A body that never ends is a client that has left, whom nobody answers.
    if reply is not None and reply.status != 100:
        assert_proper(reply, http_at_all=False)


@pytest.mark.parametrize(
    "sent",
    [
        request(b"GET", b"/jobs/" + b"x" * 70_000),
        request(b"GET", b"/jobs", [(b"X-Long", b"x" * 70_000)]),
        request(b"GET", b"/jobs", [(b"X-%d" % number, b"x" * 60) for number in range(1_500)]),
        request(b"GET", b"jobs"),
        request(b"GET", b"http://elsewhere/jobs/x"),
        request(b"GET", b"*"),
        request(b"OPTIONS", b"*"),
        request(b"CONNECT", b"x:443"),
        request(b"GET", b"/jobs/\x00"),
        request(b"GET", b"/jobs/\xff"),
        request(b"GET", b"/jobs/x y"),
        request(b"GET", b"/jobs", [(b"Bad Name", b"x")]),
        request(b"GET", b"/jobs", [(b"X", b"a\0b")]),
        request(b"GET", b"/jobs", [(b"Host", b"x"), (b"Host", b"y")]),
        b"GET /jobs\r\n\r\n",
        b"\r\n\r\nGET /jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /jobs HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:24]),
)
def test_what_is_hardly_http(api: Complete, sent: bytes) -> None:
    reply = exchange(api, sent, close=True)
    assert reply is None or reply.status < 500
    assert api.client.get("/jobs/health").status_code == 200
