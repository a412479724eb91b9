"""Chat completions towards an upstream, against documented replies and the official types."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from assay.errors import (
    AssayError,
    BadResponse,
    ContextExceeded,
    NotFound,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    UnsupportedFeature,
)
from assay.providers import openai_chat
from assay.providers.openai_chat import OpenAIChat
from assay.providers.openai_chat.vocabulary import (
    CompletionDetails,
    PromptDetails,
    WireUsage,
    audio_type,
    usage_from,
    usage_to,
)
from assay.types import (
    Assembly,
    Audio,
    CacheMark,
    Choice,
    CustomTool,
    Ended,
    Event,
    Extra,
    File,
    Finish,
    Finished,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    JsonOutput,
    Link,
    Message,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Refusal,
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
    system,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "openai"
WIRE = OpenAIChat()
ASK = Request("m", (user("Hi"),))


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def stream_data(name: str) -> list[str]:
    """The data of each server-sent event: the fixtures have one line each."""
    lines = fixture(name).decode().splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def events_of(data: list[str]) -> list[Event]:
    decoder = WIRE.events(ASK)
    events = [event for item in data for event in decoder.feed("message", item)]
    return [*events, *decoder.end()]


def folded(events: list[Event]) -> Response:
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    assert assembly.complete
    return assembly.response()


def chunk(delta: dict[str, Any] | None = None, **fields: Any) -> str:
    choice = {"index": fields.pop("index", 0), "delta": delta or {}}
    choice["finish_reason"] = fields.pop("finish_reason", None)
    return json.dumps({"id": "c1", "model": "m", "created": 1, "choices": [choice], **fields})


def sent(request: Request, **options: Any) -> Any:
    path, body, *_ = OpenAIChat(**options).encode(request)
    assert path == "/chat/completions"
    return json.loads(body)


def said(*parts: Any, role: Any = "user", **options: Any) -> Any:
    return sent(Request("m", (Message(role, parts),)), **options)["messages"]


def assert_official(value: Any) -> None:
    """Nothing in it, at any depth, that the official type does not name."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__} has no {sorted(value.model_extra)}"
        for name in type(value).model_fields:
            assert_official(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            assert_official(item)


# --- the fixtures are what OpenAI sends ----------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("chat*.json")), ids=lambda path: path.stem)
def test_reply_fixtures_are_official(path: Path) -> None:
    assert_official(ChatCompletion.model_validate_json(path.read_bytes(), strict=True))


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.sse")), ids=lambda path: path.stem)
def test_stream_fixtures_are_official(path: Path) -> None:
    *chunks, last = stream_data(path.name)
    assert last == "[DONE]"
    for data in chunks:
        assert_official(ChatCompletionChunk.model_validate_json(data, strict=True))


MODULES = [name for _, name, _ in pkgutil.iter_modules(openai_chat.__path__, f"{openai_chat.__name__}.")]


@pytest.mark.parametrize("module", [*MODULES, "assay.providers.scripted"])
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


# --- requests ------------------------------------------------------------------------------------


def test_what_is_absent_is_not_sent() -> None:
    assert sent(ASK) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def test_a_stream_asks_for_its_usage() -> None:
    body = sent(replace(ASK, stream=True))
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_the_same_conversation_has_the_same_bytes_before_it_grew() -> None:
    tools = (FunctionTool("b", parameters={"type": "object", "z": 1, "a": 2}), FunctionTool("a"))
    first = Request("m", (system("S"), user("1")), tools=tools)
    grown = replace(first, messages=(*first.messages, assistant("2"), user("3")))
    short, long = (WIRE.encode(request)[1] for request in (first, grown))
    prefix = short[: short.index(b'],"tools"')]
    assert long.startswith(prefix)
    assert short[len(prefix) :] == long[long.index(b'],"tools"') :]


def test_messages_keep_role_name_and_content() -> None:
    messages = (
        Message("system", (Text("S"),), "house"),
        Message("developer", (Text("a"), Text("b"))),
        Message("assistant", (Text("x"), Refusal("y"))),
        Message("assistant", (Audio(id="audio_1"),)),
        Message("assistant", ()),
    )
    assert sent(Request("m", messages))["messages"] == [
        {"role": "system", "content": "S", "name": "house"},
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}, {"type": "refusal", "refusal": "y"}],
        },
        {"role": "assistant", "audio": {"id": "audio_1"}},
        {"role": "assistant", "content": ""},
    ]


