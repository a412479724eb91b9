"""Streams in Anthropic's words: every event judged by the official types, all of them by its accumulator."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic as Client
from anthropic import APIStatusError
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaRawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from assay import types
from assay.errors import BadResponse, ProviderUnavailable, UnsupportedFeature
from assay.server.anthropic import MESSAGES, MessageStream
from assay.types import (
    Assembly,
    Audio,
    AudioDelta,
    Choice,
    Completed,
    Delta,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Image,
    Link,
    Opaque,
    OpaqueDelta,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    WireData,
    stream_of,
)

OFFICIAL: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
BETA: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
}
CITATION = {
    "type": "char_location",
    "cited_text": "in",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 2,
    "file_id": None,
}
SEARCH = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "x"},
    "caller": {"type": "direct"},
}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [], "caller": None}


def streamed(*deltas: Delta, finish: Finish = Finish("stop"), usage: Usage | None = None) -> bytes:  # noqa: B008
    encoder = MESSAGES.stream(None)
    events: list[Event] = [Started("msg_1", "m"), *deltas, Finished(finish), Ended(usage)]
    return b"".join(encoder.encode(event) for event in events)


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events but pings, once they have kept the grammar of the stream and the official types."""
    events: list[dict[str, Any]] = []
    for frame in data.decode().removesuffix("\n\n").split("\n\n"):
        name, line = frame.split("\n")
        event = json.loads(line.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] != "ping":
            official = OFFICIAL.validate_python(event, strict=False)
            assert official.type == event["type"]
            assert not official.model_extra
            BETA.validate_python(event, strict=False)
            events.append(event)
    assert_grammar(events)
    return events


def assert_grammar(events: list[dict[str, Any]]) -> None:
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    open_: str | None = None
    index = -1
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert open_ is None
                index += 1
                open_ = event["content_block"]["type"]
            case "content_block_delta":
                assert open_ is not None
                assert event["delta"]["type"] in DELTAS[open_]
            case "content_block_stop":
                assert open_ is not None
                open_ = None
            case kind:
                pytest.fail(kind)
        assert event["index"] == index
    assert open_ is None


def accumulated(data: bytes) -> dict[str, Any]:
    """The message that the official client makes of it."""
    message: Any = None
    inputs: dict[int, bytes] = {}
    for event in events_of(data):
        official = OFFICIAL.validate_python(event)
        message = accumulate_event(event=official, current_snapshot=message, json_bufs=inputs)
    made: dict[str, Any] = message.to_dict(mode="json", exclude_unset=False)
    return made


def whole(*parts: Part, finish: Finish = Finish("stop"), usage: Usage | None = None) -> Response:  # noqa: B008
    return Response("msg_1", "m", (Choice(types.Message("assistant", parts), finish),), usage=usage)


def written(response: Response) -> dict[str, Any]:
    made = Message.model_validate_json(MESSAGES.write(response, None).body, strict=True)
    body: dict[str, Any] = made.to_dict(mode="json", exclude_unset=False)
    return body


def content(data: bytes) -> list[dict[str, Any]]:
    return [
        {name: block[name] for name in block if name != "caller"} for block in accumulated(data)["content"]
    ]


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said, "citations": None}


def call(id_: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": "f", "input": arguments, "toolset_name": None}


# --- one after the other -------------------------------------------------------------------------


def test_the_frames_of_a_text() -> None:
    data = streamed(TextDelta("H"), TextDelta("i\n"), usage=Usage(input=3, output=2, reasoning=1))
    events = events_of(data)
    start = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": None,
    }
    assert {name: events[0]["message"][name] for name in start} == start
    assert events[0]["message"]["usage"]["output_tokens"] == 0
    assert events[1:] == [
        {"type": "content_block_start", "index": 0, "content_block": text("")},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "H"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "i\n"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "stop_details": None,
                "container": None,
            },
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 3,
                "output_tokens_details": {"thinking_tokens": 1},
                "server_tool_use": None,
            },
        },
        {"type": "message_stop"},
    ]
    assert data.count(b"event: ping") == data.count(b"event: message_start") == 1


def test_the_first_frames_come_at_once() -> None:
    encoder = MessageStream()
    assert encoder.encode(Started("msg_1", "m")).startswith(b"event: message_start\n")
    assert b'"text":"Hi"' in encoder.encode(TextDelta("Hi"))
    assert encoder.encode(TextDelta("")) == b""


