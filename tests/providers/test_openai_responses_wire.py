"""What an upstream of the Responses API sends, against documented replies and the official types."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response as OfficialResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from assay.errors import (
    AssayError,
    BadResponse,
    ContextExceeded,
    ProviderUnavailable,
    RateLimited,
    RequestError,
)
from assay.providers import openai_responses
from assay.providers.openai_responses import OpenAIResponses
from assay.providers.openai_responses.vocabulary import ResponseUsage, usage_from, usage_to
from assay.providers.sse import SseDecoder
from assay.types import (
    Assembly,
    Ended,
    Event,
    Extra,
    Finish,
    Finished,
    Opaque,
    OpaqueDelta,
    Reasoning,
    Refusal,
    Request,
    Response,
    Started,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    Usage,
    replace,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "openai_responses"
WIRE = OpenAIResponses()
ASK = Request("gpt-5", (user("Hi"),))
OFFICIAL_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
PAIRS = ["text", "tools", "search", "incomplete", "logprobs", "refusal"]


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def decoded(name: str) -> Response:
    return WIRE.decode(ASK, fixture(f"response_{name}.json"))


def sse(name: str) -> list[tuple[str, str]]:
    return SseDecoder().feed(fixture(f"stream_{name}.sse"))


def events_of(pairs: list[tuple[str, str]]) -> list[Event]:
    decoder = WIRE.events(ASK)
    events = [event for name, data in pairs for event in decoder.feed(name, data)]
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def pair(kind: str, **fields: Any) -> tuple[str, str]:
    return kind, json.dumps({"type": kind, **fields})


def whole(*output: Any, status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "m", "created_at": 1, "status": status, "output": list(output), **fields}


def message(text: str, **fields: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part], **fields}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
CREATED = pair("response.created", response=whole(status="in_progress"))


def ended(*output: Any, **fields: Any) -> tuple[str, str]:
    return pair("response.completed", response=whole(*output, **fields))


# --- the fixtures are what OpenAI sends ----------------------------------------------------------


@pytest.mark.parametrize("name", [*PAIRS, "failed"])
def test_whole_fixtures_are_of_the_official_type(name: str) -> None:
    OfficialResponse.model_validate(json.loads(fixture(f"response_{name}.json")))


@pytest.mark.parametrize("name", [*PAIRS, "failed"])
def test_streamed_fixtures_are_of_the_official_types(name: str) -> None:
    for kind, data in sse(name):
        assert OFFICIAL_EVENT.validate_python(json.loads(data)).type == kind


# --- whole ---------------------------------------------------------------------------------------


def test_text() -> None:
    reply = decoded("text")
    assert reply.id == "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"
    assert (reply.model, reply.created_s) == ("gpt-5-2025-08-07", 1741476542)
    assert reply.text == "Ein Einhorn. Grüße 🦄"
    assert reply.choices[0].finish == Finish("stop", "completed")
    assert reply.usage == Usage(input=4, cache_read=32, output=12)
    assert reply.extra == Extra("openai-responses", {"service_tier": "default"})


def test_reasoning_calls_and_phases() -> None:
    reply = decoded("tools")
    assert reply.message.parts == (
        Reasoning(
            "",
            ("**Counting**\n\nThe user wants two cities.", "**Calling**\n\nOne call each."),
            encrypted="gAAAAABoISQ24OyVRYbk=",
            id="rs_6820f383d7c08191846711c5df8233bc",
        ),
        Text("Let me look.", extra=Extra("openai-responses", {"phase": "commentary"})),
        ToolCall("call_unDEueTAk9D", "get_weather", '{"city":"Paris"}'),
        ToolCall("call_9kTnLm2", "get_weather", '{"city":"Rom"}'),
        ToolCall("call_custom1", "run_code", "print('hi')", "custom"),
    )
    assert reply.choices[0].finish.reason == "tool_calls"
    assert reply.usage == Usage(input=35, cache_read=256, output=56, reasoning=64)


def test_a_hosted_tools_item_is_kept_verbatim_and_citations_with_their_text() -> None:
    search, text = decoded("search").message.parts
    assert isinstance(search, Opaque)
    assert search.body == json.loads(fixture("response_search.json"))["output"][0]
    assert isinstance(text, Text)
    assert text.annotations[0]["url"] == "https://example.org/a?utm_source=openai"


def test_incomplete_says_why() -> None:
    assert decoded("incomplete").choices[0].finish == Finish("length", "max_output_tokens")
    body = whole(message("x"), status="incomplete", incomplete_details={"reason": "content_filter"})
    assert WIRE.decode(ASK, json.dumps(body).encode()).choices[0].finish.reason == "content_filter"
    body["incomplete_details"] = {"reason": "steered"}
    assert WIRE.decode(ASK, json.dumps(body).encode()).choices[0].finish == Finish("other", "steered")


def test_a_refusal_keeps_its_words() -> None:
    reply = decoded("refusal")
    assert reply.message.parts == (Refusal("I'm sorry, I cannot assist with that request."),)
    assert reply.choices[0].finish.reason == "stop"


def test_log_probabilities() -> None:
    (first, second) = decoded("logprobs").choices[0].logprobs
    assert first.top == (TokenLogprob("Hi", -0.11, b"Hi"), TokenLogprob("Hey", -2.5, b"Hey"))
    assert (second.token, second.data) == (" ", b" ")


def test_a_failed_response_is_the_error_that_it_carries() -> None:
    with pytest.raises(ProviderUnavailable, match="The model failed to generate"):
        decoded("failed")


@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled", None])
def test_a_response_that_is_not_finished_is_no_success(status: str | None) -> None:
    body = whole(message("x"))
    body["status"] = status
    with pytest.raises(BadResponse, match="not a finished one"):
        WIRE.decode(ASK, json.dumps(body).encode())


def test_a_call_in_a_namespace_is_kept_whole_and_asks_for_a_tool() -> None:
    call = {**CALL, "namespace": "crm", "status": "completed"}
    reply = WIRE.decode(ASK, json.dumps(whole(call)).encode())
    assert reply.message.parts == (Opaque("openai-responses", call),)
    assert reply.choices[0].finish.reason == "tool_calls"
    direct = {**CALL, "caller": {"type": "direct"}}
    assert WIRE.decode(ASK, json.dumps(whole(direct)).encode()).tool_calls[0].name == "f"


def test_a_call_without_an_id_gets_the_same_one_streamed_and_whole() -> None:
    call = {name: value for name, value in CALL.items() if name != "call_id"}
    one = WIRE.decode(ASK, json.dumps(whole(call)).encode())
    other = folded(events_of([CREATED, ended(call)]))
    assert one.tool_calls[0].id == other.tool_calls[0].id == "call_resp_1_0_0"


def test_unknown_things_are_tolerated() -> None:
    body = whole({"type": "hologram", "x": 1}, {**message("a"), "future": True}, future={"y": 2})
    assert WIRE.decode(ASK, json.dumps(body).encode()).message.parts == (
        Opaque("openai-responses", {"type": "hologram", "x": 1}),
        Text("a"),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"status":"completed","output":[1]}',
        b'{"status":"completed","output":[{"type":"message","content":[{"type":"hologram"}]}]}',
        b'{"status":"completed","output":[{"type":"function_call","call_id":"c"}]}',
        b'{"status":"completed","usage":{"input_tokens":"many"}}',
        b'{"status":"completed","created_at":1e400}',
        b'{"status":7}',
        b"\xff\xfe",
        b'{"output":' + b"[" * 100_000,
    ],
)
def test_what_is_no_response_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponse):
        WIRE.decode(ASK, body)


def test_a_count_of_tokens_is_usage() -> None:
    ask = replace(ASK, operation="count_tokens")
    reply = WIRE.decode(ask, fixture("count.json"))
    assert reply.usage == Usage(input=11)
    assert reply.choices == ()
    with pytest.raises(BadResponse):
        WIRE.decode(ask, b"{}")


# --- usage ---------------------------------------------------------------------------------------

COUNT = st.integers(0, 10_000)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_usage_comes_back_as_it_went(fresh: int, cached: int, written: int, output: int, hidden: int) -> None:
    usage = Usage(input=fresh, cache_read=cached, cache_write=written, output=output, reasoning=hidden)

    wire = usage_to(usage)
    assert wire["total_tokens"] == usage.tokens
    assert usage_from(msgspec.convert(wire, ResponseUsage)) == usage


# --- streamed ------------------------------------------------------------------------------------


def joined(response: Response) -> Response:
    """As a stream can tell it: one summary, and no phase of a text."""
    parts = []
    for part in response.message.parts:
        if isinstance(part, Reasoning) and part.summary:
            part = replace(part, summary=("\n\n".join(part.summary),))
        parts.append(replace(part, extra=None) if isinstance(part, Text) else part)
    (choice,) = response.choices
    said = replace(choice.message, parts=tuple(parts))
    return replace(response, choices=(replace(choice, message=said),))


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_says_what_the_whole_says(name: str) -> None:
    assert folded(events_of(sse(name))) == joined(decoded(name))


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_begins_once_and_ends_once(name: str) -> None:
    events = events_of(sse(name))
    assert isinstance(events[0], Started)
    assert isinstance(events[-2], Finished)
    assert isinstance(events[-1], Ended)
    assert [type(event) for event in events].count(Started) == 1


@pytest.mark.parametrize("name", PAIRS)
def test_where_a_read_ends_changes_nothing(name: str) -> None:
    data = fixture(f"stream_{name}.sse")
    expected = events_of(sse(name))
    for size in (1, 7, 4096):
        decoder, events = SseDecoder(), []
        wire = WIRE.events(ASK)
        for start in range(0, len(data), size):
            for kind, text in decoder.feed(data[start : start + size]):
                events.extend(wire.feed(kind, text))
        assert [*events, *wire.end()] == expected


@pytest.mark.parametrize("name", PAIRS)
def test_a_stream_that_is_cut_off_anywhere_is_no_success(name: str) -> None:
    pairs = sse(name)
    for length in range(len(pairs)):
        with pytest.raises(BadResponse, match="cut off"):
            events_of(pairs[:length])


@pytest.mark.parametrize("name", PAIRS)
def test_a_server_that_sends_no_deltas_is_understood(name: str) -> None:
    kept = [(kind, data) for kind, data in sse(name) if "delta" not in kind and "annotation" not in kind]
    assert folded(events_of(kept)) == joined(decoded(name))


@pytest.mark.parametrize("name", PAIRS)
def test_a_server_that_sends_the_end_alone_is_understood(name: str) -> None:
    assert folded(events_of(sse(name)[-1:])) == joined(decoded(name))


@pytest.mark.parametrize("name", PAIRS)
def test_a_server_whose_last_event_repeats_nothing_is_understood(name: str) -> None:
    *pairs, (kind, data) = sse(name)
    last = json.loads(data)
    last["response"]["output"] = []
    assert folded(events_of([*pairs, (kind, json.dumps(last))])) == joined(decoded(name))


def test_an_item_that_is_listed_elsewhere_in_the_end_is_not_said_twice() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    pairs = [
        CREATED,
        pair("response.output_item.added", output_index=0, item=message("")),
        pair("response.output_text.delta", output_index=0, content_index=0, delta="Hi"),
        pair("response.output_item.done", output_index=0, item=message("Hi")),
        ended(reasoning, message("Hi")),
    ]
    assert folded(events_of(pairs)).message.parts == (Text("Hi"), Reasoning(id="rs_1"))
    pairs[-1] = ended({**message("Hi"), "id": "msg_another"})
    assert folded(events_of(pairs)).text == "Hi"


def test_items_may_grow_side_by_side() -> None:
    other = {**CALL, "id": "fc_2", "call_id": "c2", "name": "g", "arguments": "{}"}
    pairs = [
        CREATED,
        pair("response.output_item.added", output_index=0, item={**CALL, "arguments": ""}),
        pair("response.output_item.added", output_index=1, item={**other, "arguments": ""}),
        pair("response.function_call_arguments.delta", output_index=1, delta="{"),
        pair("response.function_call_arguments.delta", output_index=0, delta='{"a":'),
        pair("response.function_call_arguments.delta", output_index=1, delta="}"),
        pair("response.output_item.done", output_index=1, item=other),
        pair("response.output_item.done", output_index=0, item=CALL),
        ended(CALL, other),
    ]
    assert folded(events_of(pairs)).tool_calls == (ToolCall("c1", "f", '{"a":1}'), ToolCall("c2", "g", "{}"))


def test_arguments_in_the_item_that_opens_are_not_lost_or_doubled() -> None:
    pairs = [
        CREATED,
        pair("response.output_item.added", output_index=0, item=CALL),
        pair("response.output_item.done", output_index=0, item=CALL),
        ended(CALL),
    ]
    assert folded(events_of(pairs)).tool_calls == (ToolCall("c1", "f", '{"a":1}'),)


def test_a_hosted_item_comes_once_whole_in_its_place() -> None:
    events = events_of(sse("search"))
    opaque = [event for event in events if isinstance(event, OpaqueDelta)]
    assert len(opaque) == 1
    assert opaque[0].part == 0
    assert next(event for event in events if isinstance(event, TextDelta)).part == 1


def test_reasoning_text_is_text() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    content = [{"type": "reasoning_text", "text": "First."}, {"type": "reasoning_text", "text": "Then."}]
    pairs = [
        CREATED,
        pair("response.output_item.added", output_index=0, item=item),
        pair("response.reasoning_text.delta", output_index=0, content_index=0, delta="First."),
        pair("response.reasoning_text.delta", output_index=0, content_index=1, delta="Then."),
        pair("response.output_item.done", output_index=0, item={**item, "content": content}),
        ended({**item, "content": content}),
    ]
    reply = folded(events_of(pairs))
    assert reply.message.parts == (Reasoning("First.\n\nThen.", id="rs_1"),)
    assert reply.message == WIRE.decode(ASK, json.dumps(whole({**item, "content": content})).encode()).message


def test_events_of_tomorrow_and_heartbeats_are_passed_over() -> None:
    pairs = [
        ("keepalive", '{"type":"keepalive","sequence_number":3}'),
        CREATED,
        pair("response.hologram.delta", output_index=0, delta={"x": 1}),
        ("ping", ""),
        pair("response.image_generation_call.partial_image", partial_image_b64="aGk=", output_index=0),
        ended(message("Hi")),
        ("message", "[DONE]"),
    ]
    assert folded(events_of(pairs)).text == "Hi"


def test_nothing_follows_the_end() -> None:
    decoder = WIRE.events(ASK)
    decoder.feed(*ended(message("Hi")))
    assert decoder.feed(*ended(message("Hi"))) == ()
    assert decoder.end() == ()


def test_done_before_the_end_is_a_stream_that_was_cut_off() -> None:
    with pytest.raises(BadResponse, match="cut off"):
        events_of([CREATED, ("message", "[DONE]")])


# --- errors --------------------------------------------------------------------------------------


def test_a_response_that_fails_on_the_way_is_its_error() -> None:
    with pytest.raises(RateLimited, match="Rate limit reached for gpt-5") as caught:
        events_of(sse("failed"))
    assert caught.value.upstream_status == 200


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"code": "server_error", "message": "boom", "param": None}, ProviderUnavailable),
        ({"code": "rate_limit_exceeded", "message": "slow down"}, RateLimited),
        ({"code": "invalid_prompt", "message": "not that"}, RequestError),
        ({"error": {"type": "invalid_request_error", "code": "x", "message": "bad"}}, RequestError),
        ({"error": {"type": "too_many", "code": "429", "message": "later"}}, RateLimited),
        ({"error": {"code": "context_length_exceeded", "message": "too long"}}, ContextExceeded),
        ({"error": {"code": "invalid_image_url", "message": "cannot be fetched"}}, RequestError),
        ({}, ProviderUnavailable),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_error_event_is_a_typed_error(fields: Any, kind: type[AssayError], first: bool) -> None:
    with pytest.raises(kind):
        events_of([*([] if first else [CREATED]), pair("error", sequence_number=2, **fields)])


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("response.created", "{"),
        ("response.created", "7"),
        ("response.created", '{"response":7}'),
        ("response.completed", "{}"),
        ("response.completed", '{"response":null}'),
        ("response.completed", '{"response":{"status":"in_progress"}}'),
        ("response.cancelled", '{"response":{"status":"cancelled"}}'),
        ("response.output_text.delta", '{"delta":"x"}'),
        ("response.output_text.delta", '{"output_index":0,"delta":{}}'),
        ("response.output_item.added", '{"output_index":0}'),
        ("response.output_item.added", '{"output_index":0,"item":{"type":"function_call"}}'),
        ("response.output_item.done", '{"output_index":"a","item":{"type":"message"}}'),
    ],
)
def test_a_broken_event_is_a_bad_response(kind: str, data: str) -> None:
    with pytest.raises(BadResponse):
        WIRE.events(ASK).feed(kind, data)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "response", "item", "output_index", "delta", "output", "content", "status"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    sorted({kind for name in [*PAIRS, "failed"] for kind, _ in sse(name)} | {"error", "x"})
)


@given(st.lists(st.tuples(KINDS, JSONISH.map(json.dumps) | st.text(max_size=20)), max_size=6))
def test_any_soup_is_events_or_a_typed_error(soup: list[tuple[str, str]]) -> None:
    decoder, assembly = WIRE.events(ASK), Assembly()
    try:
        for kind, data in soup:
            for event in decoder.feed(kind, data):
                assembly.add(event)
        decoder.end()
    except AssayError:
        return
    assert assembly.complete


@given(st.binary(max_size=60) | JSONISH.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_reply_or_a_typed_error(body: bytes) -> None:
    for operation in ("chat", "count_tokens"):
        try:
            WIRE.decode(replace(ASK, operation=operation), body)
        except AssayError:
            continue


def test_statuses_are_errors_as_in_chat_completions() -> None:
    body = b'{"error":{"message":"no","type":"invalid_request_error","param":"input","code":"bad"}}'
    error = WIRE.error(400, {}, body)
    assert isinstance(error, RequestError)
    assert (error.param, error.code) == ("input", "bad")
    assert isinstance(WIRE.error(429, {"retry-after": "3"}, b""), RateLimited)


def test_the_examples_in_the_documentation_run() -> None:
    for found in pkgutil.iter_modules(openai_responses.__path__):
        module = importlib.import_module(f"{openai_responses.__name__}.{found.name}")
        assert doctest.testmod(module).failed == 0