def test_tool_calls_and_their_results() -> None:
    calls = Message("assistant", (ToolCall("1", "f", "{}"), ToolCall("2", "sql", "select", "custom")))
    results = Message(
        "tool", (ToolResult("1", (Text("a"),)), Text("and?"), ToolResult("2", (Text("b"), Text("c")), "sql"))
    )
    assert sent(Request("m", (calls, results)))["messages"] == [
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "2", "type": "custom", "custom": {"name": "sql", "input": "select"}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "a"},
        {
            "role": "tool",
            "tool_call_id": "2",
            "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}],
            "name": "sql",
        },
        {"role": "user", "content": "and?"},
    ]


def test_media_in_a_user_message() -> None:
    mark = Extra("openai", {"prompt_cache_breakpoint": {"mode": "explicit"}})
    (message,) = said(
        Image(Link("https://x.test/a.png"), "low"),
        Image(Inline("image/png", b"\x89PNG"), extra=mark),
        Audio(Inline("audio/mpeg", b"ID3")),
        File(Inline("application/pdf", b"%PDF"), "a.pdf"),
        File(Uploaded("file-1")),
    )
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,iVBORw=="},
            "prompt_cache_breakpoint": {"mode": "explicit"},
        },
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"},
        },
        {"type": "file", "file": {"file_id": "file-1"}},
    ]


def test_hints_that_do_not_change_the_answer_are_left_out() -> None:
    cached, failed = Text("x", cache=CacheMark()), ToolResult("1", (Text("boom"),), is_error=True)
    assert said(cached) == [{"role": "user", "content": "x"}]
    assert said(failed, role="tool") == [{"role": "tool", "tool_call_id": "1", "content": "boom"}]


def test_earlier_reasoning_goes_only_where_it_is_understood() -> None:
    thought = (Reasoning("hm", signature="sig"), Text("ok"), ToolCall("1", "f", "{}", signature="g"))
    (message,) = said(*thought, role="assistant")
    assert message["reasoning_content"] == "hm"
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "g"}}
    (plain,) = said(*thought, role="assistant", extensions=False)
    assert set(plain) == {"role", "content", "tool_calls"}
    assert set(plain["tool_calls"][0]) == {"id", "type", "function"}


TOOLS = (
    FunctionTool("f", "Does.", {"type": "object"}, True),
    FunctionTool("g"),
    CustomTool("sql", "Asks.", {"type": "text"}),
    HostedTool("openai", {"type": "later"}),
)


def test_tools() -> None:
    function = {"name": "f", "description": "Does.", "parameters": {"type": "object"}, "strict": True}
    assert sent(replace(ASK, tools=TOOLS))["tools"] == [
        {"type": "function", "function": function},
        {"type": "function", "function": {"name": "g"}},
        {"type": "custom", "custom": {"name": "sql", "description": "Asks.", "format": {"type": "text"}}},
        {"type": "later"},
    ]


F_NAMED = {"type": "function", "function": {"name": "f"}}
SQL_NAMED = {"type": "custom", "custom": {"name": "sql"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("named", ("f",)), F_NAMED),
        (ToolChoice("named", ("sql",)), SQL_NAMED),
        (
            ToolChoice("named", ("f", "sql")),
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [F_NAMED, SQL_NAMED]},
            },
        ),
        (
            ToolChoice("auto", ("f",)),
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F_NAMED]}},
        ),
    ],
)
def test_tool_choice(choice: ToolChoice, expected: object) -> None:
    assert sent(replace(ASK, tools=TOOLS, tool_choice=choice))["tool_choice"] == expected


