"""Output that is passed on without being decoded is the same as output that is decoded."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from aijobs.job import Output, Piece
from aijobs.store.record import join_pieces, read_pieces

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text | st.sampled_from(["text", "data"]), inner),
    max_leaves=5,
)
piece = text.map(Piece) | data.map(lambda value: Piece(data=value))


@given(st.lists(piece, min_size=1))
def test_it_is_the_same(pieces: list[Piece]) -> None:
    lines = b"\n".join(to_json(one.to_dict()) for one in pieces)
    decoded = Output(1, read_pieces(lines))
    encoded_pieces, encoded_text = join_pieces(lines)
    assert json.loads(encoded_pieces) == decoded.to_dict()["pieces"]
    assert json.loads(encoded_text) == decoded.text
