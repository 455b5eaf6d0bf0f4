"""What exceptions of provider clients say about trying again; the clients' own exceptions, made by the clients."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.error
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any, cast

import anthropic
import httpx
import openai
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from aijobs._told import read_duration, reset_wait, told_wait
from aijobs.providers import Advice, AdviceKind, read_advice
from tests.provider import Answer, Provider, provider

#: Where nobody listens.
NOWHERE = "http://127.0.0.1:9"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REQUEST = httpx.Request("POST", "https://provider.example/v1/chat")

FATAL, RATE_LIMITED, TRANSIENT, UNKNOWN = AdviceKind


SITE: Provider


def answer(status: int, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=REQUEST)


def by_httpx(status: int, **headers: str) -> Exception:
    response = answer(status, named(headers))
    return httpx.HTTPStatusError("it failed", request=REQUEST, response=response)


def by_requests(status: int, **headers: str) -> Exception:
    response = requests.Response()
    response.status_code = status
    response.headers.update(named(headers))
    return requests.HTTPError("it failed", response=response)


def by_urllib(status: int, **headers: str) -> Exception:
    message = Message()
    for name, value in named(headers).items():
        message[name] = value
    return urllib.error.HTTPError("https://provider.example", status, "it failed", message, None)


def by_aiohttp(status: int, **headers: str) -> Exception:
    class ClientResponseError(Exception):
        """As aiohttp's: the status and the headers are its own."""

    error = ClientResponseError("it failed")
    error.status, error.headers = status, named(headers)  # type: ignore[attr-defined]
    return error


def by_openai(status: int, body: Any = None, **headers: str) -> Exception:
    return raised_by(openai.OpenAI, openai.OpenAIError, told_by(status, body, headers))


def by_anthropic(status: int, body: Any = None, **headers: str) -> Exception:
    return raised_by(anthropic.Anthropic, anthropic.AnthropicError, told_by(status, body, headers))


def told_by(status: int, body: Any, headers: Mapping[str, str]) -> str:
    """An address that answers so."""
    content = {"Content-Type": "application/json"}
    return SITE.that_answers(Answer(status, content | named(headers), json.dumps(body).encode()))


def raised_by(client: Any, expected: type[Exception], url: str) -> Exception:
    """What a client raises that asks there."""
    with client(api_key="none", base_url=url, max_retries=0) as asking, pytest.raises(expected) as found:
        asking.models.list()
    return found.value


def named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.fixture(scope="module", autouse=True)
def site() -> Iterator[None]:
    global SITE
    with provider() as SITE:
        yield


every_client = pytest.mark.parametrize(
    "client", [by_httpx, by_requests, by_urllib, by_aiohttp, by_openai, by_anthropic]
)


class Other(Exception):
    """Of a library that nobody knows."""


def raised(error: BaseException, before: BaseException, *, plainly: bool = False) -> BaseException:
    """An exception that was raised from another, or merely while it was handled."""
    try:
        try:
            raise before
        except type(before):
            if plainly:
                raise error  # noqa: B904
            raise error from before
    except type(error) as found:
        return found


@every_client
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, FATAL) for status in (400, 401, 402, 403, 404, 405, 410, 413, 422)),
        *((status, TRANSIENT) for status in (408, 409, 425, 500, 502, 503, 504, 520)),
        *((status, RATE_LIMITED) for status in (429, 529)),
        *((status, UNKNOWN) for status in (416, 499)),
    ],
)
def test_statuses(client: Any, status: int, kind: AdviceKind) -> None:
    assert read_advice(client(status)) == Advice(kind, None, "" if kind is UNKNOWN else f"HTTP {status}")


@every_client
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RATE_LIMITED), (529, RATE_LIMITED), (503, RATE_LIMITED), (403, RATE_LIMITED), (500, TRANSIENT)],
)
def test_waits_are_told_with_statuses(client: Any, status: int, kind: AdviceKind) -> None:
    assert read_advice(client(status, Retry_After="20")) == Advice(kind, 20.0, f"HTTP {status}")


@every_client
def test_the_provider_may_say_outright_whether_to_try_again(client: Any) -> None:
    assert read_advice(client(500, x_should_retry="false")).kind is FATAL
    assert read_advice(client(429, x_should_retry="False")).kind is FATAL
    assert read_advice(client(404, x_should_retry="true")).kind is TRANSIENT
    assert read_advice(client(416, x_should_retry="true")).kind is TRANSIENT
    assert read_advice(client(429, x_should_retry="true", Retry_After="3")) == Advice(RATE_LIMITED, 3.0, "HTTP 429")
    assert read_advice(client(404, x_should_retry="perhaps")).kind is FATAL