def test_parameters() -> None:
    request = replace(
        ASK,
        sampling=Sampling(
            max_tokens=9,
            temperature=0.0,
            top_p=0.5,
            top_k=40,
            stop=("a", "b"),
            seed=0,
            frequency_penalty=0.0,
            presence_penalty=-1.0,
            logit_bias={"1": -100.0, "2": 0.5},
            top_logprobs=2,
        ),
        parallel_tool_calls=False,
        output=SchemaOutput({"type": "object"}, "o", "d", True),
        modalities=("text", "audio"),
        audio={"format": "wav", "voice": "alloy"},
        thinking=Thinking(effort="high"),
        choices=2,
        service_tier="flex",
        user="u",
        metadata={"k": "v"},
        extra=Extra("openai", {"store": True, "verbosity": "low"}),
    )
    body = sent(request)
    del body["model"], body["messages"]
    assert body == {
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 40,
        "stop": ["a", "b"],
        "seed": 0,
        "frequency_penalty": 0.0,
        "presence_penalty": -1.0,
        "logit_bias": {"1": -100, "2": 0.5},
        "logprobs": True,
        "top_logprobs": 2,
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "o", "schema": {"type": "object"}, "description": "d", "strict": True},
        },
        "modalities": ["text", "audio"],
        "audio": {"format": "wav", "voice": "alloy"},
        "reasoning_effort": "high",
        "n": 2,
        "service_tier": "flex",
        "user": "u",
        "metadata": {"k": "v"},
        "store": True,
        "verbosity": "low",
    }
    assert b'"1":-100,' in WIRE.encode(request)[1]


@pytest.mark.parametrize(
    ("request_", "field", "expected"),
    [
        (replace(ASK, output=JsonOutput()), "response_format", {"type": "json_object"}),
        (replace(ASK, sampling=Sampling(top_logprobs=0)), "logprobs", True),
        (replace(ASK, thinking=Thinking(enabled=False, effort="high")), "reasoning_effort", "none"),
        (replace(ASK, thinking=Thinking(enabled=True)), "reasoning_effort", "medium"),
        (replace(ASK, thinking=Thinking(include_text=True)), "reasoning_effort", None),
        (replace(ASK, sampling=Sampling(top_logprobs=0)), "top_logprobs", None),
    ],
)
def test_parameters_in_other_words(request_: Request, field: str, expected: object) -> None:
    assert sent(request_).get(field) == expected


FOREIGN = Extra("anthropic", {"citations": True})


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (replace(ASK, extra=FOREIGN), "cannot carry 'citations', which is anthropic's own"),
        (replace(ASK, tools=(HostedTool("anthropic", {}),)), "tool that anthropic runs"),
        (replace(ASK, tools=(FunctionTool("f", extra=FOREIGN),)), "cannot carry 'tools[0].citations'"),
        (replace(ASK, tool_choice=ToolChoice("auto", extra=FOREIGN)), "cannot carry 'tool_choice.citations'"),
        *(
            (replace(ASK, messages=(Message(role, (part,)),)), words)
            for role, part, words in [
                ("user", Text("x", extra=FOREIGN), "cannot carry 'messages[0].parts[0].citations'"),
                ("user", Image(Uploaded("f")), "not as an uploaded file"),
                ("user", File(Link("https://x.test")), "not as a link"),
                ("user", Audio(Link("https://x.test")), "inline only"),
                ("user", Audio(Inline("audio/flac", b"")), "wav or mp3, not audio/flac"),
                ("user", Opaque("gemini", {}), "gemini part in a user message"),
                ("user", ToolCall("1", "f", "{}"), "ToolCall in a user message"),
                ("assistant", Image(Link("https://x.test")), "Image in an assistant message"),
                ("assistant", Audio(Inline("audio/wav", b"")), "Audio in an assistant message"),
                ("tool", ToolResult("1", (Image(Link("https://x.test")),)), "Image in a tool result"),
            ]
        ),
    ],
)
def test_what_cannot_be_carried_is_refused(request_: Request, words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=re.escape(words)):
        WIRE.encode(request_)


