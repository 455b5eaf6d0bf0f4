"""YAML that says what it was told to say."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aijobs.compose.yaml import Alias, Anchor, Note, dump, scalar

TEXTS = st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXTS
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)


@given(st.dictionaries(TEXTS.filter(lambda key: key != "<<"), TREES, min_size=1, max_size=5))
def test_what_is_written_is_read_again(document: dict[str, Any]) -> None:
    assert yaml.safe_load(dump(document)) == document


@pytest.mark.parametrize(
    "text", ["no", "Yes", "null", "~", "1", "1.5", "0x1F", "1e3", "12:30:45", "2026-01-01", "", "a: b", "a #b"]
)
def test_text_stays_text(text: str) -> None:
    assert yaml.safe_load(scalar(text)) == text


def test_comments_stand_above_and_names_refer() -> None:
    text = dump(
        {
            "x-a": Anchor("a", {"one": Note("Why one.\nAnd more.", 1)}),
            "list": [Note("Why this.", {"deep": [1, 2]}), "plain"],
            "b": {"<<": [Alias("a")], "two": 2},
            "script": "first\n  second\n",
        },
        spaced="b",
    )
    assert "  # Why one.\n  # And more.\n  one: 1\n" in text
    read = yaml.safe_load(text)
    assert read["b"] == {"one": 1, "two": 2}
    assert read["list"] == [{"deep": [1, 2]}, "plain"]
    assert read["script"] == "first\n  second\n"


def test_long_comments_are_broken() -> None:
    text = dump({"a": Note("word " * 60, 1)})
    assert all(len(line) <= 100 for line in text.splitlines())