class TestWaits:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"retry-after": "120"}, 120),
            ({"retry-after": "0"}, 0),
            ({"retry-after": "1.5"}, 1.5),
            ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30),
            ({"retry-after": "Sunday, 01-Mar-26 12:00:30 GMT"}, 30),
            ({"retry-after": "Sun Mar  1 12:00:30 2026"}, 30),
            ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0),
            # By the clock of who says it, which is a minute slow.
            ({"retry-after": "Sun, 01 Mar 2026 12:00:00 GMT", "date": "Sun, 01 Mar 2026 11:59:00 GMT"}, 60),
            ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
            ({"retry-after-ms": "soon", "retry-after": "2"}, 2),
        ],
    )
    def test_retry_after(self, headers: dict[str, str], seconds: float) -> None:
        assert told_wait(headers, NOW) == seconds
        assert read_advice(by_httpx(429, **headers), NOW).wait_seconds == seconds

    @pytest.mark.parametrize("text", ["", "soon", "-5", "nan", "inf", "1e5", "٣", "5 s", "9" * 40, "0x10", "1_000"])
    def test_what_cannot_be_read_says_nothing(self, text: str) -> None:
        assert told_wait({"retry-after": text}, NOW) is None
        assert read_advice(SimpleError(429, {"Retry-After": text}), NOW) == Advice(RATE_LIMITED, None, "HTTP 429")

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
            ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, None),
            ({"x-ratelimit-reset-tokens": "6m0s"}, None),
            (
                {
                    "x-ratelimit-remaining-tokens": "0",
                    "x-ratelimit-reset-tokens": "1s",
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "20ms",
                },
                1,
            ),
            ({"anthropic-ratelimit-input-tokens-reset": "2026-03-01T12:00:09Z"}, 9),
            (
                {
                    "anthropic-ratelimit-requests-remaining": "49",
                    "anthropic-ratelimit-requests-reset": "2026-03-01T12:00:09Z",
                    "anthropic-ratelimit-tokens-remaining": "0",
                    "anthropic-ratelimit-tokens-reset": "2026-03-01T12:00:04Z",
                },
                4,
            ),
            ({"x-ratelimit-reset": "30"}, 30),
            ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 45)}, 45),
            ({"x-ratelimit-reset": str((int(NOW.timestamp()) + 45) * 1000)}, 45),
            ({"ratelimit-reset": "7", "ratelimit-remaining": "0"}, 7),
            ({"ratelimit-reset": "7", "ratelimit-remaining": "1"}, None),
            ({"ratelimit-reset": "tomorrow"}, None),
        ],
        ids=str,
    )
    def test_limits_that_are_used_up(self, headers: dict[str, str], seconds: float | None) -> None:
        assert reset_wait(headers, NOW) == seconds
        assert read_advice(by_httpx(429, **headers), NOW).wait_seconds == seconds
        # Where nothing is limited they are mere information.
        assert read_advice(by_httpx(500, **headers), NOW).wait_seconds is None

    def test_retry_after_says_more_than_limits(self) -> None:
        error = by_openai(429, Retry_After="2", x_ratelimit_remaining_tokens="0", x_ratelimit_reset_tokens="9m")
        assert read_advice(error).wait_seconds == 2

    def test_a_limit_that_is_refused_as_forbidden(self) -> None:
        reset = str(int(NOW.timestamp()) + 50)
        error = by_requests(403, x_ratelimit_remaining="0", x_ratelimit_reset=reset)
        assert read_advice(error, NOW) == Advice(RATE_LIMITED, 50.0, "HTTP 403")
        assert read_advice(by_requests(403, x_ratelimit_reset=reset), NOW).kind is FATAL

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("1s", 1),
            ("6m0s", 360),
            ("20ms", 0.02),
            ("1h2m3.5s", 3723.5),
            ("1d", 86400),
            ("300us", 0.0003),
            ("36.5s", 36.5),
        ],
    )
    def test_durations(self, text: str, seconds: float) -> None:
        assert read_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["", "s", "5", "1s ", "1x", "-1s", "1s2", "m5s"])
    def test_no_durations(self, text: str) -> None:
        assert read_duration(text) is None