def test_top_k_is_refused_where_it_is_unknown() -> None:
    with pytest.raises(UnsupportedFeature, match="top_k"):
        sent(replace(ASK, sampling=Sampling(top_k=1)), extensions=False)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (replace(ASK, messages=(Message("tool", (Text("x"),)),)), "holds no ToolResult"),
        (replace(ASK, tool_choice=ToolChoice("named")), "names no tool"),
        (replace(ASK, metadata={"k": object()}), "cannot be written as JSON"),
        (replace(ASK, messages=(user("\ud800"),)), "cannot be written as JSON"),
    ],
)
def test_what_makes_no_sense_is_the_callers_error(request_: Request, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        WIRE.encode(request_)


def test_headers() -> None:
    assert WIRE.headers(None) == (("content-type", "application/json"),)
    assert dict(WIRE.headers("k"))["authorization"] == "Bearer k"


# --- whole replies -------------------------------------------------------------------------------


def test_a_text_reply() -> None:
    reply = WIRE.decode(ASK, fixture("chat.json"))
    assert reply == Response(
        "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "gpt-4.1-2025-04-14",
        (Choice(assistant("Hello! How can I assist you today?"), Finish("stop", "stop")),),
        usage=Usage(input=19, output=10),
        created_s=1741569952,
        extra=Extra("openai", {"service_tier": "default", "system_fingerprint": "fp_50cad350e4"}),
    )


def test_a_reply_of_tool_calls() -> None:
    reply = WIRE.decode(ASK, fixture("chat_tools.json"))
    assert reply.message.parts == (
        ToolCall("call_62136354", "get_current_weather", '{\n"location": "Boston, MA"\n}'),
        ToolCall("call_62136355", "math_exp", "4 + 4", "custom"),
    )
    assert reply.choices[0].finish == Finish("tool_calls", "tool_calls")
    assert reply.usage == Usage(input=162, cache_read=1920, output=25, reasoning=192)


def test_a_refusal() -> None:
    reply = WIRE.decode(ASK, fixture("chat_refusal.json"))
    assert reply.message.parts == (Refusal("I'm sorry, I cannot assist with that request."),)
    assert reply.text == ""


def test_log_probabilities() -> None:
    reply = WIRE.decode(ASK, fixture("chat_logprobs.json"))
    hi, half, odd = reply.choices[0].logprobs
    assert hi.top[1] == TokenLogprob("Hello", -1.3190403, b"Hello")
    assert half.data == b" \xf0\x9f\x91"
    assert odd == TokenLogprob("<|tool|>", -9999.0, top=(TokenLogprob("<|tool|>", -9999.0),))
    assert reply.choices[0].finish.reason == "length"


def test_a_spoken_reply() -> None:
    reply = WIRE.decode(ASK, fixture("chat_audio.json"))
    (audio,) = reply.message.parts
    assert isinstance(audio, Audio)
    assert isinstance(audio.source, Inline)
    assert audio.source.media_type == "audio/wav"
    assert audio.source.data.startswith(b"RIFF")
    assert audio.transcript == "Yes, golden retrievers are good with children."
    assert audio.expires_at_s == 1730908712
    assert reply.usage == Usage(input=26, input_audio=120, output=21, output_audio=71)


def test_citations_stay_with_their_text() -> None:
    (text,) = WIRE.decode(ASK, fixture("chat_search.json")).message.parts
    assert isinstance(text, Text)
    assert text.annotations[0]["url_citation"]["url"] == "https://www.sqlite.org/wal.html"


def reply_with(message: dict[str, Any], **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", **fields}
    return json.dumps({"id": "r1", "model": "m", "choices": [choice]}).encode()


def test_other_servers_are_understood() -> None:
    body = {
        "content": "4",
        "reasoning": "2+2",
        "tool_calls": [
            {"function": {"name": "f"}, "extra_content": {"google": {"thought_signature": "s"}}},
            {"id": "", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    reply = WIRE.decode(ASK, reply_with(body, finish_reason="eos"))
    assert reply.message.parts == (
        Reasoning("2+2"),
        Text("4"),
        ToolCall("call_r1_0_0", "f", "", signature="s"),
        ToolCall("call_r1_0_1", "g", "{}"),
    )
    assert reply.choices[0].finish == Finish("stop", "eos")
    assert reply.usage is None


def test_fields_that_nobody_knows_are_kept() -> None:
    body = json.loads(fixture("chat.json"))
    body |= {"citations": ["https://x.test"], "moderation": None}
    extra = WIRE.decode(ASK, json.dumps(body).encode()).extra
    assert extra is not None
    assert extra.fields["citations"] == ["https://x.test"]
    assert "moderation" not in extra.fields


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it is empty"),
        (b"<html>busy</html>", "it begins with: <html>busy</html>"),
        (b"\xff\xfe", "not a chat completion"),
        (b"[" * 100_000, "not a chat completion"),
        (b"[]", "Expected `object`"),
        (b"{}", "without choices"),
        (b'{"choices": []}', "without choices"),
        (b'{"choices": [{"message": {"content": 3}}]}', r"\$.choices\[0\].message.content"),
        (reply_with({"content": "x"}, finish_reason=None), "no finish_reason"),
        (reply_with({"tool_calls": [{"id": "a"}]}), "has no function"),
        (reply_with({"tool_calls": [{"id": "a", "function": {}}]}), "has no name"),
        (reply_with({"function_call": {"name": "f"}}), "deprecated"),
        (reply_with({"audio": {"id": "a", "data": "!"}}), "not base64"),
        (
            reply_with({"content": "x"}, logprobs={"content": [{"token": "", "logprob": 0, "bytes": [256]}]}),
            "not a chat completion",
        ),
    ],
)
def test_a_bad_reply_is_named_and_shown(body: bytes, words: str) -> None:
    with pytest.raises(BadResponse, match=words) as caught:
        WIRE.decode(ASK, body)
    assert len(caught.value.message) < 600


def test_an_error_inside_a_200_is_that_error() -> None:
    body = {"error": {"message": "busy", "code": 429}}
    with pytest.raises(RateLimited, match="busy"):
        WIRE.decode(ASK, json.dumps(body).encode())


# --- streams -------------------------------------------------------------------------------------


def test_a_streamed_text() -> None:
    events = events_of(stream_data("stream_text.sse"))
    names = [type(event).__name__ for event in events]
    assert names == ["Started", "TextDelta", "TextDelta", "Finished", "Ended"]
    reply = folded(events)
    assert reply.text == "Hello, wörld"
    assert reply.usage == Usage(input=19, output=3)
    assert (reply.id, reply.model, reply.created_s) == (
        "chatcmpl-CZ1",
        "gpt-4o-mini-2024-07-18",
        1763800000,
    )
    expected = {"service_tier": "default", "system_fingerprint": "fp_560af6e559"}
    assert reply.extra == Extra("openai", expected)


def test_streamed_tool_calls() -> None:
    reply = folded(events_of(stream_data("stream_tools.sse")))
    assert reply.tool_calls == (
        ToolCall("call_A1", "get_weather", '{"city": "Paris"}'),
        ToolCall("call_A2", "get_weather", '{"city": "Rome"}'),
    )
    assert reply.choices[0].finish.reason == "tool_calls"
    assert reply.usage == Usage(input=18, cache_read=64, output=31)


def test_streamed_sound_goes_on_after_its_finish_reason() -> None:
    reply = folded(events_of(stream_data("stream_audio.sse")))
    data = b"\x00\x00\x01\x00\x02\x00\xff\xff"
    assert reply.message.parts == (Audio(Inline("audio/pcm", data), "Good day.", "audio_6921", 1763803602),)


def test_streamed_choices_are_kept_apart() -> None:
    events = events_of(stream_data("stream_choices.sse"))
    kinds = [type(event) for event in events]
    assert kinds[-3:] == [Finished, Finished, Ended]
    assert Finished not in kinds[:-3]
    yes, no = folded(events).choices
    assert (yes.message.text, yes.finish.reason) == ("Yes", "stop")
    assert (no.message.parts, no.finish.reason) == ((Refusal("No, never."),), "length")
    assert [item.token for item in yes.logprobs] == ["Yes"]
    assert [item.token for item in no.logprobs] == ["No, "]


def test_streamed_reasoning_of_other_servers() -> None:
    events = events_of(stream_data("compatible/stream_reasoning.sse"))
    assert [type(event) for event in events[:4]] == [Started, ReasoningDelta, ReasoningDelta, TextDelta]
    reply = folded(events)
    assert reply.message.parts == (Reasoning("Two and two make four."), Text("4"))
    assert reply.usage == Usage(input=14, output=3, reasoning=20)


def test_calls_without_index_or_id_and_a_stream_without_done() -> None:
    reply = folded(events_of(stream_data("compatible/stream_bare_calls.sse")))
    assert reply.id == "bare-1"
    assert reply.tool_calls == (
        ToolCall("call_bare-1_0_0", "add", '{"a": 1}'),
        ToolCall("call_bare-1_0_1", "sub", '{"b": 2}'),
    )


def call(index: int | None = None, **fields: Any) -> dict[str, Any]:
    name, arguments = fields.pop("name", None), fields.pop("arguments", None)
    function = {"name": name, "arguments": arguments}
    numbered = {} if index is None else {"index": index}
    return {**numbered, "function": {k: v for k, v in function.items() if v is not None}, **fields}


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        pytest.param(
            [call(0, id="a", name="f", arguments="{"), call(0, arguments="}")],
            [("a", "f", "{}")],
            id="the first piece carries arguments",
        ),
        pytest.param(
            [
                call(0, id="a", name="f"),
                call(1, id="b", name="g"),
                call(0, arguments="1"),
                call(1, arguments="2"),
                call(0, arguments="3"),
            ],
            [("a", "f", "13"), ("b", "g", "2")],
            id="interleaved",
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments="1"), call(0, id="b", name="f", arguments="2")],
            [("a", "f", "1"), ("b", "f", "2")],
            id="every call numbered 0",
        ),
        pytest.param(
            [call(0, id="a", name="f"), call(0, id="x", arguments="1"), call(0, id="y", arguments="2")],
            [("a", "f", "12")],
            id="a new id with every piece",
        ),
        pytest.param(
            [call(id="a", name="f"), call(id="b", name="g"), call(id="a", arguments="1")],
            [("a", "f", "1"), ("b", "g", "")],
            id="ids without indexes",
        ),
        pytest.param(
            [call(0, id="a", name="f", arguments="1"), call(0, id="a", name="f", arguments="2")],
            [("a", "f", "12")],
            id="id and name repeated",
        ),
        pytest.param(
            [call(5, id="a", name="f"), call(9, id="b", name="g")],
            [("a", "f", ""), ("b", "g", "")],
            id="indexes with holes",
        ),
    ],
)
def test_tool_calls_in_pieces(deltas: list[dict[str, Any]], expected: list[tuple[str, str, str]]) -> None:
    data = [chunk({"tool_calls": [delta]}) for delta in deltas]
    reply = folded(events_of([*data, chunk(finish_reason="tool_calls"), "[DONE]"]))
    assert [(made.id, made.name, made.arguments) for made in reply.tool_calls] == expected