def test_the_beginning_tells_the_usage_that_is_known_by_then() -> None:
    begun = Started("msg_1", "m", usage=Usage(input=9, cache_read=4, output=1))
    told = json.loads(MessageStream().encode(begun).split(b"\n")[1][6:])["message"]["usage"]
    assert (told["input_tokens"], told["cache_read_input_tokens"], told["output_tokens"]) == (9, 4, 1)


def test_all_kinds_of_blocks() -> None:
    data = streamed(
        ReasoningDelta("h", 0),
        ReasoningDelta("m", 0),
        ReasoningDelta(part=0, signature="c2ln"),
        ReasoningDelta(part=1, encrypted="ZW5j"),
        OpaqueDelta(2, Opaque("anthropic", SEARCH)),
        OpaqueDelta(3, Opaque("anthropic", FOUND)),
        TextDelta("Hi", 4),
        TextDelta("", 4, annotations=(CITATION, {"type": "url_citation"})),
        ToolCallDelta(5, id="toolu_1", name="f", arguments='{"a'),
        ToolCallDelta(5, arguments='":1}'),
        ToolCallDelta(6, id="toolu_2", name="f"),
        finish=Finish("tool_calls"),
    )
    assert content(data) == [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        {name: SEARCH[name] for name in SEARCH if name != "caller"},
        {name: FOUND[name] for name in FOUND if name != "caller"},
        {"type": "text", "text": "Hi", "citations": [CITATION]},
        call("toolu_1", a=1),
        call("toolu_2"),
    ]
    assert accumulated(data)["stop_reason"] == "tool_use"
    starts = [event for event in events_of(data) if event["type"] == "content_block_start"]
    assert starts[2]["content_block"]["input"] == {}, "clients put the input together from deltas"


def test_what_says_nothing_opens_no_block() -> None:
    """Servers of OpenAI's API begin a turn of calls with an empty text."""
    data = streamed(TextDelta(""), ReasoningDelta(part=1, id="rs_1"), ToolCallDelta(2, id="a", name="f"))
    assert content(data) == [call("a")]
    assert content(streamed()) == []


def test_a_summary_is_a_thought_and_what_is_encrypted_follows_it() -> None:
    data = streamed(
        ReasoningDelta(part=0, encrypted="early"),
        ReasoningDelta(part=0, summary="so"),
        ReasoningDelta(part=0, encrypted="openai-responses:e"),
        TextDelta("x", 1),
    )
    assert content(data) == [
        {"type": "thinking", "thinking": "so", "signature": ""},
        {"type": "redacted_thinking", "data": "openai-responses:e"},
        text("x"),
    ]


def test_a_refusal() -> None:
    message = accumulated(streamed(RefusalDelta("no"), RefusalDelta(".")))
    assert message["stop_reason"] == "refusal"
    assert message["stop_details"] == {"type": "refusal", "category": None, "explanation": None}
    assert [block["text"] for block in message["content"]] == ["no."]


def test_a_call_without_an_id_gets_one() -> None:
    deltas = (TextDelta("x"), ToolCallDelta(1, name="f", arguments="{}"))
    ids = {content(streamed(*deltas))[1]["id"] for _ in range(2)}
    assert ids == {"toolu_msg_1_1"}
    assert written(whole(Text("x"), ToolCall("", "f", "{}")))["content"][1]["id"] == "toolu_msg_1_1"


