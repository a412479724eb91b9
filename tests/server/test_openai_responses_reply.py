"""Whole replies of the Responses API, judged by the official types; both sides undo each other."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response as OfficialResponse
from pydantic import BaseModel

from assay.errors import UnsupportedFeature
from assay.providers.openai_responses import OpenAIResponses
from assay.server import openai_responses
from assay.server.openai_responses import COUNT, DIALECT, Options
from assay.types import (
    Audio,
    Choice,
    CustomTool,
    Extra,
    File,
    Finish,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    JsonOutput,
    Link,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
    ToolResult,
    Uploaded,
    Usage,
    replace,
)

WIRE = OpenAIResponses()
OWN = "openai-responses"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hi", **fields}).encode()


def options(**fields: Any) -> Options:
    found: Options = DIALECT.parse(body(**fields), "").options
    return found


def written(response: Response, how: Options | None = None) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(DIALECT.write(response, how).body)
    return fields


def reply(*parts: Any, finish: str = "stop", **fields: Any) -> Response:
    logprobs = fields.pop("logprobs", ())
    choice = Choice(Message("assistant", parts), Finish(finish), logprobs)  # type: ignore[arg-type]
    return Response("resp_1", "gpt-5", (choice,), created_s=5, **fields)


def turns(*items: Any) -> tuple[Message, ...]:
    return DIALECT.parse(body(input=list(items)), "").request.messages


# Fields that OpenAI's API sends and its SDK does not name, or that are our own.
BESIDE = frozenset({"store", "frequency_penalty", "presence_penalty", "extra_content", "status", "bytes"})


def assert_official(value: Any) -> None:
    """Nothing in it, at any depth, that the official type does not name."""
    if isinstance(value, BaseModel):
        assert set(value.model_extra or ()) <= BESIDE, f"{type(value).__name__}: {value.model_extra}"
        for name in type(value).model_fields:
            assert_official(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            assert_official(item)


# --- whole replies -------------------------------------------------------------------------------

URL = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "x"},
}
FULL = reply(
    Reasoning("t", ("s",), id="rs_9", encrypted="X"),
    Text("hello", (URL,)),
    Refusal("no"),
    ToolCall("c1", "f", "{}"),
    ToolCall("c2", "g", "in", "custom"),
    Opaque(OWN, SEARCH),
    finish="tool_calls",
    usage=Usage(input=3, cache_read=2, cache_write=1, output=4, reasoning=1),
    logprobs=(TokenLogprob("hello", -0.1, None, (TokenLogprob("hello", -0.1, b"hello"),)),),
)


def test_a_full_reply_is_of_the_official_type() -> None:
    whole = OfficialResponse.model_validate(written(FULL), strict=True)
    assert_official(whole)
    assert whole.output_text == "hello"
    assert [item.type for item in whole.output] == [
        "reasoning",
        "message",
        "function_call",
        "custom_tool_call",
        "web_search_call",
    ]
    assert whole.usage is not None
    assert whole.usage.input_tokens == 6
    assert whole.usage.input_tokens_details.cached_tokens == 2
    assert whole.usage.output_tokens_details.reasoning_tokens == 1


def test_what_is_required_and_unknown_is_null() -> None:
    whole = written(reply(Text("Hi")))
    for name in ("error", "incomplete_details", "instructions", "usage", "completed_at", "user"):
        assert whole[name] is None
    assert whole["metadata"] == {}
    assert whole["id"] == "resp_1"


def test_the_reply_repeats_what_was_asked() -> None:
    tools = [{"type": "function", "name": "f"}, {"type": "web_search"}]
    schema = {"type": "json_schema", "name": "a", "schema": {"type": "object"}}
    asked = {
        "instructions": "x",
        "temperature": 0.5,
        "top_p": 0.25,
        "max_output_tokens": 9,
        "max_tool_calls": 2,
        "metadata": {"k": "v"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_0",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "store": False,
        "tool_choice": "required",
        "top_logprobs": 2,
        "truncation": "auto",
        "user": "u",
    }
    how = options(
        **asked, tools=tools, text={"format": schema, "verbosity": "low"}, reasoning={"effort": "low"}
    )
    whole = written(reply(Text("Hi")), how)
    assert {name: whole[name] for name in asked} == asked
    assert whole["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
        {"type": "web_search"},
    ]
    assert whole["text"]["format"]["schema"] == {"type": "object"}
    assert whole["text"]["verbosity"] == "low"
    assert whole["reasoning"] == {"effort": "low", "summary": None}
    OfficialResponse.model_validate(whole, strict=True)


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("context_exceeded", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("refusal", "incomplete", "content_filter"),
        ("pause", "incomplete", "max_output_tokens"),
        ("malformed_tool_call", "incomplete", "max_output_tokens"),
        ("other", "incomplete", "max_output_tokens"),
    ],
)
def test_an_answer_that_broke_off_does_not_look_complete(
    finish: str, status: str, reason: str | None
) -> None:
    whole = written(reply(Text("Hi"), finish=finish))
    assert whole["status"] == status
    assert whole["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert whole["output"][0]["status"] == status


def test_a_refusal_in_the_models_own_words_is_complete() -> None:
    assert written(reply(Refusal("no"), finish="refusal"))["status"] == "completed"


def test_ids_are_the_same_every_time_and_differ() -> None:
    first, second = written(FULL), written(FULL)
    assert first == second
    ids = [item["id"] for item in first["output"]]
    assert len(set(ids)) == len(ids)
    assert all(len(one) <= 64 for one in ids)
    other = written(replace(FULL, id="resp_2"))
    assert other["output"][1]["id"] != first["output"][1]["id"]


def test_a_phase_parts_messages() -> None:
    parts = [Text(word, extra=Extra(OWN, {"phase": word})) for word in ("commentary", "final_answer")]
    output = written(reply(*parts))["output"]
    assert [(item["phase"], len(item["content"])) for item in output] == [
        ("commentary", 1),
        ("final_answer", 1),
    ]


def test_tokens_go_to_the_text_they_make() -> None:
    tokens = tuple(TokenLogprob(word, -1.0) for word in ("ab", "c", "de", "f"))
    (item,) = written(reply(Text("abc"), Text("def"), logprobs=tokens))["output"]
    assert [[token["token"] for token in part["logprobs"]] for part in item["content"]] == [
        ["ab", "c"],
        ["de", "f"],
    ]


def test_what_has_no_place_is_named() -> None:
    given = reply(Text("a", ({"type": "char_location"}, URL), signature="S"))
    assert DIALECT.write(given, None).dropped == (
        "choices[0].message.parts[0].annotations",
        "choices[0].message.parts[0].signature",
    )


@pytest.mark.parametrize("part", [Opaque("anthropic", {}), Audio(Inline("audio/wav", b""))])
def test_what_cannot_be_said_is_refused(part: Any) -> None:
    with pytest.raises(UnsupportedFeature, match="through its own API"):
        DIALECT.write(reply(part), None)


def test_what_openai_said_of_how_it_answered_is_said_again() -> None:
    extra = Extra(
        OWN, {"service_tier": "priority", "tool_usage": {"web_search": {"num_requests": 1}}, "x": 1}
    )
    whole = written(reply(Text("Hi"), extra=extra))
    assert whole["service_tier"] == "priority"
    assert whole["tool_usage"] == {"web_search": {"num_requests": 1}}
    assert "x" not in whole
    chat = Extra("openai", {"service_tier": "flex", "system_fingerprint": "fp"})
    assert written(reply(Text("Hi"), extra=chat))["service_tier"] == "flex"


def test_a_count() -> None:
    whole = COUNT.write(Response("", "m", (), usage=Usage(input=7, cache_read=1)), None).body
    assert json.loads(whole) == {"object": "response.input_tokens", "input_tokens": 8}


# --- round trips ---------------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=8)
IDS = st.text("abcdef0123", min_size=1, max_size=6)
SOURCES = (
    st.builds(Inline, st.just("image/png"), st.binary(max_size=6))
    | st.builds(Link, st.just("https://x/y"))
    | st.builds(Uploaded, IDS)
)
USER_PARTS = (
    st.builds(Text, TEXTS)
    | st.builds(Image, SOURCES, st.sampled_from([None, "low", "high"]))
    | st.builds(File, st.builds(Inline, st.just("application/pdf"), st.binary(max_size=6)), TEXTS)
    | st.builds(File, st.builds(Link, st.just("https://x/y")))
    | st.builds(Audio, st.builds(Inline, st.sampled_from(["audio/wav", "audio/mpeg"]), st.binary(max_size=6)))
)
SAID_PARTS = (
    st.builds(Text, TEXTS, st.sampled_from([(), (URL,)]))
    | st.builds(Refusal, TEXTS)
    | st.builds(ToolCall, IDS, TEXTS, st.text(max_size=8), st.sampled_from(["function", "custom"]))
    | st.builds(Opaque, st.just(OWN), st.just(SEARCH))
    | st.builds(
        Reasoning,
        st.just(""),
        st.lists(TEXTS, max_size=2).map(tuple),
        encrypted=TEXTS,
        id=IDS.map("rs_".__add__),
    )
)


def ends_well(parts: list[Any]) -> bool:
    """Reasoning that nothing follows is left out on purpose."""
    return not isinstance(parts[-1], Reasoning)


QUESTIONS = st.lists(USER_PARTS, min_size=1, max_size=3).map(lambda parts: Message("user", tuple(parts)))
ANSWERS = (
    st.lists(SAID_PARTS, min_size=1, max_size=4)
    .filter(ends_well)
    .map(lambda parts: Message("assistant", tuple(parts)))
)
RESULTS = st.builds(
    lambda call, parts: Message("tool", (ToolResult(call, tuple(parts)),)),
    IDS,
    st.lists(st.builds(Text, TEXTS) | st.builds(Image, SOURCES), min_size=1, max_size=2),
)
TOOLS = st.lists(
    st.builds(
        FunctionTool,
        TEXTS,
        st.none() | TEXTS,
        st.just({"type": "object"}),
        st.sampled_from([True, False]),
    )
    | st.builds(CustomTool, TEXTS, st.none() | TEXTS, st.just({"type": "text"}))
    | st.builds(HostedTool, st.just(OWN), st.just({"type": "web_search"})),
    max_size=3,
).map(tuple)
REQUESTS = st.builds(
    Request,
    st.just("m"),
    st.lists(st.tuples(QUESTIONS | RESULTS, ANSWERS), min_size=1, max_size=3).map(
        lambda pairs: tuple(turn for pair in pairs for turn in pair)
    ),
    sampling=st.builds(
        Sampling,
        max_tokens=st.none() | st.integers(1, 9),
        temperature=st.none() | st.sampled_from([0.0, 0.5]),
        top_p=st.none() | st.just(0.5),
        top_logprobs=st.none() | st.integers(0, 5),
    ),
    tools=TOOLS,
    parallel_tool_calls=st.none() | st.booleans(),
    output=st.just(JsonOutput())
    | st.builds(SchemaOutput, st.just({"type": "object"}), TEXTS, st.none() | TEXTS),
    thinking=st.none() | st.builds(Thinking, effort=st.just("low"), summary=st.none() | st.just("auto")),
    stream=st.booleans(),
    user=st.none() | TEXTS,
    metadata=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@settings(max_examples=150)
@given(REQUESTS)
def test_a_request_comes_back_as_it_went(request: Request) -> None:
    encoded = WIRE.encode(request)
    assert encoded.dropped == ()
    back = DIALECT.parse(encoded.body, "").request
    extra = back.extra.fields if back.extra is not None else {}
    assert set(extra) <= {"include"}
    assert replace(back, extra=None) == request
    assert WIRE.encode(back).body == encoded.body


REPLIES = st.lists(
    SAID_PARTS
    | st.builds(Reasoning, TEXTS, st.lists(TEXTS, max_size=2).map(tuple), id=IDS.map("rs_".__add__)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150)
@given(REPLIES, st.sampled_from([None, *range(9)]))
def test_a_reply_comes_back_as_it_went(parts: list[Any], tokens: int | None) -> None:
    given = reply(*parts, usage=None if tokens is None else Usage(input=tokens, output=2, reasoning=1))
    data = DIALECT.write(given, None).body
    OfficialResponse.model_validate(json.loads(data), strict=True)
    back = WIRE.decode(Request("m", ()), data)
    assert back.message == given.message
    assert back.usage == given.usage
    assert (back.id, back.model, back.created_s) == (given.id, given.model, given.created_s)


@settings(max_examples=100)
@given(st.lists(SAID_PARTS | st.builds(Reasoning, TEXTS, signature=TEXTS), min_size=1, max_size=4))
def test_a_reply_that_is_sent_back_is_what_it_was(parts: list[Any]) -> None:
    """What another API's reasoning was signed with survives a caller who keeps the conversation."""
    output = written(reply(*parts))["output"]
    said = [part for turn in turns({"role": "user", "content": "a"}, *output)[1:] for part in turn.parts]
    assert said == parts


def test_the_examples_in_the_documentation_run() -> None:
    for found in pkgutil.iter_modules(openai_responses.__path__):
        module = importlib.import_module(f"{openai_responses.__name__}.{found.name}")
        assert doctest.testmod(module).failed == 0
