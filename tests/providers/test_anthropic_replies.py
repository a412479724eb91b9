"""What Anthropic answers: replies, streams and refusals, against the official types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as OfficialMessage
from anthropic.types import MessageTokensCount, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from assay.errors import (
    AssayError,
    BadResponse,
    ProviderError,
    ProviderUnavailable,
)
from assay.providers.anthropic import Anthropic
from assay.providers.anthropic.vocabulary import Tally, WireCacheCreation, WireIteration, WireUsage
from assay.providers.sse import SseDecoder
from assay.types import (
    Assembly,
    Choice,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Message,
    Opaque,
    OpaqueDelta,
    Reasoning,
    ReasoningDelta,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    replace,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "anthropic"
WIRE = Anthropic(clock=lambda: 1_000_000_000.0)
ASK = Request("claude-opus-5", (user("Hi"),))
COUNT = replace(ASK, operation="count_tokens")


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def frames_of(body: bytes) -> list[tuple[str, str]]:
    decoder = SseDecoder()
    return [*decoder.feed(body), *decoder.end()]


def events_of(frames: list[tuple[str, str]]) -> list[Event]:
    decoder = WIRE.events(ASK)
    events = [event for frame in frames for event in decoder.feed(*frame)]
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def frame(kind: str, **fields: Any) -> tuple[str, str]:
    return kind, json.dumps({"type": kind, **fields})


def start(**fields: Any) -> tuple[str, str]:
    usage = {"input_tokens": 9, "output_tokens": 1}
    message = {"id": "m1", "model": "claude-opus-5", "content": [], "usage": usage, **fields}
    return frame("message_start", message=message)


def opened(block: dict[str, Any], index: int = 0) -> tuple[str, str]:
    return frame("content_block_start", index=index, content_block=block)


def delta(kind: str, index: int = 0, **fields: Any) -> tuple[str, str]:
    return frame("content_block_delta", index=index, delta={"type": kind, **fields})


def closed(index: int = 0) -> tuple[str, str]:
    return frame("content_block_stop", index=index)


def stopped(reason: str | None = "end_turn", **usage: Any) -> tuple[str, str]:
    return frame("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)


END = frame("message_stop")
TEXT = {"type": "text", "text": ""}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}


def message(*content: Any, **fields: Any) -> bytes:
    usage = {"input_tokens": 9, "output_tokens": 5}
    whole = {
        "id": "m1",
        "type": "message",
        "model": "claude-opus-5",
        "content": list(content),
        "usage": usage,
    }
    return json.dumps({**whole, "stop_reason": "end_turn", "stop_sequence": None, **fields}).encode()


# --- whole replies -------------------------------------------------------------------------------

CITATION = {
    "type": "web_search_result_location",
    "url": "https://example.org/eiffel",
    "title": "Eiffel tower",
    "encrypted_index": "Eo8BCioIAhgB",
    "cited_text": "The tower is 330 metres tall",
}
FOUND = [
    {
        "type": "web_search_result",
        "url": "https://example.org/eiffel",
        "title": "Eiffel tower",
        "encrypted_content": "EqgfCioIARgB",
        "page_age": None,
    }
]
QUERY = {"query": "height of the Eiffel tower"}
SEARCH = Response(
    "msg_01Search",
    "claude-opus-5-20260401",
    (
        Choice(
            Message(
                "assistant",
                (
                    Text("I'll look it up."),
                    Opaque(
                        "anthropic",
                        {
                            "type": "server_tool_use",
                            "id": "srvtoolu_01A",
                            "name": "web_search",
                            "input": QUERY,
                        },
                    ),
                    Opaque(
                        "anthropic",
                        {
                            "type": "web_search_tool_result",
                            "tool_use_id": "srvtoolu_01A",
                            "content": FOUND,
                        },
                    ),
                    Text("It is 330 m high.", (CITATION,)),
                ),
            ),
            Finish("stop", "end_turn"),
        ),
    ),
    usage=Usage(input=210, cache_read=1024, cache_write=1048, cache_write_1h=1000, output=90),
    extra=Extra(
        "anthropic",
        {
            "usage": {
                "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
                "service_tier": "standard",
                "inference_geo": "not_available",
            }
        },
    ),
)
TOOLS = Response(
    "msg_01Tools",
    "claude-opus-5-20260401",
    (
        Choice(
            Message(
                "assistant",
                (
                    Reasoning("Two cities, two calls.", signature="EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
                    Reasoning(encrypted="EmwKAhgBEgy3va3pzix"),
                    ToolCall("toolu_01A", "get_weather", '{"city": "Z\\u00fcrich", "days": 1.0}'),
                    ToolCall("toolu_01B", "now", "{}"),
                ),
            ),
            Finish("tool_calls", "tool_use"),
        ),
    ),
    usage=Usage(input=12, output=19, reasoning=41),
)


@pytest.mark.parametrize(("name", "expected"), [("search", SEARCH), ("tools", TOOLS)])
def test_a_reply_and_its_stream_say_the_same(name: str, expected: Response) -> None:
    body = fixture(f"message_{name}.json")
    OfficialMessage.model_validate_json(body)
    assert WIRE.decode(ASK, body) == expected
    frames = frames_of(fixture(f"stream_{name}.sse"))
    for kind, data in frames:
        if kind != "ping":
            TypeAdapter(RawMessageStreamEvent).validate_json(data)
    streamed = folded(events_of(frames))
    if name == "tools":  # its pieces are characters, the whole reply's are as they were escaped
        call = expected.tool_calls[0]
        assert json.loads(streamed.tool_calls[0].arguments) == json.loads(call.arguments)
        parts = [*expected.message.parts]
        parts[2] = replace(call, arguments=streamed.tool_calls[0].arguments)
        choice = replace(expected.choices[0], message=Message("assistant", tuple(parts)))
        expected = replace(expected, choices=(choice,))
    assert streamed == expected


GOLDEN = Path(__file__).parents[1] / "compat" / "fixtures" / "anthropic"


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.sse")))
def test_the_golden_streams_say_what_the_golden_replies_say(name: str) -> None:
    whole = GOLDEN / f"{name}.json"
    frames = frames_of((GOLDEN / f"{name}.sse").read_bytes())
    if not whole.exists():
        with pytest.raises(ProviderError):
            events_of(frames)
        return
    expected, streamed = WIRE.decode(ASK, whole.read_bytes()), folded(events_of(frames))

    def plain(response: Response) -> Response:
        parts = [
            replace(part, arguments=json.dumps(json.loads(part.arguments)))
            if isinstance(part, ToolCall)
            else part
            for part in response.message.parts
        ]
        told = replace(response.choices[0], message=Message("assistant", tuple(parts)))
        return replace(response, choices=(told,))

    assert plain(streamed) == plain(expected)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context_exceeded"),
        ("a_new_one", "other"),
    ],
)
def test_stop_reasons(raw: str, reason: str) -> None:
    response = WIRE.decode(ASK, message(stop_reason=raw))
    assert response.choices[0].finish == Finish(reason, raw)  # type: ignore[arg-type]
    assert folded(events_of([start(), stopped(raw), END])).choices == response.choices


def test_a_stop_sequence_is_named() -> None:
    finish = WIRE.decode(ASK, message(stop_reason="stop_sequence", stop_sequence="END")).choices[0].finish
    assert finish == Finish("stop_sequence", "stop_sequence", "END")


def test_what_has_no_canonical_place_is_kept() -> None:
    fields = {"container": {"id": "c1"}, "stop_details": {"type": "refusal"}, "news": 1}
    whole = WIRE.decode(ASK, message(stop_reason="refusal", diagnostics=None, **fields))
    assert whole.extra == Extra("anthropic", fields)
    last = {"stop_reason": "refusal", "container": {"id": "c1"}, "stop_details": {"type": "refusal"}}
    told = frame("message_delta", delta=last, usage={"server_tool_use": {"web_search_requests": 2}})
    events = events_of([start(news=1, usage={"input_tokens": 1, "service_tier": "batch"}), told, END])
    assert isinstance(events[0], Started)
    assert events[0].extra == Extra("anthropic", {"news": 1, "usage": {"service_tier": "batch"}})
    usage = {"service_tier": "batch", "server_tool_use": {"web_search_requests": 2}}
    assert folded(events).extra == Extra("anthropic", {**fields, "usage": usage})


def test_a_call_without_an_id_gets_the_same_one_streamed_or_not() -> None:
    bare = {"type": "tool_use", "name": "look", "input": {}}
    whole = WIRE.decode(ASK, message({"type": "text", "text": "a"}, bare))
    assert whole.tool_calls == (ToolCall("toolu_m1_1", "look", "{}"),)
    frames = [start(), opened({"type": "text", "text": "a"}), closed(), opened(bare, 1), closed(1)]
    assert folded(events_of([*frames, stopped(), END])).message == whole.message


def test_a_thought_without_a_signature_has_none() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    whole = WIRE.decode(ASK, message(thought))
    assert whole.message.parts == (Reasoning("Hm."),)
    frames = [start(), opened(thought), closed(), stopped(), END]
    assert folded(events_of(frames)).message == whole.message


def test_who_called_is_kept_unless_it_is_the_model() -> None:
    caller = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
    call = WIRE.decode(ASK, message({**TOOL, "caller": caller, "toolset_name": "browser"})).tool_calls[0]
    assert call.extra == Extra("anthropic", {"caller": caller, "toolset_name": "browser"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 5000,
        b"\xff",
        b"<html>busy</html>",
        b"{}",
        message(stop_reason=None),
        message(content=None),
        message({"text": "no type"}),
        message({"type": "text", "text": 1}),
        message({"type": "text", "text": "a", "citations": {}}),
        message({"type": "thinking"}),
        message({"type": "redacted_thinking", "data": None}),
        message({**TOOL, "input": "text"}),
        message({**TOOL, "name": ""}),
        message({**TOOL, "id": 1}),
        message("text"),
        message(usage={"input_tokens": "9"}),
        message(usage=[]),
    ],
)
def test_a_reply_that_is_no_message_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse) as caught:
        WIRE.decode(ASK, body)
    assert caught.value.upstream_status == 200


def test_an_error_inside_a_200_is_that_error() -> None:
    with pytest.raises(ProviderUnavailable, match="Overloaded"):
        WIRE.decode(ASK, fixture("error_529.json"))
    with pytest.raises(ProviderUnavailable):
        WIRE.decode(COUNT, fixture("error_529.json"))


def test_a_count() -> None:
    body = b'{"input_tokens": 42, "context_management": null}'
    MessageTokensCount.model_validate_json(body)
    assert WIRE.decode(COUNT, body) == Response("", ASK.model, (), usage=Usage(input=42))
    for bad in (b"{}", b"42", b'{"input_tokens": -1}', b'{"input_tokens": "x"}', b""):
        with pytest.raises(BadResponse):
            WIRE.decode(COUNT, bad)


# --- usage ---------------------------------------------------------------------------------------


def tallied(*told: WireUsage) -> Usage | None:
    tally = Tally()
    for usage in told:
        tally.tell(usage)
    return tally.usage()


def test_usage_is_set_and_an_absent_number_does_not_clear_it() -> None:
    frames = [
        start(usage={"input_tokens": 100, "cache_read_input_tokens": 7, "output_tokens": 1}),
        stopped(None, output_tokens=3),
        stopped(output_tokens=20, output_tokens_details=None, input_tokens=None),
        END,
    ]
    assert folded(events_of(frames)).usage == Usage(input=100, cache_read=7, output=20)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((), None),
        ((WireUsage(cache_read_input_tokens=3),), None),
        ((WireUsage(input_tokens=1),), Usage(input=1)),
        ((WireUsage(1, 2, cache_creation_input_tokens=9),), Usage(input=1, output=2, cache_write=9)),
        (
            (WireUsage(1, 2, cache_creation=WireCacheCreation(4, 5)),),
            Usage(input=1, output=2, cache_write=4, cache_write_1h=5),
        ),
        (
            (WireUsage(1, 2, 9, cache_creation=WireCacheCreation(0, 50)),),
            Usage(input=1, output=2, cache_write=0, cache_write_1h=9),
        ),
        ((WireUsage(-1, -2, -3, -4),), Usage()),
        (
            (WireUsage(1, 2, iterations=[WireIteration(5, 6, type="compaction"), WireIteration(1, 2)]),),
            Usage(input=6, output=8),
        ),
    ],
)
def test_usage_in_disjoint_classes(told: tuple[WireUsage, ...], expected: Usage | None) -> None:
    assert tallied(*told) == expected


# --- streams -------------------------------------------------------------------------------------


def test_the_events_of_a_stream() -> None:
    frames = [
        start(),
        ("ping", '{"type": "ping"}'),
        opened(TEXT),
        delta("text_delta", text="He"),
        delta("text_delta", text="llo"),
        closed(),
        stopped(output_tokens=2),
        END,
    ]
    assert events_of(frames) == [
        Started("m1", "claude-opus-5", usage=Usage(input=9, output=1)),
        TextDelta("", 0),
        TextDelta("He", 0),
        TextDelta("llo", 0),
        Finished(Finish("stop", "end_turn")),
        Ended(Usage(input=9, output=2)),
    ]


def test_blocks_may_grow_side_by_side() -> None:
    second = {**TOOL, "id": "toolu_2"}
    frames = [
        start(),
        opened(TOOL),
        opened(second, 1),
        delta("input_json_delta", 1, partial_json='{"b"'),
        delta("input_json_delta", 0, partial_json='{"a": 1}'),
        closed(0),
        delta("input_json_delta", 1, partial_json=": 2}"),
        closed(1),
        stopped("tool_use"),
        END,
    ]
    assert folded(events_of(frames)).tool_calls == (
        ToolCall("toolu_1", "look", '{"a": 1}'),
        ToolCall("toolu_2", "look", '{"b": 2}'),
    )


@pytest.mark.parametrize(
    ("given", "pieces", "expected"),
    [({}, [], "{}"), ({}, [""], "{}"), ({"a": 1}, [], '{"a": 1}'), ({"a": 1}, ['{"a"', ":2}"], '{"a":2}')],
)
def test_the_arguments_of_a_call_may_come_with_its_start(
    given: dict[str, int], pieces: list[str], expected: str
) -> None:
    grown = [delta("input_json_delta", partial_json=piece) for piece in pieces]
    frames = [start(), opened({**TOOL, "input": given}), *grown, closed(), stopped("tool_use"), END]
    assert folded(events_of(frames)).tool_calls[0].arguments == expected


def test_a_block_may_begin_with_something_in_it() -> None:
    frames = [
        start(),
        opened({"type": "text", "text": "Hel", "citations": [{"type": "char_location"}]}),
        delta("text_delta", text="lo"),
        opened({"type": "thinking", "thinking": "H", "signature": "c2ln"}, 1),
        delta("thinking_delta", 1, thinking="m."),
        stopped(),
        END,
    ]
    text, thought = folded(events_of(frames)).message.parts
    assert text == Text("Hello", ({"type": "char_location"},))
    assert thought == Reasoning("Hm.", signature="c2ln")


def test_a_block_that_only_this_api_knows_comes_whole_when_it_ends() -> None:
    frames = [
        start(),
        opened({"type": "compaction", "content": None}),
        delta("compaction_delta", content="Summary", encrypted_content="ZW5j"),
        opened({"type": "connector_text", "text": "a", "n": 1}, 1),
        delta("text_delta", 1, text="b"),
        delta("thinking_delta", 1, thinking="t"),
        delta("citations_delta", 1, citation={"c": 1}),
        delta("signature_delta", 1, signature="s"),
        closed(1),
    ]
    decoder = WIRE.events(ASK)
    events = [event for one in frames for event in decoder.feed(*one)]
    body = {"type": "connector_text", "text": "ab", "n": 1, "thinking": "t", "citations": [{"c": 1}]}
    assert events[1:] == [OpaqueDelta(1, Opaque("anthropic", {**body, "signature": "s"}))]
    rest = [event for one in (stopped("compaction"), END) for event in decoder.feed(*one)]
    compaction = {"type": "compaction", "content": "Summary", "encrypted_content": "ZW5j"}
    assert rest[0] == OpaqueDelta(0, Opaque("anthropic", compaction))
    assert rest[1] == Finished(Finish("pause", "compaction"))


def test_unknown_events_and_deltas_are_passed_over() -> None:
    frames = [
        ("ping", "pong"),
        start(),
        frame("news", n=1),
        opened(TEXT),
        delta("news_delta", n=1),
        closed(),
        stopped(),
        END,
    ]
    assert folded(events_of([*frames, frame("news"), ("message", "[DONE]")])).text == ""


def test_an_event_is_known_by_its_type_or_else_by_its_name() -> None:
    """Some servers leave out the one, some the other."""
    frames = [start(), opened(TEXT), delta("text_delta", text="a"), closed(), stopped(), END]
    nameless = [("message", data) for _, data in frames]
    assert folded(events_of(nameless)).text == "a"
    typeless = []
    for kind, data in frames:
        fields = json.loads(data)
        del fields["type"]
        typeless.append((kind, json.dumps(fields)))
    assert folded(events_of(typeless)).text == "a"


@pytest.mark.parametrize(
    ("block", "kind", "fields"),
    [
        (TEXT, "thinking_delta", {"thinking": "a"}),
        (TEXT, "input_json_delta", {"partial_json": "{"}),
        (TEXT, "signature_delta", {"signature": "s"}),
        (TOOL, "text_delta", {"text": "a"}),
        ({"type": "thinking", "thinking": ""}, "text_delta", {"text": "a"}),
        ({"type": "thinking", "thinking": ""}, "citations_delta", {"citation": {}}),
        ({"type": "redacted_thinking", "data": "d"}, "thinking_delta", {"thinking": "a"}),
        (TEXT, "text_delta", {}),
        (TEXT, "text_delta", {"text": 1}),
        (TEXT, "citations_delta", {}),
        (TEXT, "", {}),
        (TOOL, "input_json_delta", {}),
        ({"type": "server_tool_use"}, "input_json_delta", {}),
    ],
)
def test_a_delta_that_does_not_fit_its_block_is_a_bad_response(
    block: dict[str, Any], kind: str, fields: dict[str, Any]
) -> None:
    decoder = WIRE.events(ASK)
    for one in (start(), opened(block)):
        decoder.feed(*one)
    with pytest.raises(BadResponse):
        decoder.feed(*delta(kind, **fields))


@pytest.mark.parametrize(
    "frames",
    [
        [start(), start()],
        [("message_start", '{"type": "message_start"}')],
        [opened(TEXT)],
        [delta("text_delta", text="a")],
        [stopped()],
        [start(), opened(TEXT), opened(TEXT)],
        [start(), closed()],
        [start(), opened(TEXT), closed(), delta("text_delta", text="a")],
        [start(), delta("text_delta", 3, text="a")],
        [start(), frame("content_block_start", index=0)],
        [start(), frame("content_block_delta", index=0)],
        [start(), frame("content_block_start", content_block=TEXT)],
        [start(), opened({"type": "tool_use", "input": {}})],
        [start(), opened({"type": "server_tool_use"}), delta("input_json_delta", partial_json="{"), closed()],
        [start(), END],
        [start(), stopped(None), END],
        [("message", "{")],
        [("message", "[]")],
    ],
)
def test_a_stream_that_breaks_the_rules_is_a_bad_response(frames: list[tuple[str, str]]) -> None:
    decoder = WIRE.events(ASK)
    with pytest.raises(BadResponse) as caught:
        for one in frames:
            decoder.feed(*one)
    assert caught.value.upstream_status == 200


@pytest.mark.parametrize("name", ["stream_search.sse", "stream_tools.sse"])
def test_a_stream_that_is_cut_off_is_never_a_success(name: str) -> None:
    frames = frames_of(fixture(name))
    for length in range(len(frames)):
        decoder = WIRE.events(ASK)
        for one in frames[:length]:
            assert not any(isinstance(event, Finished | Ended) for event in decoder.feed(*one))
        with pytest.raises(BadResponse, match="cut off"):
            decoder.end()


@pytest.mark.parametrize("name", ["stream_search.sse", "stream_tools.sse"])
def test_where_the_bytes_are_cut_makes_no_difference(name: str) -> None:
    body = fixture(name)
    whole = events_of(frames_of(body))
    for place in range(0, len(body), 7):
        decoder = SseDecoder()
        frames = [*decoder.feed(body[:place]), *decoder.feed(body[place:]), *decoder.end()]
        assert events_of(frames) == whole


def test_an_error_in_a_stream_is_that_error() -> None:
    decoder = WIRE.events(ASK)
    begin, broken = frames_of(fixture("stream_error.sse"))
    assert len(decoder.feed(*begin)) == 1
    with pytest.raises(ProviderUnavailable, match="Overloaded") as caught:
        decoder.feed(*broken)
    assert (caught.value.retryable, caught.value.upstream_status) == (True, 200)
    with pytest.raises(ProviderUnavailable, match="Overloaded"):
        WIRE.events(ASK).feed(*broken)


@pytest.mark.parametrize("data", ["busy", '"busy"', '{"message": "busy"}', '{"error": "busy"}'])
def test_an_error_event_of_any_shape_is_an_error(data: str) -> None:
    with pytest.raises(ProviderUnavailable, match="busy"):
        WIRE.events(ASK).feed("error", data)


# --- anything at all -----------------------------------------------------------------------------

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_WORDS = st.sampled_from(
    ["text", "thinking", "redacted_thinking", "tool_use", "text_delta", "input_json_delta", "end_turn", "x"]
)
_FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "type",
            "text",
            "thinking",
            "id",
            "name",
            "input",
            "partial_json",
            "stop_reason",
            "signature",
            "data",
        ]
    ),
    _WORDS | _JSON,
    max_size=4,
)
_KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
        "ping",
        "",
    ]
)


@given(st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_typed_error_or_a_reply(body: bytes) -> None:
    for request, reply in ((ASK, body), (COUNT, body), (ASK, message(body.decode("utf-8", "replace")))):
        try:
            WIRE.decode(request, reply)
        except AssayError as error:
            assert error.message
    for status in (200, 400, 500):
        assert isinstance(WIRE.error(status, {}, body), AssayError)


@given(
    st.lists(
        st.tuples(
            _KINDS,
            st.fixed_dictionaries(
                {},
                optional={
                    "type": _KINDS | _JSON,
                    "index": st.integers(0, 2) | _JSON,
                    "message": _FIELDS | _JSON,
                    "content_block": _FIELDS | _JSON,
                    "delta": _FIELDS | _JSON,
                    "usage": _JSON,
                    "error": _JSON,
                },
            ).map(json.dumps)
            | st.text(max_size=20),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_any_events_are_a_typed_error_or_a_reply(frames: list[tuple[str, str]], begun: bool) -> None:
    decoder = WIRE.events(ASK)
    assembly = Assembly()
    try:
        for one in [start(), *frames] if begun else frames:
            for event in decoder.feed(*one):
                assembly.add(event)
        decoder.end()
    except AssayError as error:
        assert error.message
    else:
        assert assembly.complete


@given(
    st.lists(
        st.one_of(
            st.builds(Text, st.text(max_size=9)),
            st.builds(lambda text: Reasoning(text, signature="c2ln"), st.text(max_size=9)),
            st.just(Reasoning(encrypted="ZW5j")),
            st.builds(
                lambda fields: ToolCall("toolu_1", "look", json.dumps(fields)),
                st.dictionaries(st.text(max_size=5), _JSON, max_size=3),
            ),
            st.just(Opaque("anthropic", {"type": "server_tool_use", "id": "s", "input": {"a": 1}})),
        ),
        max_size=5,
    ),
    st.integers(1, 4),
)
def test_what_is_sent_back_is_read_as_it_was_and_streams_the_same(parts: list[Any], size: int) -> None:
    """The blocks of a reply are those of a request: one way there and two ways back."""
    turn = Message(
        "assistant", tuple(part for part in parts if not isinstance(part, Text) or part.text.strip())
    )
    if any(isinstance(part, ToolCall) for part in turn.parts):
        last = max(place for place, part in enumerate(turn.parts) if isinstance(part, ToolCall))
        turn = replace(turn, parts=turn.parts[: last + 1])
    body = json.loads(WIRE.encode(Request("claude-opus-5", (user("Hi"), turn))).body)
    content = body["messages"][1]["content"] if turn.parts else []
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    plain = tuple(
        replace(part, arguments=json.dumps(json.loads(part.arguments)))
        if isinstance(part, ToolCall)
        else part
        for part in turn.parts
    )
    assert WIRE.decode(ASK, message(*blocks)).message.parts == plain
    frames = [start()]
    for index, block in enumerate(blocks):
        frames.extend(_streamed(block, index, size))
    assert folded(events_of([*frames, stopped(), END])).message.parts == plain


def _streamed(block: dict[str, Any], index: int, size: int) -> list[tuple[str, str]]:
    def pieces(text: str) -> list[str]:
        return [text[place : place + size] for place in range(0, len(text), size)]

    empty: dict[str, Any]
    match block["type"]:
        case "text":
            empty, kind, name, whole = {"text": ""}, "text_delta", "text", block["text"]
        case "thinking":
            empty, kind, name, whole = {"thinking": ""}, "thinking_delta", "thinking", block["thinking"]
        case "tool_use" | "server_tool_use":
            empty, kind, name = {"input": {}}, "input_json_delta", "partial_json"
            whole = json.dumps(block["input"])
        case _:
            return [opened(block, index), closed(index)]
    grown = [delta(kind, index, **{name: piece}) for piece in pieces(whole)]
    if "signature" in block:
        grown.append(delta("signature_delta", index, signature=block["signature"]))
    return [opened({**block, **empty}, index), *grown, closed(index)]


def test_the_deltas_of_every_kind_have_their_place() -> None:
    frames = frames_of(fixture("stream_tools.sse"))
    events = [event for event in events_of(frames) if isinstance(event, ReasoningDelta | ToolCallDelta)]
    assert {event.part for event in events} == {0, 1, 2, 3}
    assert [event.id for event in events if isinstance(event, ToolCallDelta) and event.id] == [
        "toolu_01A",
        "toolu_01B",
    ]