def test_a_custom_tool_call_in_pieces() -> None:
    opening = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": ""}}
    data = [
        chunk({"tool_calls": [opening]}),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "select"}}]}),
    ]
    reply = folded(events_of([*data, chunk(finish_reason="tool_calls"), "[DONE]"]))
    assert reply.tool_calls == (ToolCall("a", "sql", "select", "custom"),)


def test_parts_are_numbered_as_they_appear() -> None:
    data = [
        chunk({"reasoning_content": "r"}),
        chunk({"tool_calls": [call(0, id="a", name="f")]}),
        chunk({"content": "t"}),
        chunk({"tool_calls": [call(0, arguments="{}")]}),
        chunk({"content": "u"}),
    ]
    decoder = WIRE.events(ASK)
    deltas = [event for item in data for event in decoder.feed("message", item)][1:]
    assert [getattr(delta, "part", None) for delta in deltas] == [0, 1, 2, 1, 2]
    first, later = (delta for delta in deltas if isinstance(delta, ToolCallDelta))
    assert (first.id, first.name) == ("a", "f")
    assert (later.id, later.name) == (None, None)


def test_usage_is_set_and_an_absent_one_does_not_clear_it() -> None:
    counted = {"prompt_tokens": 5, "completion_tokens": 1}
    data = [
        chunk({"content": "a"}, usage=counted),
        chunk({"content": "b"}, usage={"prompt_tokens": 5, "completion_tokens": 2}),
        chunk(finish_reason="stop", usage=None),
        json.dumps({"choices": [], "usage": {}}),
        "[DONE]",
    ]
    assert folded(events_of(data)).usage == Usage(input=5, output=2)


