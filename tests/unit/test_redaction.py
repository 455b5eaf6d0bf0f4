"""Secrets do not get into records; all else does."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aijobs.job import ErrorCode
from aijobs.worker.outcome import MESSAGE_LENGTH, TRACEBACK_LENGTH, describe_failure
from aijobs.worker.redaction import HIDDEN, redact

#: None of these may be left in a text that had them.
SECRETS = st.text(string.ascii_letters + string.digits, min_size=24, max_size=60)

SHAPES = [
    "Client error '401 Unauthorized' for url 'https://host.example/v1/models?key={}'",
    "https://host.example/v1?alt=sse&api_key={}&n=2",
    "https://bucket.example/file?X-Amz-Signature={}&X-Amz-Credential={}",
    "https://user:{}@host.example/path",
    "redis://:{}@host:6379/0 did not answer",
    "headers: {{'Authorization': 'Bearer {}', 'accept': '*/*'}}",
    "Authorization: Bearer {}",
    "authorization=Basic {}",
    "('authorization', 'Token {}')",
    "the header was bearer {}",
    "{{'x-api-key': '{}'}}",
    '{{"api_key": "{}", "model": "m"}}',
    '    client = OpenAI(api_key="{}", timeout=5)',
    "OPENAI_API_KEY={}",
    "export AWS_SECRET_ACCESS_KEY={}",
    "password={} user=postgres",
    "client_secret: {}",
    "Incorrect API key provided: sk-1{}. You can find your API key at https://platform.example.",
    "sk-proj-{}-1",
    "sk-ant-api03-{}",
    "sk-abcd********wxyz, or sk-{}1",
    "ghp_{}",
    "hf_{}",
    "gsk_{}",
    "AIzaSy{0}{0}",
    "eyJ{0}.eyJ{0}.{0}",
]


@pytest.mark.parametrize("shape", SHAPES)
@given(secret=SECRETS)
def test_a_secret_is_hidden(shape: str, secret: str) -> None:
    text = redact(shape.format(*[secret] * 3))
    assert secret not in text
    assert HIDDEN in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h.example/v1?key=abc&n=2", "https://h.example/v1?key=***&n=2"),
        ("https://me:abc@h.example/v1", "https://***@h.example/v1"),
        ("redis://:abc@def@h.example:6379/0", "redis://***@h.example:6379/0"),
        ("'Authorization': 'Bearer abc', 'n': 1", "'Authorization': '***', 'n': 1"),
        ("Authorization: Bearer abc\nnext line", "Authorization: ***\nnext line"),
        ('OpenAI(api_key="a b\\"c", n=1)', 'OpenAI(api_key="***", n=1)'),
        ("AKIAIOSFODNN7EXAMPLE is known", "*** is known"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", None),
    ],
)
def test_what_is_around_it_stays(text: str, expected: str | None) -> None:
    assert redact(text) == (expected or "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ValueError: the text of the error",
        "KeyError: 'token'",
        "max_tokens: 4096 is more than the model has",
        "This model's maximum context length is 8192 tokens.",
        "Rate limit reached for gpt-x in organization org-1 on tokens per min (TPM): Limit 30000, Used 29000.",
        "FileNotFoundError: [Errno 2] No such file or directory: 'inbox/key.txt'",
        "could not authorize the request",
        "ConnectionError: redis://localhost:6379/0 is away",
        "mail to someone@host.example",
        "https://host.example/v1/chat?model=m&keyword=cats&authors=2",
        "a task-specific-long-name-of-things",
        "sk-learn-extras: hf_hub_download(npm_config)",
        'File "/app/shop/passwords.py", line 3, in read_password\n    return vault[name]',
        "TypeError: argument 'secret' of the task is not what its annotation says: Input should be a valid string",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_any_text_can_be_looked_through(text: str) -> None:
    assert isinstance(redact(text), str)


@given(text=st.text(max_size=50), shape=st.sampled_from(SHAPES[:9]), secret=SECRETS)
def test_doing_it_twice_changes_nothing(text: str, shape: str, secret: str) -> None:
    once = redact(text + " " + shape.format(*[secret] * 2))
    assert redact(once) == once


@pytest.mark.parametrize("filler", ["a", "a ", "://", "key=", "Bearer ", "sk-", "-", "api_key", "password ", "'", "\\"])
def test_long_texts_take_no_longer_than_they_are_long(filler: str) -> None:
    # Were it more than linear, this would take minutes.
    redact(filler * (200_000 // len(filler)))


def test_records_keep_no_secrets() -> None:
    secret = "sk-" + "a1b2" * 10
    url = f"https://host.example/v1?key={secret}"
    failure = describe_failure(ValueError(f"Client error '401' for url '{url}'"), f"Traceback …\n  get('{url}')\n{url}")
    assert failure.code is ErrorCode.EXCEPTION
    assert failure.message == "ValueError: Client error '401' for url 'https://host.example/v1?key=***'"
    assert failure.traceback is not None
    assert secret not in failure.traceback


@pytest.mark.parametrize("shift", range(-60, 20, 7))
def test_a_secret_at_the_edge_of_what_is_kept_is_not_cut_in_two(shift: int) -> None:
    secret = "sk-" + "a1b2" * 10
    text = "x" * (MESSAGE_LENGTH - len("ValueError: ") + shift) + " " + secret + " " + "y" * 100
    traceback = "y" * 50_000 + " " + secret + " " + "x" * (TRACEBACK_LENGTH + shift)
    failure = describe_failure(ValueError(text), traceback)
    assert "a1b2" not in failure.message + str(failure.traceback)
    assert len(failure.message) <= MESSAGE_LENGTH
    assert len(str(failure.traceback)) <= TRACEBACK_LENGTH