class TestWords:
    @pytest.mark.parametrize(
        "code",
        ["insufficient_quota", "billing_hard_limit_reached", "context_length_exceeded", "invalid_api_key"],
    )
    def test_what_no_wait_helps(self, code: str) -> None:
        body = {"error": {"message": "no", "type": "requests", "code": code}}
        assert read_advice(by_openai(429, body, Retry_After="5")) == Advice(FATAL, None, code)

    def test_errors_in_the_middle_of_a_stream_have_the_status_of_its_beginning(self) -> None:
        def error(kind: str) -> Exception:
            body = {"type": "error", "error": {"type": kind, "message": "no"}}
            return anthropic.APIStatusError("no", response=cast(Any, answer(200)), body=body)

        assert read_advice(error("overloaded_error")) == Advice(RATE_LIMITED, None, "overloaded_error")
        assert read_advice(error("api_error")) == Advice(TRANSIENT, None, "api_error")
        assert read_advice(error("invalid_request_error")) == Advice(FATAL, None, "invalid_request_error")
        assert read_advice(error("something_else")).kind is UNKNOWN
        body = {"type": "server_error", "code": "server_error"}
        assert read_advice(openai.APIError("no", cast(Any, REQUEST), body=body)).kind is TRANSIENT

    def test_google_tells_its_wait_in_the_body(self) -> None:
        class ClientError(Exception):
            """As `google.genai.errors.APIError`."""

            code, status = 429, "RESOURCE_EXHAUSTED"
            details = {
                "error": {
                    "code": 429,
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36.5s"}],
                }
            }

        ClientError.__module__ = "google.genai.errors"
        assert read_advice(ClientError()) == Advice(RATE_LIMITED, 36.5, "RESOURCE_EXHAUSTED")

    @pytest.mark.parametrize(
        ("code", "status", "kind"),
        [
            ("ThrottlingException", 400, RATE_LIMITED),
            ("AccessDeniedException", 403, FATAL),
            ("InternalServerException", 500, TRANSIENT),
        ],
    )
    def test_aws_has_a_mapping_for_a_response(self, code: str, status: int, kind: AdviceKind) -> None:
        class ClientError(Exception):
            """As `botocore.exceptions.ClientError`."""

            response = {
                "Error": {"Code": code, "Message": "no"},
                "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "4"}},
            }

        advice = read_advice(ClientError())
        # 403 with a wait is a limit, whoever says it.
        assert advice.kind is (RATE_LIMITED if status == 403 else kind)
        assert advice.wait_seconds == 4


class TestConnections:
    @pytest.mark.parametrize(
        "error",
        [
            httpx.ConnectError("no"),
            httpx.ReadTimeout("no"),
            httpx.PoolTimeout("no"),
            httpx.RemoteProtocolError("no"),
            requests.ConnectionError("no"),
            requests.ReadTimeout("no"),
            requests.exceptions.ChunkedEncodingError("no"),
            raised_by(openai.OpenAI, openai.APIConnectionError, NOWHERE),
            raised_by(anthropic.Anthropic, anthropic.APIConnectionError, NOWHERE),
            openai.APITimeoutError(cast(Any, REQUEST)),
            http.client.IncompleteRead(b""),
            http.client.RemoteDisconnected("no"),
            socket.gaierror(),
            ConnectionResetError(),
            TimeoutError(),
        ],
        ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
    )
    def test_that_fail_are_transient(self, error: Exception) -> None:
        assert read_advice(error) == Advice(TRANSIENT, None, type(error).__name__)

    @pytest.mark.parametrize(
        "error",
        [
            httpx.UnsupportedProtocol("no"),
            httpx.InvalidURL("no"),
            requests.exceptions.MissingSchema("no"),
            requests.HTTPError("no response"),
            ValueError("no"),
            FileNotFoundError(),
            SystemExit(429),
            KeyError("status_code"),
        ],
        ids=repr,
    )
    def test_are_not_all_that_can_fail(self, error: BaseException) -> None:
        assert read_advice(error).kind is UNKNOWN