def test_what_is_told_late_is_told_at_the_end() -> None:
    data = [
        chunk({"content": "a"}, system_fingerprint="fp"),
        chunk(finish_reason="stop", service_tier="flex"),
        "[DONE]",
    ]
    events = events_of(data)
    assert isinstance(events[0], Started)
    assert events[0].extra == Extra("openai", {"system_fingerprint": "fp"})
    assert folded(events).extra == Extra("openai", {"system_fingerprint": "fp", "service_tier": "flex"})


def test_the_first_finish_reason_stands() -> None:
    data = [chunk({"content": "a"}, finish_reason="length"), chunk(finish_reason="stop"), "[DONE]"]
    assert folded(events_of(data)).choices[0].finish == Finish("length", "length")


def test_nothing_follows_the_end() -> None:
    decoder = WIRE.events(ASK)
    decoder.feed("message", chunk({"content": "a"}, finish_reason="stop"))
    assert isinstance(decoder.feed("message", "[DONE]")[-1], Ended)
    assert list(decoder.feed("message", chunk({"content": "b"}))) == []
    assert list(decoder.end()) == []


@pytest.mark.parametrize("last", [["[DONE]"], []], ids=["done", "closed"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "before any choice came"),
        ([chunk({"content": "half"})], "before choice 0 had a finish_reason"),
        ([chunk({"content": "half"}, finish_reason="")], "before choice 0 had a finish_reason"),
        ([chunk(finish_reason="stop"), chunk({"content": "x"}, index=1)], "before choice 1"),
    ],
)
def test_a_cut_off_stream_is_never_a_success(data: list[str], words: str, last: list[str]) -> None:
    with pytest.raises(BadResponse, match=words) as caught:
        events_of([*data, *last])
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{not json", "it begins with: {not json"),
        ('{"choices": 3}', r"\$.choices"),
        (chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}), "begins without a name"),
        (chunk({"audio": {"data": "!"}}), "not base64"),
        ("[" * 100_000, "chunk that is not one"),
        ("x" * 5_000, "\\.\\.\\.$"),
    ],
)
def test_a_malformed_chunk_is_shown(data: str, words: str) -> None:
    decoder = WIRE.events(ASK)
    decoder.feed("message", chunk({"content": "fine"}))
    with pytest.raises(BadResponse, match=words) as caught:
        decoder.feed("message", data)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "no", "type": "server_error"}, ProviderUnavailable),
        ({"message": "no", "type": "rate_limit_error", "code": None}, RateLimited),
        ({"message": "no", "code": "rate_limit_exceeded"}, RateLimited),
        ({"message": "no", "code": 504}, ProviderTimeout),
        (
            {"message": "no", "code": "context_length_exceeded", "type": "invalid_request_error"},
            ContextExceeded,
        ),
        ({"message": "no", "type": "invalid_request_error"}, RequestError),
        ("no", ProviderUnavailable),
        ({"odd": "no"}, ProviderUnavailable),
    ],
)
def test_an_error_in_a_stream_is_typed(error: object, kind: type[AssayError]) -> None:
    for opening in ([], [chunk({"content": "Hi"})]):
        decoder = WIRE.events(ASK)
        for data in opening:
            decoder.feed("message", data)
        with pytest.raises(kind):
            decoder.feed("message", json.dumps({"error": error}))