def test_what_anthropic_alone_said_is_said_again() -> None:
    container = {"id": "c", "expires_at": "2030-01-01T00:00:00Z", "skills": None}
    counted = {"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}}
    encoder = MessageStream()
    first = Extra("anthropic", {"usage": {"service_tier": "standard"}})
    last = Extra("anthropic", {"container": container, "usage": counted})
    events: list[Event] = [
        Started("msg_1", "m", extra=first),
        Finished(Finish("stop_sequence", stop_sequence="END")),
        Ended(Usage(), extra=last),
    ]
    message = accumulated(b"".join(encoder.encode(event) for event in events))
    assert message["container"]["id"] == "c"
    assert message["stop_sequence"] == "END"
    assert message["usage"]["service_tier"] == "standard"
    assert message["usage"]["server_tool_use"] == counted["server_tool_use"]


# --- by turns ------------------------------------------------------------------------------------


def test_calls_that_grow_by_turns_come_one_after_the_other() -> None:
    deltas = (
        ToolCallDelta(0, id="a", name="f", arguments='{"x'),
        ToolCallDelta(1, id="b", name="f", arguments='{"y"'),
        ToolCallDelta(2, id="c", name="f"),
        ToolCallDelta(1, arguments=":2}"),
        ToolCallDelta(0, arguments='":1}'),
        ToolCallDelta(2, arguments="{}"),
    )
    assert content(streamed(*deltas)) == [call("a", x=1), call("b", y=2), call("c")]


def test_an_inner_brace_does_not_end_a_call() -> None:
    deltas = (
        ToolCallDelta(0, id="a", name="f", arguments='{"x":{}'),
        ToolCallDelta(1, id="b", name="f", arguments="{}"),
        ToolCallDelta(0, arguments="}"),
    )
    assert content(streamed(*deltas)) == [call("a", x={}), call("b")]


def test_a_call_that_is_whole_does_not_hold_up_the_next() -> None:
    encoder = MessageStream()
    encoder.encode(Started("msg_1", "m"))
    encoder.encode(ToolCallDelta(0, id="a", name="f", arguments='{"x":1}'))
    said = encoder.encode(ToolCallDelta(1, id="b", name="f", arguments='{"y'))
    assert b"content_block_stop" in said
    assert b'"id":"b"' in said
    assert encoder.encode(TextDelta("waits", 2)) == b""
    assert b'"text":"waits"' in encoder.encode(ToolCallDelta(1, arguments='":2}'))


def test_late_words_are_a_block_of_their_own() -> None:
    deltas = (
        TextDelta("a"),
        ToolCallDelta(1, id="a", name="f", arguments='{"x'),
        TextDelta("b"),
        TextDelta("c"),
        ToolCallDelta(1, arguments='":1}'),
        ToolCallDelta(1, arguments=" "),
        TextDelta("d"),
    )
    assert content(streamed(*deltas)) == [text("a"), call("a", x=1), text("bcd")]


def test_a_call_that_never_ends_is_not_lost() -> None:
    deltas = (ToolCallDelta(0, id="a", name="f", arguments='{"x":'), TextDelta("b", 1), TextDelta("c", 2))
    data = streamed(*deltas, finish=Finish("length"))
    assert [block["type"] for block in content(data)] == ["tool_use", "text", "text"]
    assert accumulated(data)["stop_reason"] == "max_tokens"


def test_arguments_after_the_end_of_a_call_are_an_error() -> None:
    encoder = MessageStream()
    for event in (Started("r", "m"), ToolCallDelta(0, id="a", name="f", arguments="{}"), TextDelta("x", 1)):
        encoder.encode(event)
    with pytest.raises(BadResponse, match="whole already"):
        encoder.encode(ToolCallDelta(0, arguments='{"x":1}'))


def test_a_part_that_changes_its_kind_is_an_error() -> None:
    encoder = MessageStream()
    encoder.encode(Started("r", "m"))
    encoder.encode(TextDelta("x"))
    with pytest.raises(BadResponse, match="changed its kind"):
        encoder.encode(ReasoningDelta("x"))


# --- whole replies, errors -----------------------------------------------------------------------

PARTS = (
    Reasoning("hm", signature="s"),
    Reasoning(encrypted="e"),
    Text("Hi", (CITATION,)),
    Opaque("anthropic", SEARCH),
    ToolCall("a", "f", '{"x": [1, 2]}'),
)


def test_a_reply_in_one_piece_becomes_a_whole_stream() -> None:
    usage = Usage(input=1, cache_read=2, cache_write=3, cache_write_1h=4, output=5, reasoning=6)
    reply = whole(*PARTS, finish=Finish("tool_calls"), usage=usage)
    data = MessageStream().encode(Completed(reply))
    assert accumulated(data) == written(reply)
    assert events_of(data)[0]["message"]["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] == 4


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("x", choice=1),
        Finished(Finish("stop"), 1),
        AudioDelta(data=b"x"),
        OpaqueDelta(0, Opaque("openai-responses", {"type": "x"})),
        ToolCallDelta(0, id="a", name="sql", arguments="select", kind="custom"),
        Completed(whole(Image(Link("https://x.test")))),
        Completed(whole(Audio(id="a"))),
        Completed(Response("r", "m", whole(Text("x")).choices * 2)),
    ],
)
def test_what_cannot_be_said_is_refused(event: Event) -> None:
    encoder = MessageStream()
    if not isinstance(event, Completed):
        encoder.encode(Started("r", "m"))
    with pytest.raises(UnsupportedFeature):
        encoder.encode(event)


