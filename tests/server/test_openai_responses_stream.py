"""Streamed replies of the Responses API: events of the official types that add up to the whole reply."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from assay.errors import AssayError, BadResponse, ProviderUnavailable, RateLimited, UnsupportedFeature
from assay.providers.openai_responses import OpenAIResponses
from assay.providers.sse import SseDecoder
from assay.server.openai_responses import DIALECT, Options, StreamEncoder
from assay.types import (
    Assembly,
    AudioDelta,
    Choice,
    Completed,
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
    Refusal,
    RefusalDelta,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
    replace,
    stream_of,
)

WIRE = OpenAIResponses()
ASK = Request("m", ())
OFFICIAL: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
OWN = "openai-responses"
SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "x"},
}
URL = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
BESIDE = frozenset(
    {"store", "frequency_penalty", "presence_penalty", "extra_content", "status", "bytes", "error"}
)

START = Started("resp_1", "gpt-5", 5)
STOP = (Finished(Finish("stop")), Ended(Usage(input=1, output=2)))


def assert_official(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert set(value.model_extra or ()) <= BESIDE, f"{type(value).__name__}: {value.model_extra}"
        for name in type(value).model_fields:
            assert_official(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            assert_official(item)


def read(data: bytes) -> list[dict[str, Any]]:
    """The events, each checked against the official type."""
    events = []
    for kind, text in SseDecoder().feed(data):
        body = json.loads(text)
        assert body["type"] == kind
        assert_official(OFFICIAL.validate_python(body))
        events.append(body)
    return events


def streamed(*events: Event, how: Options | None = None) -> list[dict[str, Any]]:
    encoder = DIALECT.stream(how)
    found = read(b"".join(encoder.encode(event) for event in events))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def kinds(*events: Event) -> list[str]:
    return [event["type"].removeprefix("response.") for event in streamed(*events)]


def heard(data: bytes) -> Response:
    """What an SDK of the same dialect makes of it: our own reader of upstreams."""
    decoder, assembly = WIRE.events(ASK), Assembly()
    for kind, text in SseDecoder().feed(data):
        for event in decoder.feed(kind, text):
            assembly.add(event)
    decoder.end()
    return assembly.response()


# --- the sequence --------------------------------------------------------------------------------


def test_text() -> None:
    events = streamed(START, TextDelta("Hel"), TextDelta("lo"), *STOP)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["output"] == []
    assert events[6]["text"] == "Hello"
    last = events[-1]["response"]
    assert last["output"] == [events[-2]["item"]]
    assert last["usage"]["output_tokens"] == 2
    ids = {event["item_id"] for event in events if "item_id" in event}
    assert ids == {events[2]["item"]["id"]}


def test_the_short_way_writes_what_the_long_one_does() -> None:
    short, long = StreamEncoder(), StreamEncoder()
    for encoder in (short, long):
        encoder.encode(START)
        encoder.encode(TextDelta("a"))
    note = TextDelta('"b\n', annotations=({"type": "char_location"},))  # has no place, and is left out
    assert short.encode(replace(note, annotations=())) == long.encode(note)


def test_two_texts_are_two_parts_of_a_message() -> None:
    events = streamed(START, TextDelta("a"), TextDelta("b", 1), RefusalDelta("c", 2), *STOP)
    (item,) = events[-1]["response"]["output"]
    assert [part["type"] for part in item["content"]] == ["output_text", "output_text", "refusal"]
    deltas = [event for event in events if event["type"].endswith(".delta")]
    assert [event["content_index"] for event in deltas] == [0, 1, 2]


def test_log_probabilities_and_citations() -> None:
    token = TokenLogprob("Hi", -0.1, b"Hi", (TokenLogprob("Hi", -0.1),))
    events = streamed(
        START,
        TextDelta("Hi", logprobs=(token,)),
        TextDelta("", annotations=(URL, {"type": "char_location"})),
        *STOP,
    )
    delta = next(event for event in events if event["type"] == "response.output_text.delta")
    done = next(event for event in events if event["type"] == "response.output_text.done")
    assert delta["logprobs"] == done["logprobs"]
    assert done["logprobs"][0]["top_logprobs"][0]["token"] == "Hi"
    notes = [event for event in events if event["type"] == "response.output_text.annotation.added"]
    assert [(event["annotation_index"], event["annotation"]) for event in notes] == [(0, URL)]
    assert events[-1]["response"]["output"][0]["content"][0]["annotations"] == [URL]


def test_reasoning_ends_when_the_answer_begins() -> None:
    assert kinds(
        START,
        ReasoningDelta("", id="rs_1"),
        ReasoningDelta("", summary="Thin"),
        ReasoningDelta("", summary="king"),
        ReasoningDelta("deep"),
        ReasoningDelta("", encrypted="E"),
        TextDelta("Hi", 1),
        *STOP,
    ) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_parallel_calls_interleave() -> None:
    events = streamed(
        START,
        ToolCallDelta(0, id="c1", name="f"),
        ToolCallDelta(1, id="c2", name="g", arguments="x", kind="custom"),
        ToolCallDelta(0, arguments="{"),
        ToolCallDelta(1, arguments="y", kind="custom"),
        ToolCallDelta(0, arguments="}"),
        Finished(Finish("tool_calls")),
        Ended(),
    )
    first, second = events[-1]["response"]["output"]
    assert (first["call_id"], first["name"], first["arguments"]) == ("c1", "f", "{}")
    assert (second["call_id"], second["name"], second["input"]) == ("c2", "g", "xy")
    done = [event["type"] for event in events if event["type"].endswith(("arguments.done", "input.done"))]
    assert done == ["response.function_call_arguments.done", "response.custom_tool_call_input.done"]
    assert events[-1]["response"]["usage"] is None


def test_text_that_goes_on_after_a_call_is_not_lost() -> None:
    events = streamed(
        START, TextDelta("a"), ToolCallDelta(1, id="c", name="f", arguments="{}"), TextDelta("b"), *STOP
    )
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert "".join(item["content"][0]["text"] for item in output if item["type"] == "message") == "ab"
    assert len({item["id"] for item in output}) == 3


def test_a_hosted_tools_item_comes_whole() -> None:
    events = streamed(START, OpaqueDelta(0, Opaque(OWN, SEARCH)), TextDelta("Hi", 1), *STOP)
    assert [event["item"] for event in events if event.get("output_index") == 0] == [SEARCH, SEARCH]


@pytest.mark.parametrize(
    ("finish", "status"), [("stop", "completed"), ("length", "incomplete"), ("content_filter", "incomplete")]
)
def test_the_end_says_how_it_ended(finish: Any, status: str) -> None:
    events = streamed(START, TextDelta("Hi"), Finished(Finish(finish)), Ended())
    assert events[-1]["type"] == f"response.{status}"
    assert events[-1]["response"]["status"] == status
    assert events[-1]["response"]["output"][0]["status"] == status


def test_a_reply_without_words_is_a_reply() -> None:
    assert kinds(START, *STOP) == ["created", "in_progress", "completed"]


def test_every_response_repeats_what_was_asked() -> None:
    how = DIALECT.parse(b'{"model":"m","input":"Hi","temperature":0.5,"instructions":"x"}', "").options
    events = streamed(START, TextDelta("Hi"), *STOP, how=how)
    for event in (events[0], events[1], events[-1]):
        assert (event["response"]["temperature"], event["response"]["instructions"]) == (0.5, "x")


def test_what_openai_said_in_the_end_is_said() -> None:
    first, last = Extra(OWN, {"service_tier": "auto"}), Extra(OWN, {"service_tier": "priority"})
    events = streamed(replace(START, extra=first), TextDelta("x"), STOP[0], Ended(extra=last))
    assert events[-1]["response"]["service_tier"] == "priority"


def test_what_cannot_be_said_is_refused() -> None:
    for event in (AudioDelta(data=b"x"), OpaqueDelta(0, Opaque("anthropic", {}))):
        encoder = StreamEncoder()
        encoder.encode(START)
        with pytest.raises(UnsupportedFeature):
            encoder.encode(event)


# --- streamed and whole --------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=8)
PARTS = st.lists(
    st.builds(Text, TEXTS, st.sampled_from([(), (URL,)]))
    | st.builds(Refusal, TEXTS)
    | st.builds(ToolCall, TEXTS, TEXTS, st.text(max_size=8), st.sampled_from(["function", "custom"]))
    | st.builds(Reasoning, st.text(max_size=8), st.lists(TEXTS, max_size=1).map(tuple), encrypted=TEXTS)
    | st.builds(Reasoning, TEXTS, id=st.just("rs_1"))
    | st.builds(Opaque, st.just(OWN), st.just(SEARCH)),
    max_size=5,
)
FINISHES = st.sampled_from(["stop", "length", "content_filter", "tool_calls", "refusal"])


@settings(max_examples=150)
@given(PARTS, FINISHES)
def test_a_stream_ends_with_what_the_whole_reply_is(parts: list[Any], finish: Any) -> None:
    reply = Response(
        "resp_1",
        "m",
        (Choice(Message("assistant", tuple(parts)), Finish(finish)),),
        usage=Usage(input=1),
        created_s=5,
    )
    data = DIALECT.stream(None).encode(Completed(reply))
    events = read(data)
    assert events[-1]["response"] == json.loads(DIALECT.write(reply, None).body)
    assert heard(data) == WIRE.decode(ASK, DIALECT.write(reply, None).body)


def pieces(event: Event) -> list[Event]:
    """The same event, its text in single characters."""
    match event:
        case TextDelta(text=text):
            said = [replace(event, text=letter, annotations=(), logprobs=()) for letter in text]
            return [*said, replace(event, text="")]
        case RefusalDelta(text=text):
            return [replace(event, text=letter) for letter in text]
        case ToolCallDelta(arguments=text):
            grown = [ToolCallDelta(event.part, arguments=letter, kind=event.kind) for letter in text]
            return [replace(event, arguments=""), *grown]
        case _:
            return [event]


@settings(max_examples=100)
@given(PARTS)
def test_how_a_text_is_cut_changes_nothing_in_the_end(parts: list[Any]) -> None:
    reply = Response("resp_1", "m", (Choice(Message("assistant", tuple(parts)), Finish("stop")),))
    events = stream_of(reply)
    one, other = DIALECT.stream(None), DIALECT.stream(None)
    coarse = read(b"".join(one.encode(event) for event in events))
    fine = read(b"".join(other.encode(piece) for event in events for piece in pieces(event)))
    assert fine[-1]["response"] == coarse[-1]["response"]


# --- errors and the upstream's own bytes ---------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RateLimited("slow down"), "rate_limit_exceeded"),
        (ProviderUnavailable("gone"), "server_error"),
        (UnsupportedFeature("not that"), "invalid_prompt"),
    ],
)
def test_a_response_that_breaks_off_has_failed(error: Any, code: str) -> None:
    encoder = DIALECT.stream(None)
    data = b"".join(
        encoder.encode(event)
        for event in (
            START,
            TextDelta("done"),
            ToolCallDelta(1, id="c", name="f", arguments="{"),
        )
    )
    events = read(data + encoder.error(error))
    last = events[-1]
    assert last["type"] == "response.failed"
    assert last["sequence_number"] == len(events) - 1
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": code, "message": error.message}
    assert [item["type"] for item in last["response"]["output"]] == ["message"]
    failed = f"event: response.failed\ndata: {json.dumps(last)}\n\n".encode()
    with pytest.raises(AssayError):
        heard(data + failed)


def test_an_error_after_the_upstreams_own_bytes_goes_on_counting() -> None:
    encoder = DIALECT.stream(None)
    sent = b'event: response.created\ndata: {"type":"response.created","sequence_number": 41}\n\n'
    assert encoder.wire(sent) == sent
    (event,) = read(encoder.error(BadResponse("cut off")))
    assert (event["type"], event["sequence_number"]) == ("error", 42)
    assert (event["message"], event["code"]) == ("cut off", "bad_response")
    with pytest.raises(BadResponse):
        heard(sent)


# --- the official SDK ----------------------------------------------------------------------------


def client(data: bytes, content_type: str = "text/event-stream") -> OpenAI:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=data, headers={"content-type": content_type})

    transport = httpx2.MockTransport(answer)
    return OpenAI(api_key="k", base_url="http://test/v1", http_client=httpx2.Client(transport=transport))


FULL = Response(
    "resp_1",
    "gpt-5",
    (
        Choice(
            Message(
                "assistant",
                (
                    Reasoning("", ("s",), encrypted="E", id="rs_1"),
                    Text("Hello"),
                    ToolCall("c1", "f", '{"a":1}'),
                ),
            ),
            Finish("tool_calls"),
        ),
    ),
    usage=Usage(input=3, output=4),
)


def test_the_sdk_follows_a_stream() -> None:
    data = DIALECT.stream(None).encode(Completed(FULL))
    with client(data).responses.stream(model="m", input="Hi") as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        last = stream.get_final_response()
    assert said == last.output_text == "Hello"
    assert [item.type for item in last.output] == ["reasoning", "message", "function_call"]


def test_the_sdk_reads_a_whole_reply() -> None:
    data = DIALECT.write(FULL, None).body
    whole = client(data, "application/json").responses.create(model="m", input="Hi")
    assert whole.output_text == "Hello"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 7


def test_the_sdk_raises_on_an_error_event() -> None:
    data = DIALECT.stream(None).error(BadResponse("cut off"))
    with pytest.raises(APIError, match="cut off"):
        list(client(data).responses.create(model="m", input="Hi", stream=True))