def test_an_error_event_without_an_error_object() -> None:
    with pytest.raises(RateLimited, match="slow"):
        WIRE.events(ASK).feed("error", json.dumps({"message": "slow", "type": "rate_limit_error"}))


# --- usage ---------------------------------------------------------------------------------------

COUNT = st.one_of(st.none(), st.integers(-5, 60))


@given(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)
def test_usage_classes_are_disjoint_and_never_negative(
    prompt: int | None,
    completion: int | None,
    total: int | None,
    cached: int | None,
    written: int | None,
    heard: int | None,
    seen: int | None,
    reasoning: int | None,
    spoken: int | None,
) -> None:
    usage = usage_from(
        WireUsage(
            prompt,
            completion,
            total,
            PromptDetails(cached, written, heard, seen),
            CompletionDetails(reasoning, spoken),
        )
    )
    if usage is None:
        assert prompt is None
        assert completion is None
        return
    told = max(prompt or 0, 0) + max(completion or 0, 0)
    assert usage.tokens_in == max(prompt or 0, 0)
    assert usage.tokens == max(told, total or 0)
    for name in Usage.__struct_fields__:
        assert getattr(usage, name) >= 0


def test_reasoning_that_is_only_in_the_total_is_counted() -> None:
    wire = WireUsage(10, 5, 35, None, CompletionDetails(reasoning_tokens=20))
    assert usage_from(wire) == Usage(input=10, output=5, reasoning=20)