def test_an_error_ends_the_stream_for_the_official_client() -> None:
    encoder = MessageStream()
    data = encoder.encode(Started("r", "m")) + encoder.encode(TextDelta("Hi"))
    data += encoder.error(ProviderUnavailable("gone"))

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with Client(api_key="k", base_url="http://x.test", http_client=http_client) as client:
        stream = client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(APIStatusError) as caught:
            list(stream)
    assert caught.value.type == "overloaded_error"
    assert "gone" in str(caught.value)


def test_the_bytes_of_an_upstream_that_speaks_so_are_not_touched() -> None:
    data = b"event: ping\ndata: {}\n\n"
    assert MessageStream().wire(data) == MessageStream().encode(WireData(data)) == data
    assert MessageStream.content_type.startswith(b"text/event-stream")


# --- properties ----------------------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=9)
VALUES = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3)
SAID: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, st.text(max_size=9), st.sampled_from([(), (CITATION,)])),
    st.builds(Refusal, st.text(max_size=9)),
    st.builds(Reasoning, st.text(max_size=9), signature=st.none() | WORDS),
    st.builds(Reasoning, summary=st.tuples(WORDS), encrypted=st.none() | WORDS),
    st.builds(Reasoning, encrypted=WORDS),
    st.builds(ToolCall, WORDS, WORDS, VALUES.map(json.dumps)),
    st.sampled_from([Opaque("anthropic", SEARCH), Opaque("anthropic", FOUND)]),
)
FINISHES = st.sampled_from(["stop", "length", "tool_calls", "refusal", "content_filter", "other"]).map(Finish)
USAGES = st.none() | st.builds(Usage, *[st.integers(0, 99)] * 11)
REPLIES = st.builds(
    lambda parts, finish, usage: whole(*parts, finish=finish, usage=usage),
    st.lists(SAID, max_size=5),
    FINISHES,
    USAGES,
)


def told_apart(message: dict[str, Any]) -> dict[str, Any]:
    """Without what a stream cannot tell: when it begins, the split of what was written to the cache."""
    return {**message, "usage": {**message["usage"], "cache_creation": None}}


@given(REPLIES)
def test_a_stream_says_what_the_whole_reply_says(reply: Response) -> None:
    encoder = MessageStream()
    data = b"".join(encoder.encode(event) for event in stream_of(reply))
    assert told_apart(accumulated(data)) == told_apart(written(reply))
    assert accumulated(MessageStream().encode(Completed(reply))) == written(reply)


def pieces(event: Event, sizes: list[int]) -> list[Event]:
    """The same, in several deltas."""
    if not isinstance(event, TextDelta | ToolCallDelta) or not (
        said := event.text if isinstance(event, TextDelta) else event.arguments
    ):
        return [event]
    cuts = sorted({0, *(size % len(said) for size in sizes), len(said)})
    texts = [said[start:end] for start, end in pairwise(cuts)]
    if isinstance(event, TextDelta):
        later: list[Event] = [TextDelta(piece, event.part) for piece in texts[1:]]
        return [types.replace(event, text=texts[0]), *later]
    rest: list[Event] = [ToolCallDelta(event.part, arguments=piece) for piece in texts[1:]]
    return [types.replace(event, arguments=texts[0]), *rest]


@given(REPLIES, st.lists(st.integers(0, 9), max_size=3), st.randoms(use_true_random=False))
def test_parts_that_grow_by_turns_lose_nothing(reply: Response, sizes: list[int], random: Any) -> None:
    """Whatever the order: all that was said is said, calls are whole, blocks do not nest."""
    started, *deltas, finished, ended = stream_of(reply)
    queues = [pieces(event, sizes) for event in deltas]
    mixed: list[Event] = []
    while queues := [queue for queue in queues if queue]:
        mixed.append(random.choice(queues).pop(0))
    events = [started, *mixed, finished, ended]
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    encoder = MessageStream()
    got = accumulated(b"".join(encoder.encode(event) for event in events))["content"]
    expected = written(reply)["content"]
    for kind in ("tool_use", "redacted_thinking", "server_tool_use", "web_search_tool_result"):
        key = json.dumps
        assert sorted(key(block) for block in got if block["type"] == kind) == sorted(
            key(block) for block in expected if block["type"] == kind
        )
    letters = [sorted("".join(block.get("text", "") for block in made)) for made in (got, expected)]
    assert letters[0] == letters[1]
