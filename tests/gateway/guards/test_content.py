"""Redacting whole requests and replies: JSON stays JSON, what is clean stays the same object."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.gateway.guards.content import JsonWindow, Seen, Sifter, is_json
from assay.gateway.guards.patterns import personal, secrets
from assay.gateway.guards.window import Wanted
from assay.types import (
    Extra,
    File,
    FunctionTool,
    Inline,
    Message,
    Opaque,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
    user,
)

WANTED = [Wanted(rule, "g", hides=True, keeps=True) for rule in (*secrets(), *personal())]
DIRTY = st.sampled_from(
    [
        "bob@example.com",
        "4111 1111 1111 1111",
        'say "bob@x.org"\n',
        "sk-abcdefghij0123456789",
        "é\\n@",
        "+1-202-555-0123",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(4111111111111111) | st.floats(allow_nan=False)
    | st.text(max_size=8) | DIRTY,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(max_size=5) | DIRTY, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
SPACING = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])


def sifter() -> Sifter:
    return Sifter(WANTED)


def spelled(value: Any, separators: tuple[str, str], ascii_only: bool) -> str:
    return json.dumps(value, separators=separators, ensure_ascii=ascii_only)


def cleaned(value: Any) -> Any:
    """What redacting should do, by another way: on the values, then spelled."""
    if isinstance(value, str):
        return sifter().plain(value)
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        clean = sifter().plain(str(value))
        return value if clean == str(value) else clean
    if isinstance(value, list):
        return [cleaned(one) for one in value]
    return {cleaned(name): cleaned(one) for name, one in value.items()}


@given(JSON, SPACING, st.booleans())
def test_json_stays_json_and_its_strings_are_redacted(
    value: Any, separators: tuple[str, str], ascii_only: bool
) -> None:
    text = spelled(value, separators, ascii_only)
    if not is_json(text):
        return
    assert json.loads(sifter().json(text)) == cleaned(value)


@given(JSON, SPACING, st.booleans(), st.lists(st.integers(0, 500), max_size=12), st.text(max_size=3))
def test_json_in_pieces_becomes_what_it_becomes_whole(
    value: Any, separators: tuple[str, str], ascii_only: bool, places: list[int], after: str
) -> None:
    text = spelled(value, separators, ascii_only) + after
    whole, found = JsonWindow(WANTED).feed(text, final=True)
    window, out, told = JsonWindow(WANTED), "", 0
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    for start, end in pairwise(edges):
        more, some = window.feed(text[start:end])
        out, told = out + more, told + len(some)
    more, some = window.feed("", final=True)
    assert (out + more, told + len(some)) == (whole, len(found))
    if not after and isinstance(value, dict | list) and is_json(text):
        assert json.loads(whole) == cleaned(value)


def test_all_around_what_is_hidden_stays_to_the_byte() -> None:
    text = '{ "n":1.0e400 ,"big":123456789012345678901234567890, "to" : "bob@example.com", "s":"\\u00e9" }'
    expected = text.replace("bob@example.com", "[email]")
    assert sifter().arguments(text) == expected
    assert JsonWindow(WANTED).feed(text, final=True)[0] == expected


def test_prose_where_json_was_asked_for_is_looked_at_as_prose() -> None:
    for text in (
        "Sure: bob@example.com",
        '{"a":1} 4111 1111 1111 1111 !',
        "4111 1111 1111 1111 is it",
        '"a" bob@example.com',
    ):
        out = "".join([*(window.feed(char)[0] for window in [JsonWindow(WANTED)] for char in text)])
        assert "bob@example.com" not in out
        assert "1111 1111" not in out


def test_a_text_that_is_cut_off_in_json_is_not_let_out() -> None:
    out, _ = JsonWindow(WANTED).feed('{"to": "bob@example.com', final=True)
    assert out == '{"to": "[email]'


REQUEST = Request(
    "m",
    (
        Message("system", (Text("You help bob@example.com."),), name="al@x.org"),
        Message(
            "assistant",
            (
                Reasoning("ask bob@example.com", ("bob@example.com",), signature="s"),
                ToolCall("c1", "mail", '{"to":"bob@example.com"}'),
                ToolCall("c2", "say", "to bob@example.com", kind="custom"),
            ),
        ),
        Message(
            "tool",
            (
                ToolResult(
                    "c1",
                    (
                        Text('{"who":"bob@example.com","n":1}'),
                        File(Inline("text/plain", b"bob@example.com")),
                        Opaque("openai", {"deep": ["bob@example.com"]}),
                    ),
                ),
            ),
        ),
    ),
    tools=(FunctionTool("f", "mails bob@example.com", {"default": "bob@example.com"}),),
    user="bob@example.com",
    metadata={"bob@example.com": 1},
    extra=Extra("openai", {"x": "bob@example.com"}),
)  # fmt: skip


def test_every_place_of_a_request_is_redacted() -> None:
    clean = sifter().request(REQUEST)
    assert "@" not in str(clean)
    assert str(clean).count("[email]") == 14
    thought = clean.messages[1].parts[0]
    assert isinstance(thought, Reasoning)
    assert thought.signature is None


def test_a_clean_request_is_the_same_object() -> None:
    request = Request(
        "m",
        (
            user("Hello"),
            Message("assistant", (Reasoning("x", ("y",), "sig"), ToolCall("a", "b", '{"c":[1]}'))),
        ),
        tools=(FunctionTool("f", "d", {"type": "object", "required": ["a"]}),),
        metadata={"a": 1},
    )
    assert sifter().request(request) is request


def test_texts_that_were_clean_are_not_searched_again() -> None:
    seen = Seen()
    text = "nothing to be seen here " * 10
    assert Sifter(WANTED, seen).plain(text) is text
    assert text in seen
    dirty = text + "bob@example.com"
    assert Sifter(WANTED, seen).plain(dirty) == Sifter(WANTED, seen).plain(dirty) != dirty


@pytest.mark.parametrize("many", [20_000])
def test_what_was_seen_is_bounded(many: int) -> None:
    seen = Seen()
    for number in range(many):
        seen.add(str(number))
    assert len(seen._hashes) == 16_384
    assert str(many - 1) in seen
    assert "0" not in seen