def test_usage_written_out_counts_everything_once() -> None:
    usage = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    wire = usage_to(usage)
    assert wire["prompt_tokens"] == 1 + 2 + 3 + 4 + 5 + 6 + 7
    assert wire["completion_tokens"] == 8 + 9 + 10 + 11
    assert wire["total_tokens"] == usage.tokens
    assert wire["prompt_tokens_details"] == {
        "cached_tokens": 9,
        "audio_tokens": 2,
        "cache_write_tokens": 13,
        "image_tokens": 3,
    }


def test_sound_is_known_by_its_beginning() -> None:
    assert audio_type(b"OggS....") == "audio/ogg"
    assert audio_type(b"\x00\x00") == "audio/pcm"


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (429, "error_429_rate.json", RateLimited, True),
        (429, "error_429_quota.json", RateLimited, False),
        (401, "error_401.json", ProviderError, False),
        (403, "error_401.json", ProviderError, False),
        (400, "error_400_context.json", ContextExceeded, False),
        (400, "error_400_value.json", RequestError, False),
        (422, "error_400_value.json", RequestError, False),
        (404, "error_404_model.json", NotFound, False),
        (500, "error_500.json", ProviderUnavailable, True),
        *((status, "error_500.json", ProviderUnavailable, True) for status in (409, 502, 503, 529)),
        (408, "error_500.json", ProviderTimeout, True),
        (504, "error_500.json", ProviderTimeout, True),
        (402, "error_429_quota.json", ProviderError, False),
        (302, "error_500.json", BadResponse, False),
    ],
)
def test_status_and_body_become_a_typed_error(
    status: int, body: str, kind: type[AssayError], retryable: bool
) -> None:
    error = WIRE.error(status, {}, fixture(body))
    assert type(error) is kind
    assert error.retryable is retryable
    if isinstance(error, ProviderError):
        assert error.upstream_status == status
        assert error.body is not None


def test_the_upstreams_words_reach_the_caller() -> None:
    error = WIRE.error(400, {}, fixture("error_400_value.json"))
    assert isinstance(error, RequestError)
    assert error.message.startswith("Invalid 'temperature'")
    assert (error.param, error.code) == ("temperature", "decimal_above_max_value")


def test_refused_credentials_are_ours_not_the_callers() -> None:
    error = WIRE.error(401, {}, fixture("error_401.json"))
    assert (error.status, error.code) == (502, "provider_auth")
    assert "check the provider's api_key" in error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "20"}, 20.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "20", "retry-after-ms": "1250"}, 1.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(headers: dict[str, str], seconds: float | None, status: int) -> None:
    wire = OpenAIChat(clock=lambda: 1792567681.0)
    assert wire.error(status, headers, b"").retry_after_s == seconds


def test_the_upstream_may_say_whether_to_retry() -> None:
    assert not WIRE.error(503, {"x-should-retry": "false"}, b"").retryable
    assert WIRE.error(401, {"x-should-retry": "true"}, b"").retryable


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "its reply was empty"),
        (b"<html>\n <b>Bad gateway</b></html>", "<html> <b>Bad gateway</b></html>"),
        (b'{"error": "model is loading"}', "model is loading"),
        (b'{"message": "plain"}', "plain"),
        (b'{"detail": [{"loc": ["body"], "msg": "bad"}]}', '"msg":"bad"'),
        (b'[{"error": {"message": "listed", "code": 503}}]', "listed"),
        (b'"just a string"', "just a string"),
        (b"\xff\xff", "\ufffd"),
        (b"[" * 100_000, r"\[\["),
        (b'{"error": {"message": "' + b"x" * 100_000 + b'"}}', "x"),
    ],
)
def test_any_body_will_do(body: bytes, words: str) -> None:
    error = WIRE.error(500, {}, body)
    assert isinstance(error, ProviderUnavailable)
    assert words.replace("\\", "") in error.message
    assert len(error.message) < 600
    assert error.body is not None
    assert len(error.body) <= 2_000


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "too long", "type": "exceed_context_size_error", "code": 400}},
        {
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000",
            "code": 400,
        },
    ],
)
def test_other_servers_words_for_too_long(body: dict[str, Any]) -> None:
    assert isinstance(WIRE.error(400, {}, json.dumps(body).encode()), ContextExceeded)
