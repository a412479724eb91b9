"""The grammar of a streamed reply, and the fold from events to a Response."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.types import (
    Assembly,
    Audio,
    Choice,
    Completed,
    Cost,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    assistant,
    stream_of,
    user,
)


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


words = st.text(max_size=8)
parts = st.one_of(
    st.builds(Text, words, annotations=st.just(()), signature=st.none() | words),
    st.builds(Refusal, words),
    st.builds(
        Reasoning,
        words,
        summary=st.lists(words, min_size=1, max_size=1).map(tuple) | st.just(()),
        signature=st.none() | words,
        encrypted=st.none() | words,
        id=st.none() | words,
    ),
    st.builds(
        ToolCall,
        id=words,
        name=words,
        arguments=words,
        kind=st.sampled_from(["function", "custom"]),
        signature=st.none() | words,
    ),
    st.builds(
        Audio,
        st.builds(Inline, st.just("audio/wav"), st.binary(min_size=1, max_size=5)),
        transcript=words.filter(bool),
        id=words,
    ),
    st.builds(Opaque, st.just("anthropic"), st.dictionaries(words, words, max_size=2)),
)
choices = st.builds(
    Choice,
    st.builds(Message, st.just("assistant"), st.lists(parts, max_size=4).map(tuple)),
    st.builds(Finish, st.sampled_from(["stop", "length", "tool_calls"]), raw=st.none() | words),
)
responses = st.builds(
    Response,
    id=words,
    model=words,
    choices=st.lists(choices, min_size=1, max_size=3).map(tuple),
    usage=st.none() | st.builds(Usage, input=st.integers(0, 9), output=st.integers(0, 9)),
    created_s=st.integers(0, 9),
    provider=words,
)


@given(responses)
def test_a_reply_that_is_streamed_folds_back_to_itself(response: Response) -> None:
    assert folded(stream_of(response)) == response


@given(responses)
def test_values_survive_json(response: Response) -> None:
    assert msgspec.json.decode(msgspec.json.encode(response), type=Response) == response


@given(responses, st.data())
def test_texts_may_be_split_anywhere(response: Response, data: st.DataObject) -> None:
    events: list[Event] = []
    for event in stream_of(response):
        if isinstance(event, TextDelta):
            cut = data.draw(st.integers(0, len(event.text)))
            rest = TextDelta(event.text[cut:], event.part, event.choice, signature=event.signature)
            events += [TextDelta(event.text[:cut], event.part, event.choice), rest]
        elif isinstance(event, ToolCallDelta):
            cut = data.draw(st.integers(0, len(event.arguments)))
            first = msgspec.structs.replace(event, arguments=event.arguments[:cut])
            rest_call = ToolCallDelta(
                event.part, event.choice, arguments=event.arguments[cut:], kind=event.kind
            )
            events += [first, rest_call]
        else:
            events.append(event)
    assert folded(events) == response


STARTED, TEXT, DONE, ENDED = Started("i", "m"), TextDelta("a"), Finished(Finish("stop")), Ended()
WHOLE = Completed(Response("i", "m", (Choice(assistant("a"), Finish("stop")),)))


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([TEXT], "before Started"),
        ([STARTED, STARTED], "Started twice"),
        ([STARTED, TEXT, ENDED], "before every choice was Finished"),
        ([STARTED, ENDED], "before every choice was Finished"),
        ([STARTED, TEXT, DONE, ENDED, TEXT], "after the end"),
        ([STARTED, WHOLE], "inside a stream"),
        ([WHOLE, ENDED], "after the end"),
        ([STARTED, TEXT, ReasoningDelta("b", part=0)], "changed from Text to Reasoning"),
    ],
)
def test_what_breaks_the_grammar_is_refused(events: list[Event], complaint: str) -> None:
    assembly = Assembly()
    with pytest.raises(ValueError, match=complaint):
        for event in events:
            assembly.add(event)


@pytest.mark.parametrize("events", [[], [STARTED], [STARTED, TEXT], [STARTED, TEXT, DONE]])
def test_a_reply_that_was_cut_off_is_incomplete_and_keeps_what_came(events: list[Event]) -> None:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert not assembly.complete
    response = assembly.response()
    if TEXT in events:
        assert response.text == "a"
        assert response.choices[0].finish.reason == ("stop" if DONE in events else "other")


EVERY_PART: tuple[Part, ...] = (
    Text("t", annotations=({"url": "u"},)),
    Image(Link("https://x/y.png"), detail="low"),
    Image(Inline("image/png", b"\x00\xff")),
    Opaque("gemini", {"executable_code": {"code": "1"}}),
    ToolResult("c1", (Text("r"), Image(Inline("image/png", b"1"))), is_error=True),
)


def test_a_request_with_every_kind_of_part_survives_json() -> None:
    request = Request("m", (user("a"), Message("tool", EVERY_PART)), extra=Extra("openai", {"store": True}))
    assert msgspec.json.decode(msgspec.json.encode(request), type=Request) == request


def test_values_are_frozen_and_equal_by_content() -> None:
    assert user("a") == user("a")
    with pytest.raises(AttributeError):
        user("a").role = "system"  # type: ignore[misc]


def test_every_token_is_in_one_class() -> None:
    usage = Usage(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    assert usage.tokens_in == 127
    assert usage.tokens_out == 1920
    assert usage.tokens == 2047


def test_unknown_cost_is_not_zero() -> None:
    assert Cost("unknown").usd is None
