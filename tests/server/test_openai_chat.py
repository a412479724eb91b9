"""Chat completions towards callers: bodies in, replies and errors out, judged by the official SDK.

The round trips join both sides of the dialect: what this side writes, the upstream side reads, and back.
"""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from pydantic import BaseModel

from assay.errors import (
    AssayError,
    BadResponse,
    BudgetExceeded,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    UnsupportedFeature,
)
from assay.providers.openai_chat import OpenAIChat
from assay.server import openai_chat
from assay.server.openai_chat import Options, StreamEncoder, encode_error, encode_response, parse
from assay.types import (
    Assembly,
    Audio,
    AudioDelta,
    Choice,
    Completed,
    CustomTool,
    Delta,
    Ended,
    Event,
    Extra,
    File,
    Finish,
    Finished,
    FunctionTool,
    Image,
    Inline,
    JsonOutput,
    Link,
    Message,
    Opaque,
    OpaqueDelta,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Request,
    Response,
    Sampling,
    SchemaOutput,
    Started,
    Text,
    TextDelta,
    Thinking,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolResult,
    Uploaded,
    Usage,
    assistant,
    replace,
    stream_of,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "openai"
ASK = Request("m", ())
WIRE = OpenAIChat()


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


def with_message(**message: Any) -> bytes:
    return body(messages=[{"role": "user", "content": "Hi"}, message])


def parsed(**fields: Any) -> Request:
    return parse(body(**fields))[0]


def last_message(**message: Any) -> Message:
    return parse(with_message(**message))[0].messages[-1]


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(data)
    return caught.value


def assert_official(value: Any, allowed: frozenset[str] = frozenset()) -> None:
    """Nothing in it, at any depth, that the official type does not name, except for `allowed`."""
    if isinstance(value, BaseModel):
        assert set(value.model_extra or ()) <= allowed, f"{type(value).__name__}: {value.model_extra}"
        for name in type(value).model_fields:
            assert_official(getattr(value, name), allowed)
    elif isinstance(value, list):
        for item in value:
            assert_official(item, allowed)


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    """The JSON of each server-sent event but the last, which must be [DONE]."""
    *events, last = data.decode().removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def streamed(events: list[Event], *, include_usage: bool = True) -> bytes:
    encoder = StreamEncoder(Options(include_usage=include_usage))
    return b"".join(encoder.encode(event) for event in events)


def read_back(data: bytes) -> list[Event]:
    decoder = WIRE.events(ASK)
    events = [
        event
        for line in data.decode().split("\n\n")
        if line
        for event in decoder.feed("message", line.removeprefix("data: "))
    ]
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def seen_by_sdk(data: bytes) -> list[ChatCompletionChunk]:
    """What the official client makes of `data` as the reply to a streamed call."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with OpenAI(api_key="k", base_url="http://x.test/v1", http_client=http_client) as client:
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with stream:
            return list(stream)


MODULES = [name for _, name, _ in pkgutil.iter_modules(openai_chat.__path__, f"{openai_chat.__name__}.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


# --- bodies in -----------------------------------------------------------------------------------


def test_the_smallest_body() -> None:
    assert parse(body()) == (Request("m", (user("Hi"),)), Options())


def test_every_field_finds_its_place() -> None:
    request, options = parse((FIXTURES / "request_full.json").read_bytes())
    mark = Extra("openai", {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}})
    assert options == Options(include_usage=True)
    assert request == Request(
        "gpt-5-mini",
        (
            Message("system", (Text("Be brief."),), "house"),
            Message("developer", (Text("Use tools."), Text("Cite."))),
            Message(
                "user",
                (
                    Text("What is this?", extra=mark),
                    Image(Link("https://example.com/cat.png"), "low"),
                    Image(Inline("image/png", b"\x89PNG\r\n\x1a\n")),
                    Audio(Inline("audio/wav", b"RIFF")),
                    File(Inline("application/pdf", b"%PDF-"), "a.pdf"),
                    File(Uploaded("file-abc123")),
                ),
                "ada",
            ),
            Message(
                "assistant",
                (
                    Text("Let me look."),
                    ToolCall("call_1", "look", '{"at": 1}'),
                    ToolCall("call_2", "sql", "select 1", "custom"),
                ),
            ),
            Message("tool", (ToolResult("call_1", (Text("a cat"),)),)),
            Message("tool", (ToolResult("call_2", (Text("1"), Text("2"))),)),
            Message("assistant", (Text("A cat."), Refusal("No more."))),
            Message("assistant", (Audio(id="audio_1"),)),
            user("Thanks."),
        ),
        sampling=Sampling(
            max_tokens=512,
            temperature=0.5,
            top_p=0.25,
            stop=("END", "STOP"),
            seed=7,
            frequency_penalty=-0.5,
            presence_penalty=1.5,
            logit_bias={"50256": -100},
            top_logprobs=3,
        ),
        tools=(
            FunctionTool(
                "look",
                "Looks.",
                {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]},
                True,
            ),
            CustomTool(
                "sql",
                "Runs SQL.",
                {"type": "grammar", "grammar": {"syntax": "regex", "definition": "select .*"}},
            ),
        ),
        tool_choice=ToolChoice("named", ("look", "sql")),
        parallel_tool_calls=False,
        output=SchemaOutput(
            {"type": "object", "properties": {"what": {"type": "string"}}}, "answer", "What it is.", True
        ),
        modalities=("text", "audio"),
        audio={"format": "pcm16", "voice": "alloy"},
        thinking=Thinking(effort="low"),
        choices=2,
        stream=True,
        service_tier="flex",
        user="u-1",
        metadata={"team": "blue"},
        extra=Extra(
            "openai",
            {
                "store": False,
                "prediction": {"type": "content", "content": "A cat."},
                "verbosity": "low",
                "moderation": {"model": "omni-moderation-latest"},
                "prompt_cache_key": "k",
                "prompt_cache_options": {"mode": "explicit"},
                "prompt_cache_retention": "24h",
                "safety_identifier": "s",
                "web_search_options": {"search_context_size": "low"},
            },
        ),
    )


def test_what_came_in_goes_out_again() -> None:
    given_ = json.loads((FIXTURES / "request_full.json").read_bytes())
    _, sent, *_ = WIRE.encode(parse(json.dumps(given_).encode())[0])
    assert json.loads(sent) == given_


def test_every_parameter_of_the_official_client_is_known() -> None:
    known = set(json.loads((FIXTURES / "request_full.json").read_bytes())) | {
        "max_tokens",
        "functions",
        "function_call",
    }
    assert set(CompletionCreateParamsBase.__annotations__) <= known


def test_null_is_absent() -> None:
    names = ("temperature", "stop", "n", "tools", "tool_choice", "response_format", "functions", "stream")
    extras = ("store", "stream_options", "metadata", "logit_bias", "max_tokens", "reasoning_effort")
    assert parsed(**dict.fromkeys((*names, *extras))) == Request("m", (user("Hi"),))


def test_a_reply_of_the_official_client_can_be_sent_back() -> None:
    for name in ("chat.json", "chat_tools.json", "chat_refusal.json", "chat_audio.json", "chat_search.json"):
        reply = (FIXTURES / name).read_bytes()
        message = ChatCompletion.model_validate_json(reply).choices[0].message
        expected = WIRE.decode(ASK, reply).message
        for dumped in (message.model_dump(), message.model_dump(exclude_unset=True)):
            back = last_message(**dumped)
            assert [type(part) for part in back.parts] == [type(part) for part in expected.parts]
            assert back.text == expected.text
            assert [part for part in back.parts if isinstance(part, ToolCall)] == [
                part for part in expected.parts if isinstance(part, ToolCall)
            ]


def test_reasoning_and_signatures_of_other_servers_come_back() -> None:
    google = {"google": {"thought_signature": "s"}}
    made = {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}, "index": 0}
    back = last_message(
        role="assistant", content=None, reasoning_content="hm", tool_calls=[{**made, "extra_content": google}]
    )
    assert back.parts == (Reasoning("hm"), ToolCall("1", "f", "", signature="s"))
    assert last_message(role="assistant", reasoning="so").parts == (Reasoning("so"),)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, Sampling(max_tokens=5)),
        ({"max_completion_tokens": 5}, Sampling(max_tokens=5)),
        ({"max_tokens": 5, "max_completion_tokens": 5}, Sampling(max_tokens=5)),
        ({"stop": "x"}, Sampling(stop=("x",))),
        ({"stop": ["x", "y"]}, Sampling(stop=("x", "y"))),
        ({"stop": []}, Sampling()),
        ({"logprobs": True}, Sampling(top_logprobs=0)),
        ({"logprobs": True, "top_logprobs": 4}, Sampling(top_logprobs=4)),
        ({"logprobs": False}, Sampling()),
        ({"temperature": 1}, Sampling(temperature=1.0)),
    ],
)
def test_sampling(fields: dict[str, Any], expected: Sampling) -> None:
    assert parsed(**fields).sampling == expected


def test_other_forms_of_fields() -> None:
    assert parsed(reasoning_effort="none").thinking == Thinking(enabled=False)
    assert parsed(response_format={"type": "json_object"}).output == JsonOutput()
    assert parsed(tool_choice="required").tool_choice == ToolChoice("required")
    named = {"type": "custom", "custom": {"name": "sql"}}
    assert parsed(tool_choice=named).tool_choice == ToolChoice("named", ("sql",))
    few = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert parsed(tool_choice=few).tool_choice == ToolChoice("auto", ("sql",))
    raw = {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}}
    (file,) = last_message(role="user", content=[raw]).parts
    assert file == File(Inline("application/pdf", b"%PDF-"), "a.pdf")
    assert parse(body(stream=True, stream_options={"include_usage": False}))[1] == Options()


@pytest.mark.parametrize(
    ("data", "message", "param"),
    [
        (b"", "The body is not valid JSON", None),
        (b"{", "The body is not valid JSON", None),
        (body() + b" x", "trailing characters", None),
        (b'{"model": "\xff"}', "The body is not valid JSON", None),
        (b'{"audio": {"a": ' + b"[" * 100_000, "nested too deeply", None),
        (b'{"model": "m", "metadata": {"k": "\\ud800"}, "messages": []}', "not valid JSON", None),
        (b"[]", "Invalid type for the body: expected an object, but got an array", None),
        (b"null", "Invalid type for the body: expected an object, but got null", None),
        (b"{}", "Missing required parameter: 'model'", "model"),
        (b'{"model": "m"}', "Missing required parameter: 'messages'", "messages"),
        (body(messages=[]), "'messages': expected an array of length >= 1", "messages"),
        (body(messages="Hi"), "'messages': expected an array, but got a string", "messages"),
        (body(model=3), "'model': expected a string, but got an integer", "model"),
        (body(foo=1), "Unrecognized request argument supplied: foo", "foo"),
        (body(temprature=1), "supplied: temprature. Did you mean 'temperature'?", "temprature"),
        (body(max_token=1), "Did you mean 'max_tokens'?", "max_token"),
        (body(temperature="hot"), "expected a number, but got a string", "temperature"),
        (body(temperature=3), "'temperature': expected a number of <= 2.0", "temperature"),
        (body(n=0), "'n': expected an integer of >= 1", "n"),
        (body(max_tokens=1.5), "'max_tokens': expected an integer, but got a number", "max_tokens"),
        (body(max_tokens=0), "'max_tokens': expected an integer of >= 1", "max_tokens"),
        (body(max_tokens=1, max_completion_tokens=2), "give only the latter", "max_tokens"),
        (body(stop=[1]), "'stop[0]': expected a string, but got an integer", "stop[0]"),
        (body(top_logprobs=3), "needs 'logprobs'", "top_logprobs"),
        (body(store="yes"), "'store': expected a boolean, but got a string", "store"),
        (body(tool_choice="must"), "supported values are none, auto, required", "tool_choice"),
        (body(tool_choice={"type": "x"}), "function, custom, allowed_tools", "tool_choice.type"),
        (body(response_format={"type": "xml"}), "json_object, json_schema", "response_format.type"),
        (
            body(response_format={"type": "json_schema", "json_schema": {}}),
            "Missing required parameter: 'response_format.json_schema.name'",
            "response_format.json_schema.name",
        ),
        (
            body(tools=[{"type": "function", "function": {"name": "f", "paramters": {}}}]),
            "Unknown parameter: 'tools[0].function.paramters'. Did you mean 'parameters'?",
            "tools[0].function.paramters",
        ),
        (
            body(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
            "name at least one tool",
            "tool_choice.allowed_tools.tools",
        ),
        (body(stream_options={}), "only allowed when 'stream' is true", "stream_options"),
        (
            body(stream=True, stream_options={"include_obfuscation": True}),
            "leave out",
            "stream_options.include_obfuscation",
        ),
        (body(functions=[]), "use 'tools' instead", "functions"),
        (body(function_call="auto"), "use 'tool_choice' instead", "function_call"),
        (with_message(role="user"), "'messages[1].content'", "messages[1].content"),
        (
            with_message(role="user", content=3),
            "'messages[1].content': expected a string or an array, but got an integer",
            "messages[1].content",
        ),
        (with_message(role="user", content=[]), "empty array", "messages[1].content"),
        (with_message(role="robot", content=""), "supported values are system,", "messages[1].role"),
        (with_message(content=""), "'messages[1].role'", "messages[1].role"),
        (with_message(role="function", name="f", content=""), "deprecated", "messages[1].role"),
        (with_message(role="user", content="", nme="x"), "Did you mean 'name'?", "messages[1].nme"),
        (with_message(role="tool", content=""), "tool_call_id", "messages[1].tool_call_id"),
        (
            with_message(role="assistant", function_call={"name": "f"}),
            "use 'tool_calls'",
            "messages[1].function_call",
        ),
        (
            with_message(role="assistant", tool_calls=[{"id": "1", "custom": {"name": "f", "input": ""}}]),
            "needs 'function'",
            "messages[1].tool_calls[0]",
        ),
        *(
            (
                with_message(role="user", content=[{"type": "text", "text": "x"}, part]),
                words,
                f"messages[1].content[1].{path}",
            )
            for part, words, path in [
                ({"type": "video"}, "text, image_url, input_audio, file, refusal", "type"),
                ({"type": "text"}, "Missing required parameter", "text"),
                ({"type": "image_url", "image_url": "x"}, "expected an object", "image_url"),
                (
                    {"type": "image_url", "image_url": {"url": "data:image/png,x"}},
                    "data:MEDIA/TYPE;base64,DATA",
                    "image_url.url",
                ),
                (
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}},
                    "not valid base64",
                    "image_url.url",
                ),
                (
                    {"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}},
                    "supported values are wav, mp3",
                    "input_audio.format",
                ),
                ({"type": "file", "file": {}}, "either 'file_id' or 'file_data'", "file"),
                ({"type": "file", "file": {"file_data": "\u00e9"}}, "not valid base64", "file.file_data"),
            ]
        ),
    ],
)
def test_a_bad_body_is_refused_by_name(data: bytes, message: str, param: str | None) -> None:
    error = refusal(data)
    assert message in error.message
    assert error.param == param
    status, encoded = encode_error(error)
    assert status == 400
    detail = json.loads(encoded)["error"]
    assert set(detail) == {"message", "type", "param", "code"}
    assert (detail["type"], detail["param"]) == ("invalid_request_error", param)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_request_or_a_request_error(data: bytes) -> None:
    with pytest.raises(RequestError):
        parse(data)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
FULL = json.loads((FIXTURES / "request_full.json").read_bytes())


@given(st.sampled_from(sorted(FULL)), ANY_JSON)
def test_any_json_in_any_field_is_a_request_or_a_request_error(name: str, value: Any) -> None:
    try:
        request, _ = parse(json.dumps({**FULL, name: value}).encode())
    except RequestError as error:
        assert error.param is None or name in error.param or error.param in {"top_logprobs", "stream_options"}
    else:
        WIRE.encode(request)


# --- whole replies out ---------------------------------------------------------------------------

TEXT_REPLY = Response(
    "r1",
    "m",
    (Choice(assistant("Hello"), Finish("stop", "stop")),),
    usage=Usage(input=3, output=1),
    created_s=7,
)


def test_a_whole_reply_has_what_openai_requires() -> None:
    written = json.loads(encode_response(TEXT_REPLY))
    assert_official(ChatCompletion.model_validate(written, strict=True))
    assert written["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert written["usage"]["total_tokens"] == 4
    assert written["object"] == "chat.completion"


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("chat*.json")), ids=lambda path: path.stem)
def test_a_documented_reply_is_written_as_it_was_read(path: Path) -> None:
    reply = WIRE.decode(ASK, path.read_bytes())
    written = encode_response(reply)
    assert_official(ChatCompletion.model_validate_json(written, strict=True))
    assert WIRE.decode(ASK, written) == reply
    original = json.loads(path.read_bytes())["choices"][0]
    again = json.loads(written)["choices"][0]
    assert again == {**original, "message": {"annotations": [], **original["message"]}}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (Message("assistant", ()), ""),
        (Message("assistant", (Reasoning("hm"),)), ""),
        (Message("assistant", (Text("a"), Text("b"))), "ab"),
        (Message("assistant", (ToolCall("1", "f", "{}"),)), None),
        (Message("assistant", (Refusal("no"),)), None),
    ],
)
def test_content_is_null_only_beside_something_else(message: Message, content: str | None) -> None:
    written = json.loads(encode_response(replace(TEXT_REPLY, choices=(Choice(message, Finish("stop")),))))
    assert written["choices"][0]["message"]["content"] == content


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop_sequence", "stop"),
        ("context_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause", "length"),
        ("malformed_tool_call", "length"),
        ("other", "length"),
    ],
)
def test_other_dialects_finish_reasons_never_look_complete(reason: Any, word: str) -> None:
    choice = Choice(assistant("x"), Finish(reason, "RAW"))
    written = json.loads(encode_response(replace(TEXT_REPLY, choices=(choice,))))
    assert written["choices"][0]["finish_reason"] == word


def test_a_part_without_a_place_is_refused() -> None:
    choice = Choice(Message("assistant", (Opaque("anthropic", {}),)), Finish("stop"))
    with pytest.raises(UnsupportedFeature, match="Opaque"):
        encode_response(replace(TEXT_REPLY, choices=(choice,)))
    with pytest.raises(UnsupportedFeature, match="anthropic"):
        streamed([Started("r", "m"), OpaqueDelta(0, Opaque("anthropic", {}))])


def test_what_another_dialect_says_beside_the_reply_is_not_openais() -> None:
    written = json.loads(encode_response(replace(TEXT_REPLY, extra=Extra("anthropic", {"stop": 1}))))
    assert "stop" not in written


# --- streams out ---------------------------------------------------------------------------------


def test_a_stream_as_openai_sends_it() -> None:
    events: list[Event] = [
        Started("c1", "m", 7, extra=Extra("openai", {"system_fingerprint": "fp"})),
        TextDelta("Hel"),
        TextDelta("lo"),
        Finished(Finish("stop")),
        Ended(Usage(input=3, output=2)),
    ]
    common = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "system_fingerprint": "fp",
    }

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]

    choices = [
        choice({"role": "assistant", "content": "", "refusal": None}),
        choice({"content": "Hel"}),
        choice({"content": "lo"}),
        choice({}, "stop"),
    ]
    assert chunks_of(streamed(events, include_usage=False)) == [
        {**common, "choices": item} for item in choices
    ]
    *told, counted = chunks_of(streamed(events))
    assert told == [{**common, "choices": item, "usage": None} for item in choices]
    assert counted["choices"] == []
    assert counted["usage"]["total_tokens"] == 5


def test_usage_that_nobody_knows_is_not_shown_as_zero() -> None:
    events: list[Event] = [Started("c1", "m"), TextDelta("x"), Finished(Finish("stop")), Ended()]
    assert all(chunk["choices"] for chunk in chunks_of(streamed(events)))


def test_tool_calls_in_a_stream_are_numbered_among_themselves() -> None:
    events: list[Event] = [
        Started("c1", "m"),
        TextDelta("So", 0),
        ToolCallDelta(1, 0, "a", "f", "{"),
        ToolCallDelta(2, 0, "b", "sql", "sel", "custom"),
        ToolCallDelta(1, 0, arguments="}"),
        ToolCallDelta(2, 0, arguments="ect"),
        ToolCallDelta(0, 1, "c", "g", ""),
        Finished(Finish("tool_calls")),
        Finished(Finish("tool_calls"), 1),
        Ended(),
    ]
    deltas = [chunk["choices"][0] for chunk in chunks_of(streamed(events))]
    calls = [(d["index"], d["delta"]["tool_calls"][0]) for d in deltas if "tool_calls" in d["delta"]]
    assert calls == [
        (0, {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}),
        (0, {"index": 1, "id": "b", "type": "custom", "custom": {"name": "sql", "input": "sel"}}),
        (0, {"index": 0, "function": {"arguments": "}"}}),
        (0, {"index": 1, "custom": {"input": "ect"}}),
        (1, {"index": 0, "id": "c", "type": "function", "function": {"name": "g", "arguments": ""}}),
    ]
    opening = [d["delta"]["content"] for d in deltas if "role" in d["delta"]]
    assert opening == ["", None]


def test_a_reply_in_one_piece_is_streamed_to_a_streaming_caller() -> None:
    data = streamed([Completed(TEXT_REPLY)])
    assert folded(read_back(data)) == TEXT_REPLY


def test_an_empty_reply_still_opens_and_closes() -> None:
    events: list[Event] = [Started("c1", "m"), Finished(Finish("length")), Ended()]
    first, last = chunks_of(streamed(events))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["choices"][0]["finish_reason"] == "length"


def test_what_is_learnt_late_is_on_the_usage_chunk() -> None:
    ended = Ended(Usage(input=1, output=1), extra=Extra("openai", {"service_tier": "flex"}))
    data = streamed([Started("c1", "m"), TextDelta("x"), Finished(Finish("stop")), ended])
    assert chunks_of(data)[-1]["service_tier"] == "flex"


def test_an_error_in_the_middle_reaches_the_official_client() -> None:
    encoder = StreamEncoder()
    data = encoder.encode(Started("c1", "m")) + encoder.encode(TextDelta("Hi"))
    data += encoder.error(BadResponse("openai: the stream broke off"))
    assert b"[DONE]" not in data
    with pytest.raises(APIError, match="the stream broke off") as caught:
        seen_by_sdk(data)
    assert caught.value.code == "bad_response"


@pytest.mark.parametrize("name", ["stream_text", "stream_tools", "stream_audio", "stream_choices"])
def test_a_documented_stream_is_written_as_it_was_read(name: str) -> None:
    events = read_back((FIXTURES / f"{name}.sse").read_bytes().rstrip(b"\n"))
    data = streamed(events)
    for chunk in chunks_of(data):
        assert_official(ChatCompletionChunk.model_validate(chunk, strict=True))
    assert folded(read_back(data)) == folded(events)


# --- errors out ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (RequestError("x", param="p"), 400, "invalid_request_error", "invalid_request"),
        (NotFound("x", code="model_not_found"), 404, "not_found_error", "model_not_found"),
        (BudgetExceeded("x"), 402, "insufficient_quota", "budget_exceeded"),
        (RateLimited("x"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (ProviderUnavailable("x"), 503, "server_error", "provider_unavailable"),
        (AssayError("x"), 500, "server_error", "internal_error"),
    ],
)
def test_errors_have_openais_shape(error: AssayError, status: int, kind: str, code: str) -> None:
    got, data = encode_error(error)
    assert got == status
    param = "p" if isinstance(error, RequestError) and error.param else None
    assert json.loads(data) == {"error": {"message": "x", "type": kind, "param": param, "code": code}}


# --- round trips ---------------------------------------------------------------------------------

WORDS = st.text(min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
COUNT = st.integers(0, 1_000)
FINISHES = st.sampled_from(
    [
        Finish("stop", "stop"),
        Finish("length", "length"),
        Finish("tool_calls", "tool_calls"),
        Finish("content_filter", "content_filter"),
    ]
)
TOP = st.builds(TokenLogprob, WORDS, st.floats(-100, 0, allow_nan=False), st.none() | st.binary(max_size=4))
LOGPROBS = st.lists(
    st.builds(lambda token, top: replace(token, top=tuple(top)), TOP, st.lists(TOP, max_size=2)), max_size=3
).map(tuple)
CITATION = st.fixed_dictionaries(
    {
        "type": st.just("url_citation"),
        "url_citation": st.fixed_dictionaries(
            {"start_index": COUNT, "end_index": COUNT, "title": WORDS, "url": WORDS}
        ),
    }
)
TOOL_CALLS = st.lists(
    st.builds(ToolCall, NAMES, NAMES, st.text(max_size=12), st.sampled_from(["function", "custom"])),
    max_size=3,
    unique_by=lambda made: made.id,
)
SOUND = st.binary(min_size=1, max_size=9).map(lambda data: b"\x00" + data)
SPOKEN = st.builds(
    lambda data, words, name, expiry: Audio(Inline("audio/pcm", data), words, name, expiry),
    SOUND,
    WORDS,
    NAMES,
    st.integers(1, 2**31),
)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """One choice, with its parts in the order of the API: thought, said, called."""
    parts: list[Any] = []
    if draw(st.booleans()):
        parts.append(Reasoning(draw(WORDS)))
    said = draw(st.sampled_from(["text", "refusal", "audio", "nothing"]))
    if said == "text":
        parts.append(Text(draw(WORDS), tuple(draw(st.lists(CITATION, max_size=2)))))
    elif said == "refusal":
        parts.append(Refusal(draw(WORDS)))
    elif said == "audio":
        parts.append(draw(SPOKEN))
    parts.extend(draw(TOOL_CALLS))
    logprobs = draw(LOGPROBS) if said in {"text", "refusal"} else ()
    return Choice(Message("assistant", tuple(parts)), draw(FINISHES), logprobs)


USAGES = st.builds(
    Usage,
    input=COUNT,
    input_audio=COUNT,
    input_image=COUNT,
    cache_read=COUNT,
    cache_write=COUNT,
    output=COUNT,
    reasoning=COUNT,
    output_audio=COUNT,
)
EXTRAS = st.none() | st.fixed_dictionaries({"system_fingerprint": WORDS}).map(
    lambda fields: Extra("openai", fields)
)
RESPONSES = st.builds(
    Response,
    id=NAMES,
    model=NAMES,
    choices=st.lists(choices(), min_size=1, max_size=3).map(tuple),
    usage=st.none() | USAGES,
    created_s=COUNT,
    extra=EXTRAS,
)


@given(RESPONSES)
def test_a_response_survives_being_written_and_read(response: Response) -> None:
    written = encode_response(response)
    official = ChatCompletion.model_validate_json(written, strict=True)
    assert_official(official, frozenset({"reasoning_content"}))
    assert WIRE.decode(ASK, written) == response


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def split(draw: st.DrawFn, delta: Delta) -> list[Delta]:
    """The same delta in several; ids and the like stay on the first."""
    match delta:
        case TextDelta():
            first, *rest = pieces(draw, delta.text)
            return [replace(delta, text=first), *(TextDelta(p, delta.part, delta.choice) for p in rest)]
        case RefusalDelta():
            first, *rest = pieces(draw, delta.text)
            return [replace(delta, text=first), *(RefusalDelta(p, delta.part, delta.choice) for p in rest)]
        case ReasoningDelta():
            return [ReasoningDelta(piece, delta.part, delta.choice) for piece in pieces(draw, delta.text)]
        case ToolCallDelta():
            first, *rest = pieces(draw, delta.arguments)
            later = [ToolCallDelta(delta.part, delta.choice, arguments=p, kind=delta.kind) for p in rest]
            return [replace(delta, arguments=first), *later]
        case AudioDelta():
            first, *rest = pieces(draw, delta.transcript)
            cut = draw(st.integers(1, len(delta.data)))
            halves = AudioDelta(delta.part, delta.choice, delta.data[cut:])
            spoken = [AudioDelta(delta.part, delta.choice, transcript=piece) for piece in rest]
            return [replace(delta, transcript=first, data=delta.data[:cut]), halves, *spoken]
        case _:
            return [delta]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Response, list[Event]]:
    """A response, and a stream of it: every delta in pieces, the choices woven into each other."""
    response = draw(RESPONSES)
    started, *body_, ended = stream_of(response)
    queues: dict[int, list[Event]] = {}
    finishes = [event for event in body_ if isinstance(event, Finished)]
    for event in body_:
        if not isinstance(event, Finished | Started | Ended | Completed):
            queues.setdefault(event.choice, []).extend(split(draw, event))
    woven: list[Event] = []
    while queues:
        number = draw(st.sampled_from(sorted(queues)))
        woven.append(queues[number].pop(0))
        if not queues[number]:
            del queues[number]
    return response, [started, *woven, *finishes, ended]


@given(streams())
def test_any_split_of_a_response_folds_to_it(case: tuple[Response, list[Event]]) -> None:
    response, events = case
    assert folded(events) == response
    data = streamed(events)
    again = read_back(data)
    assert folded(again) == response
    for chunk in chunks_of(data):
        if '"custom"' not in json.dumps(chunk):  # which OpenAI streams, and its SDK's types do not name
            official = ChatCompletionChunk.model_validate(chunk, strict=True)
            assert_official(official, frozenset({"reasoning_content", "annotations"}))


@settings(max_examples=15)
@given(streams())
def test_the_official_client_sees_the_same_text(case: tuple[Response, list[Event]]) -> None:
    response, events = case
    texts = [""] * len(response.choices)
    counted = None
    for chunk in seen_by_sdk(streamed(events)):
        counted = chunk.usage or counted
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.text for choice in response.choices]
    assert (counted and counted.total_tokens) == (response.usage and response.usage.tokens)


MARKS = st.none() | st.just(Extra("openai", {"prompt_cache_breakpoint": {"mode": "explicit"}}))
MEDIA = st.one_of(
    st.builds(Text, st.text(max_size=12), extra=MARKS),
    st.builds(
        Image, st.builds(Link, st.just("https://x.test/a.png")), st.none() | st.just("low"), extra=MARKS
    ),
    st.builds(Image, st.builds(Inline, st.just("image/png"), st.binary(max_size=9))),
    st.builds(Audio, st.builds(Inline, st.sampled_from(["audio/wav", "audio/mpeg"]), st.binary(max_size=9))),
    st.builds(File, st.builds(Uploaded, NAMES)),
    st.builds(File, st.builds(Inline, st.just("application/pdf"), st.binary(max_size=9)), st.none() | NAMES),
)
TEXTS = st.lists(st.builds(Text, st.text(max_size=12)), min_size=1, max_size=2).map(tuple)
SAID = st.lists(st.builds(Text, WORDS) | st.builds(Refusal, WORDS), min_size=1, max_size=2).map(tuple)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["system", "developer"]), TEXTS, st.none() | NAMES),
    st.builds(
        Message, st.just("user"), st.lists(MEDIA, min_size=1, max_size=3).map(tuple), st.none() | NAMES
    ),
    st.builds(
        lambda said, calls: Message("assistant", (*said, *calls)),
        SAID,
        TOOL_CALLS,
    ),
    st.builds(
        lambda thought, calls: Message("assistant", (Reasoning(thought), *calls)),
        WORDS,
        TOOL_CALLS.filter(bool),
    ),
    st.builds(lambda name: Message("assistant", (Audio(id=name),)), NAMES),
    st.builds(
        lambda name, parts, tool: Message("tool", (ToolResult(name, parts, tool),)),
        NAMES,
        TEXTS,
        st.none() | NAMES,
    ),
)
FLOATS = st.none() | st.floats(0, 1, allow_nan=False)
SCHEMA = st.dictionaries(NAMES, SCALARS.filter(lambda value: not isinstance(value, int)), max_size=2)
TOOLS = st.lists(
    st.builds(FunctionTool, NAMES, st.none() | WORDS, st.none() | SCHEMA, st.none() | st.booleans())
    | st.builds(CustomTool, NAMES, st.none() | WORDS, st.none() | st.just({"type": "text"})),
    max_size=3,
    unique_by=lambda tool: tool.name,
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    tools = tuple(draw(TOOLS))
    names = [tool.name for tool in tools]
    options: list[ToolChoice | None] = [None, ToolChoice("none"), ToolChoice("auto"), ToolChoice("required")]
    if names:
        options += [ToolChoice("named", tuple(names)), ToolChoice("auto", tuple(names))]
    return Request(
        draw(NAMES),
        tuple(draw(st.lists(MESSAGES, min_size=1, max_size=4))),
        sampling=Sampling(
            max_tokens=draw(st.none() | st.integers(1, 9)),
            temperature=draw(FLOATS),
            top_p=draw(FLOATS),
            stop=tuple(draw(st.lists(WORDS, max_size=2))),
            seed=draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
            frequency_penalty=draw(FLOATS),
            presence_penalty=draw(FLOATS),
            logit_bias=draw(st.none() | st.dictionaries(NAMES, st.integers(-100, 100), max_size=2)),
            top_logprobs=draw(st.none() | st.integers(0, 20)),
        ),
        tools=tools,
        tool_choice=draw(st.sampled_from(options)),
        parallel_tool_calls=draw(st.none() | st.booleans()),
        output=draw(
            st.just(JsonOutput())
            | st.builds(SchemaOutput, SCHEMA, NAMES, st.none() | WORDS, st.none() | st.booleans())
        ),
        modalities=draw(st.sampled_from([(), ("text",), ("text", "audio")])),
        audio=draw(st.none() | st.just({"format": "wav", "voice": "alloy"})),
        thinking=draw(st.sampled_from([None, Thinking(enabled=False), Thinking(effort="high")])),
        choices=draw(st.integers(1, 3)),
        stream=draw(st.booleans()),
        service_tier=draw(st.none() | st.just("flex")),
        user=draw(st.none() | WORDS),
        metadata=draw(st.none() | st.dictionaries(NAMES, WORDS, max_size=2)),
        extra=draw(st.none() | st.just(Extra("openai", {"store": True, "verbosity": "low"}))),
    )


@given(requests())
def test_a_request_survives_being_sent_and_received(request: Request) -> None:
    _, sent, *_ = WIRE.encode(request)
    received, options = parse(sent)
    assert received == request
    assert options.include_usage is request.stream
    assert WIRE.encode(received)[1] == sent
