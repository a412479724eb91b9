"""Objects in pieces: found whole where a parser says so, at any split; and looked at once."""

from __future__ import annotations

import doctest
import json
import sys
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.providers import growing
from assay.providers.growing import GrowingObject, ObjectEnd, is_object
from assay.server.anthropic import MessageStream
from assay.server.gemini.stream import SseEncoder
from assay.types import Started, TextDelta, ToolCallDelta

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\{}[]\n ', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('k"\\}', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    value=st.dictionaries(st.text('k"\\}', max_size=3), VALUES, max_size=4),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
)
def test_an_object_is_whole_at_its_last_brace_and_not_before(value: Any, sizes: list[int]) -> None:
    text = json.dumps(value)
    grown, end = GrowingObject(), ObjectEnd()
    at = 0
    for size in cycle(sizes):
        if at == len(text):
            break
        piece = text[at : at + size]
        at += len(piece)
        grown.add(piece)
        assert end.find(piece) == (None if at < len(text) else len(piece))
        assert grown.whole == (at == len(text))
    grown.add(" \n")
    assert grown.whole
    assert grown.text == text + " \n"
    grown.add("}")
    assert not grown.whole


@given(st.lists(st.text(alphabet='ab"\\{}[]:, 1', max_size=8), max_size=6))
def test_any_text_is_judged_as_a_parser_does(pieces: list[str]) -> None:
    grown = GrowingObject()
    for number, piece in enumerate(pieces):
        grown.add(piece)
        assert grown.whole == is_object("".join(pieces[: number + 1]))


@pytest.mark.parametrize("encoder", [MessageStream, SseEncoder])
def test_calls_side_by_side_are_not_read_again_at_every_piece(
    encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in bytes that are decoded, not in time."""
    decoded = [0]
    own = growing.msgspec.json.decode

    def counting(text: Any, *rest: Any, **named: Any) -> Any:
        decoded[0] += len(text)
        return own(text, *rest, **named)

    monkeypatch.setattr(growing.msgspec.json, "decode", counting)
    stream = encoder()
    stream.encode(Started("a", "m"))
    for part in (0, 1):
        stream.encode(ToolCallDelta(part, 0, f"c{part}", "f", '{"a":['))
    for number in range(300):
        for part in (0, 1):
            stream.encode(ToolCallDelta(part, arguments=f'{"," if number else ""}{{"k":"aaaaaaaaaaaaaaaa"}}'))
    stream.encode(TextDelta("x", 2))
    for part in (0, 1):
        stream.encode(ToolCallDelta(part, arguments="]}"))
    for _ in range(300):
        stream.encode(TextDelta("x", 2))
    assert 0 < decoded[0] < 4 * 300 * 30


def test_doctests() -> None:
    assert doctest.testmod(sys.modules["assay.providers.growing"]).failed == 0
