"""From what Celery reports to what the record says, whatever tasks raise and return."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import (
    Reject,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.utils.serialization import UnpickleableExceptionWrapper
from kombu.exceptions import EncodeError

from aijobs.worker.outcome import (
    MESSAGE_LENGTH,
    TRACEBACK_LENGTH,
    bare_exception,
    describe_failure,
    encode_json,
)


class Speechless(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


class RateLimitError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (ValueError("no such file"), "exception", "ValueError: no such file"),
        (RateLimitError(429), "exception", "RateLimitError: HTTP 429"),
        (KeyError("a"), "exception", "KeyError: 'a'"),
        (ValueError(), "exception", "ValueError"),
        (Speechless("x"), "exception", "Speechless"),
        (SystemExit(3), "exception", "SystemExit: 3"),
        (ExceptionGroup("both", [ValueError("a")]), "exception", "ExceptionGroup: both (1 sub-exception)"),
        (SoftTimeLimitExceeded(), "time_limit", "The job exceeded its soft time limit of 5 seconds."),
        (
            TimeLimitExceeded(9),
            "time_limit",
            "The job exceeded its time limit of 9 seconds and was stopped.",
        ),
        (
            WorkerLostError("signal 9 (SIGKILL)"),
            "worker_lost",
            "The worker process that ran the job was lost. WorkerLostError: signal 9 (SIGKILL)",
        ),
        (Reject("not mine", requeue=False), "rejected", "The task rejected its message: not mine"),
        (Reject(), "rejected", "The task rejected its message: no reason given"),
        (Reject(Speechless()), "rejected", "The task rejected its message: Speechless"),
        (TaskRevokedError("expired"), "expired", "The job expired before a worker could run it."),
        (TaskRevokedError("revoked"), "cancelled", "The job was cancelled."),
        (TaskRevokedError("terminated"), "cancelled", "The job was cancelled."),
        (
            EncodeError("not JSON serializable"),
            "invalid_result",
            "The task returned something that cannot be stored as its result. EncodeError: not JSON serializable",
        ),
        (UnpickleableExceptionWrapper("app", "Custom", ["a", 1], "text"), "exception", "Custom: a, 1"),
        ({"exc_type": "E", "exc_message": ["a", "b"]}, "exception", "a, b"),
        ({"error": "out of paper"}, "exception", "out of paper"),
        ({"progress": 3}, "exception", "The task reported that it failed."),
        ({"error": Unspeakable()}, "exception", "Unspeakable"),
        ("plain text", "exception", "plain text"),
        (None, "exception", "None"),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_every_end_has_a_code_and_a_sentence(outcome: Any, code: str, message: str) -> None:
    failure = describe_failure(outcome, time_limit=5)
    assert (failure.code, failure.message, failure.traceback) == (code, message, None)


def test_a_soft_limit_that_is_not_known_is_not_named() -> None:
    assert describe_failure(SoftTimeLimitExceeded()).message == "The job exceeded its soft time limit."


def test_long_texts_are_cut_and_tracebacks_keep_their_end() -> None:
    failure = describe_failure(ValueError("x" * 10**6), "y" * 10**6 + "the cause")
    assert len(failure.message) == MESSAGE_LENGTH
    assert failure.traceback is not None
    assert len(failure.traceback) == TRACEBACK_LENGTH
    assert failure.traceback.endswith("the cause")


def test_an_exception_comes_out_of_its_wrapper() -> None:
    error = ValueError("inside")
    wrapped = ExceptionWithTraceback(error, None)
    assert bare_exception(wrapped) is bare_exception(error) is error
    assert describe_failure(wrapped).message == "ValueError: inside"


class TestEncodeJson:
    @pytest.mark.parametrize("value", [None, True, 0, 1.5, "text ✓ \x00", [1, [2]], {"a": {"b": []}}])
    def test_what_json_can_hold_stays(self, value: Any) -> None:
        assert json.loads(encode_json(value)) == value

    @pytest.mark.parametrize(
        ("value", "kept"),
        [
            ([math.nan, math.inf, -math.inf], [None, None, None]),
            ((1, 2), [1, 2]),
            ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
            ("lone \ud800", "lone ?"),
            ({"\ud800": ["\udfff", math.nan, (1,)]}, {"?": ["?", None, [1]]}),
        ],
        ids=ascii,
    )
    def test_what_it_cannot_hold_becomes_what_it_can(self, value: Any, kept: Any) -> None:
        assert json.loads(encode_json(value)) == kept

    def test_a_set_becomes_a_list(self) -> None:
        assert sorted(json.loads(encode_json({3, 1, 2}))) == [1, 2, 3]

    def test_an_object_becomes_its_text(self) -> None:
        assert json.loads(encode_json({"error": ValueError("no")})) == {"error": "no"}

    def test_an_object_without_text_becomes_its_type(self) -> None:
        assert json.loads(encode_json([Unspeakable(), "\ud800"])) == ["Unspeakable", "?"]
        assert json.loads(encode_json([Unspeakable()])) == ["Unspeakable"]

    def test_what_contains_itself_has_an_end(self) -> None:
        endless: list[Any] = [1]
        endless.append(endless)
        assert json.loads(encode_json(endless))

    def test_a_huge_number_is_kept_digit_by_digit(self) -> None:
        assert encode_json(10**4_000) == b"1" + b"0" * 4_000
