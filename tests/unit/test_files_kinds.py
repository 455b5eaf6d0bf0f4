"""What files begin with, and which ones a parameter takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from aijobs import ConfigurationError, FileRules
from aijobs.files import FileRefused, Reason
from aijobs.files.kinds import HEAD_BYTES, KINDS, USUAL_EXTENSIONS, content_type

from .filesamples import PROGRAMS, SAMPLES, zipped

TAR = SAMPLES[".tar"][0]
ANY = [sample for samples in SAMPLES.values() for sample in samples]
TEXTS = sorted(set(KINDS) - set(SAMPLES) | {".svg"})


@pytest.mark.parametrize("extension", sorted(SAMPLES))
def test_files_that_are_what_they_say(extension: str) -> None:
    for sample in SAMPLES[extension]:
        assert content_type(extension, sample[:HEAD_BYTES]) == KINDS[extension].content_type


@pytest.mark.parametrize("extension", sorted(set(SAMPLES) - {".svg"}))
def test_files_that_are_not_what_they_say(extension: str) -> None:
    for other in (b"nothing of the kind", b"", b"x", b"\0" * 600, b"\n" * 20_000, TAR, PROGRAMS["Linux"]):
        if extension != ".tar" or other != TAR:
            assert content_type(extension, other) is None


def test_files_of_one_family_are_told_apart() -> None:
    for extension in (".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".epub"):
        others = [sample for other in SAMPLES.keys() - {extension, ".zip"} for sample in SAMPLES[other]]
        assert [content_type(extension, sample) for sample in others] == [None] * len(others)
        assert content_type(extension, zipped("a.txt")) is None
    for image in (".avif", ".heic"):
        assert content_type(image, SAMPLES[".mp4"][0]) is None
        assert content_type(".mp4", SAMPLES[image][0]) is None


@pytest.mark.parametrize("extension", TEXTS)
def test_texts(extension: str) -> None:
    for text in ("plain", "x", "Grüße, 文書", "a\tb\r\n\f", "<svg/>", ""):
        assert content_type(extension, text.encode()) == KINDS[extension].content_type
    assert content_type(extension, "Grüße".encode("cp1252")) is not None
    assert content_type(extension, "Grüße 🙂".encode("utf-16")) is not None
    for binary in (b"a\0b", *SAMPLES[".png"], *PROGRAMS.values(), b"\xff\xfea\0\1\0", b"\xff\xfe\0\xdc\0\0"):
        assert content_type(extension, binary) is None


def test_a_text_is_looked_at_as_far_as_a_character_of_several_bytes_that_is_cut_off() -> None:
    assert content_type(".txt", b"x" + "文".encode() * 100_000) == "text/plain"
    assert content_type(".txt", b"x" * 4_094 + "🙂".encode("utf-16")) == "text/plain"


def test_what_is_unknown_may_be_anything_but_a_program() -> None:
    assert content_type(".dwg", b"AC1027") == "image/vnd.dwg"
    assert content_type("", SAMPLES[".pdf"][0]) == "application/pdf"
    assert content_type("", b"#!/bin/sh\necho") == "text/x-shellscript"
    assert content_type(".dat", b"\1\2\3\4") == "application/octet-stream"
    for program in PROGRAMS.values():
        assert content_type(".dwg", program) is None
        assert content_type("", program) is None


@settings(deadline=None)
@given(strategies.sampled_from(ANY), strategies.binary(max_size=60), strategies.integers(0, 400))
def test_broken_files_are_answered_too(sample: bytes, junk: bytes, at: int) -> None:
    broken = sample[:at] + junk + sample[at + len(junk) :]
    for extension in (".pdf", ".docx", ".mp3", ".txt", ".dwg"):
        assert content_type(extension, broken) != ""


def test_what_leads_in_circles_is_nothing_known() -> None:
    circle = b"ID3\3\0\0\0\0\0\0" * 1_000
    assert content_type(".mp3", circle) is None
    assert content_type(".dwg", circle) == "application/octet-stream"


def test_the_usual_files_are_no_archives_and_no_programs() -> None:
    assert not USUAL_EXTENSIONS & {".zip", ".tar", ".gz", ".exe", ".svg", ".parquet", ".js", ".py", ".sh"}
    assert {".pdf", ".docx", ".txt", ".md", ".csv", ".png", ".mp3"} <= USUAL_EXTENSIONS


@pytest.mark.parametrize("name", ["a.exe", "a.zip", "a", "a.pdf.exe"])
def test_names_that_are_not_taken(name: str) -> None:
    with pytest.raises(FileRefused) as refused:
        FileRules().check_name(name)
    assert refused.value.reason is Reason.WRONG_TYPE
    assert ".pdf" in str(refused.value)


def test_a_parameter_may_take_archives() -> None:
    rules = FileRules(extensions=[".zip"])
    rules.check_name("a.ZIP")
    assert rules.check_content("a.zip", SAMPLES[".zip"][0]) == "application/zip"


def test_rules_can_be_compared() -> None:
    assert FileRules(extensions=[".pdf"]) == FileRules(extensions={".pdf"})
    assert hash(FileRules()) == hash(FileRules())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"extensions": {"pdf"}}, "'pdf' cannot be one"),
        ({"extensions": {".PDF"}}, "'.PDF' cannot be one"),
        ({"extensions": set()}, "must not be empty"),
        ({"max_bytes": 0}, "at least 1"),
        ({"content_types": {"pdf"}}, "'pdf' cannot be one"),
    ],
)
def test_rules_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        FileRules(**values)
