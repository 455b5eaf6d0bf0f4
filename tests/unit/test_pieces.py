"""What tasks give out becomes entries: JSON, in order, none too long; and stays what it is until it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from aijobs.job import EventType, LogEntry, Output, Piece
from aijobs.store.values import OutputEntry, OutputWrite
from aijobs.worker.backlog import Backlog
from aijobs.worker.pieces import MOST_BYTES, data_entry, log_entry, merge


class Point(BaseModel):
    x: int


@dataclass
class Size:
    width: float


def texts(entries: Sequence[OutputEntry]) -> list[str]:
    return [json.loads(entry.json)["text"] for entry in entries]


class TestText:
    def test_neighbours_become_one(self) -> None:
        line = log_entry(LogEntry("a line"))
        entries = list(merge(["Hel", "lo", line, line, " wor", "ld"]))
        assert [entry.kind for entry in entries] == [EventType.OUTPUT, EventType.LOG, EventType.LOG, EventType.OUTPUT]
        assert texts([entries[0], entries[-1]]) == ["Hello", " world"]

    @pytest.mark.parametrize("character", ["a", "é", "漢", "😀", '"', "\x00"])
    def test_long_text_comes_in_parts(self, character: str) -> None:
        text = character * 300_000
        entries = list(merge([text]))
        assert "".join(texts(entries)) == text
        assert max(len(entry.json) for entry in entries) <= MOST_BYTES
        assert len(entries) <= 2 + 2 * sum(len(entry.json) for entry in entries) // MOST_BYTES

    def test_halves_of_a_character_are_put_together(self) -> None:
        assert texts(list(merge(["smile \ud83d", "\ude00!"]))) == ["smile 😀!"]

    def test_half_a_character_alone_is_marked(self) -> None:
        assert texts(list(merge(["a\ud83db"]))) == ["a�b"]

    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
    def test_nothing_is_added_or_lost(self, given_out: list[str]) -> None:
        assert "".join(texts(list(merge(given_out)))) == "".join(given_out)

    def test_the_store_knows_text_by_its_beginning(self) -> None:
        (entry,) = merge(["a"])
        assert entry.json == b'{"text":"a"}'


class TestData:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ({"n": [1, None, True]}, {"n": [1, None, True]}),
            (Point(x=1), {"x": 1}),
            (Size(0.5), {"width": 0.5}),
            (date(2026, 1, 2), "2026-01-02"),
            ([math.nan, math.inf, -math.inf], [None, None, None]),
            (None, None),
            ({"half": "\ud83d"}, {"half": "?"}),
            (b"text", "text"),
        ],
    )
    def test_it_travels_as_json(self, value: Any, shown: Any) -> None:
        assert json.loads(data_entry(value).json) == {"data": shown}

    def test_what_json_cannot_hold_is_refused_by_name(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        for value in (object(), {"deep": {"inside": object()}}, endless, b"\xff"):
            with pytest.raises(TypeError, match=r"^emit\(\) takes text and what JSON can hold"):
                data_entry(value)

    def test_what_is_too_large_is_refused(self) -> None:
        assert len(data_entry("x" * (MOST_BYTES - len('{"data":""}'))).json) == MOST_BYTES
        with pytest.raises(ValueError, match=r"emit\(\) takes data of up to 65000 bytes of JSON at once, and this has"):
            data_entry("x" * MOST_BYTES)


class TestLines:
    def test_fields_that_json_cannot_hold_become_text(self) -> None:
        entry = log_entry(LogEntry("found", "warning", {"what": Point, "half": "\ud83d", "n": math.nan}))
        assert entry.kind is EventType.LOG
        told = json.loads(entry.json)
        assert (told["level"], told["message"]) == ("warning", "found")
        assert "Point" in told["fields"]["what"]

    @pytest.mark.parametrize("line", [LogEntry("x" * 100_000), LogEntry("x", "info", {"much": "y" * 100_000})])
    def test_what_is_too_long_is_cut(self, line: LogEntry) -> None:
        entry = log_entry(line)
        assert len(entry.json) < MOST_BYTES
        told = json.loads(entry.json)
        assert told["message"].startswith("x")
        assert told["message"].endswith("…")
        assert told["fields"] == {}


class TestValues:
    def test_output_as_the_api_shows_it(self) -> None:
        output = Output(2, (Piece("a"), Piece(None, {"n": 1}), Piece(data=None), Piece("b")), truncated=True)
        assert output.text == "ab"
        assert output.to_dict() == {
            "attempt": 2,
            "pieces": [{"text": "a"}, {"data": {"n": 1}}, {"data": None}, {"text": "b"}],
            "truncated": True,
        }

    def test_a_line_as_the_api_shows_it(self) -> None:
        assert LogEntry("a", "error", {"n": 1}).to_dict() == {"level": "error", "message": "a", "fields": {"n": 1}}


class TestBacklog:
    def written(self, write: OutputWrite | None) -> tuple[int, list[str]]:
        assert write is not None
        return write.before, texts(write.entries)

    def test_it_is_empty_at_first(self) -> None:
        backlog = Backlog()
        assert (backlog.take(), backlog.take_all(), backlog.size) == (None, None, 0)

    def test_what_may_have_been_written_stays_as_it_is(self) -> None:
        backlog = Backlog()
        backlog.add("a")
        backlog.add("b")
        assert self.written(backlog.take()) == (0, ["ab"])
        backlog.add("c")
        first = backlog.take()
        assert self.written(first) == (0, ["ab", "c"])
        backlog.add("d")
        assert first is not None
        backlog.settle(first)
        assert self.written(backlog.take_all()) == (2, ["d"])

    def test_an_answer_that_comes_late_lets_go_of_no_more_than_it_says(self) -> None:
        backlog = Backlog()
        backlog.add("a")
        early = backlog.take()
        backlog.add("b")
        late = backlog.take()
        assert early is not None
        assert late is not None
        backlog.settle(late)
        backlog.settle(early)
        assert backlog.take() is None
        backlog.add("c")
        assert self.written(backlog.take()) == (2, ["c"])

    def test_much_is_written_in_several_goes(self) -> None:
        backlog = Backlog()
        for number in range(2_000):
            backlog.add(data_entry(number))
            if number % 100 == 0:
                backlog.add("x" * 200_000)
        seen: list[OutputEntry] = []
        while (write := backlog.take()) is not None:
            assert write.before == len(seen)
            assert len(write.entries) <= 500
            assert sum(len(entry.json) for entry in write.entries) <= 262_144 + MOST_BYTES
            seen += write.entries
            backlog.settle(write)
        data = [json.loads(entry.json)["data"] for entry in seen if entry.json.startswith(b'{"data"')]
        assert data == list(range(2_000))
        assert backlog.size == 0

    def test_it_knows_how_much_waits(self) -> None:
        backlog = Backlog()
        backlog.add("x" * 1_000)
        assert backlog.size == 1_000
        write = backlog.take()
        backlog.add("y" * 500)
        assert write is not None
        backlog.settle(write)
        assert backlog.size == 500