class TestWhatIsBehind:
    def test_a_cause_counts(self) -> None:
        assert read_advice(raised(Other(), by_httpx(429, Retry_After="9"))).wait_seconds == 9
        assert read_advice(raised(Other(), by_httpx(401))).kind is FATAL

    def test_the_exception_itself_counts_more(self) -> None:
        assert read_advice(raised(by_httpx(401), by_httpx(429))).kind is FATAL

    def test_what_was_being_handled_counts_unless_it_was_fatal(self) -> None:
        assert read_advice(raised(Other(), by_httpx(429), plainly=True)).kind is RATE_LIMITED
        assert read_advice(raised(Other(), by_httpx(404), plainly=True)).kind is UNKNOWN

    def test_a_mistake_in_what_handles_it_is_a_mistake(self) -> None:
        assert read_advice(raised(KeyError(), by_httpx(429), plainly=True)).kind is UNKNOWN
        assert read_advice(raised(KeyError(), by_httpx(429))).kind is RATE_LIMITED

    def test_what_was_dismissed_does_not_count(self) -> None:
        error = raised(Other(), by_httpx(429), plainly=True)
        error.__suppress_context__ = True
        assert read_advice(error).kind is UNKNOWN

    def test_circles_and_long_chains_come_to_an_end(self) -> None:
        first, second = Other(), Other()
        first.__cause__, second.__cause__ = second, first
        assert read_advice(first).kind is UNKNOWN
        long: BaseException = by_httpx(429)
        for _ in range(10_000):
            outer = Other()
            outer.__cause__ = long
            long = outer
        assert read_advice(long).kind is UNKNOWN

    def test_of_a_group_what_hinders_most_counts(self) -> None:
        slow, slower = by_httpx(429, Retry_After="2"), by_httpx(429, Retry_After="5")
        nested = ExceptionGroup("two", [slow, ExceptionGroup("one", [slower])])
        assert read_advice(nested) == Advice(RATE_LIMITED, 5.0, "HTTP 429")
        assert read_advice(ExceptionGroup("", [slow, by_httpx(500)])).kind is RATE_LIMITED
        assert read_advice(ExceptionGroup("", [slow, ValueError()])).kind is UNKNOWN
        assert read_advice(ExceptionGroup("", [slow, by_httpx(401)])).kind is FATAL
        assert read_advice(raised(Other(), nested)).wait_seconds == 5


class SimpleError(Exception):
    """A client's, with nothing to check what it is given."""

    def __init__(self, status: Any, headers: Any) -> None:
        super().__init__()
        self.response = SimpleNamespace(status_code=status, headers=headers)


class Hostile(Exception):
    """Nothing of it can be looked at."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


#: What could be in an attribute or a header of anything.
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text(), max_size=2)
)
NAMES = st.sampled_from(
    [
        "Retry-After",
        "retry-after-ms",
        "Date",
        "x-should-retry",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "anthropic-ratelimit-tokens-reset",
        "ratelimit-reset",
    ]
)
VALUES = st.one_of(
    ANYTHING,
    st.from_regex(r"[0-9.]{1,20}(s|m|ms|h)?"),
    st.datetimes().map(lambda moment: format_datetime(moment.replace(tzinfo=UTC), usegmt=True)),
    st.datetimes().map(datetime.isoformat),
)


class TestAnyAnswer:
    @given(status=st.one_of(ANYTHING, st.integers(100, 599)), headers=st.dictionaries(NAMES, VALUES))
    def test_is_read_without_an_error_and_told_waits_are_sane(self, status: Any, headers: Any) -> None:
        advice = read_advice(SimpleError(status, headers), NOW)
        assert advice.wait_seconds is None or 0 <= advice.wait_seconds < float("inf")

    @given(headers=ANYTHING, body=st.recursive(ANYTHING, lambda one: st.dictionaries(st.text(), one), max_leaves=5))
    def test_of_any_shape_is_read_without_an_error(self, headers: Any, body: Any) -> None:
        error = SimpleError(429, headers)
        error.body = error.details = body  # type: ignore[attr-defined]
        error.code = error.type = body  # type: ignore[attr-defined]
        assert read_advice(error).kind is RATE_LIMITED

    def test_that_cannot_be_looked_at_says_nothing(self) -> None:
        assert read_advice(Hostile()).kind is UNKNOWN

    @given(seconds=st.integers(0, 10**9))
    def test_a_date_is_as_good_as_seconds(self, seconds: int) -> None:
        due = NOW + timedelta(seconds=seconds)
        assert told_wait({"retry-after": format_datetime(due, usegmt=True)}, NOW) == seconds
        assert told_wait({"retry-after": str(seconds)}, NOW) == seconds
