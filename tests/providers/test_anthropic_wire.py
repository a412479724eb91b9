"""What is sent to Anthropic's Messages: against golden bodies, the official types and the inbound side."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from pydantic import ConfigDict, TypeAdapter, with_config

from assay.errors import RequestError, UnsupportedFeature
from assay.providers import anthropic
from assay.providers.anthropic import Anthropic
from assay.server.anthropic.parse import parse
from assay.types import (
    Audio,
    CacheMark,
    Context,
    CustomTool,
    Extra,
    File,
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
    Sampling,
    SchemaOutput,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
    WireCall,
    assistant,
    replace,
    system,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "anthropic"
WIRE = Anthropic()
NEW, OLD = "claude-opus-5", "claude-sonnet-4-5"
ASK = Request(NEW, (user("Hi"),))
CALL = ToolCall("toolu_1", "look", '{"at": 1.0}')
RESULT = Message("tool", (ToolResult("toolu_1", (Text("found"),)),))
WEATHER = FunctionTool("get_weather", "The weather", {"type": "object", "properties": {}})


def sent(request: Request, *, whole: bool = False) -> Any:
    """The body; all that is left out fails the test, unless `whole` is asked for and both are returned."""
    encoded = WIRE.encode(request)
    body = json.loads(encoded.body)
    if whole:
        return body, encoded.dropped
    assert encoded.dropped == ()
    return body


def turns(*messages: Message, model: str = NEW) -> Any:
    return sent(Request(model, messages))["messages"]


def dropped(request: Request) -> tuple[str, ...]:
    return WIRE.encode(request).dropped


def refused(request: Request, param: str) -> str:
    with pytest.raises(UnsupportedFeature) as caught:
        WIRE.encode(request)
    assert caught.value.param == param
    return caught.value.message


# --- the whole -----------------------------------------------------------------------------------

FULL = Request(
    NEW,
    (
        Message("system", (Text("Be brief.", cache=CacheMark("1h")),)),
        Message("developer", (Text("Use the tools."),)),
        Message(
            "user",
            (
                Text("What is this?", cache=CacheMark()),
                Image(Inline("image/jpg", b"\xff\xd8")),
                Image(Link("https://example.org/a.png"), extra=Extra("anthropic", {"transformations": {}})),
                Image(Uploaded("file_1")),
                File(Inline("application/pdf", b"%PDF-"), "report", CacheMark()),
                File(Inline("text/plain", b"words"), extra=Extra("anthropic", {"context": "notes"})),
                File(Link("https://example.org/a.pdf")),
                File(Uploaded("file_2")),
                Opaque("anthropic", {"type": "container_upload", "file_id": "file_3"}),
            ),
        ),
        Message(
            "assistant",
            (
                Reasoning("Hm.", signature="c2ln"),
                Reasoning(encrypted="ZW5j"),
                Text("I look.", ({"type": "char_location", "cited_text": "words"},)),
                ToolCall("toolu_1", "look", '{"at":  1.0, "é": []}', cache=CacheMark()),
                ToolCall("call:2", "list", ""),
            ),
        ),
        Message(
            "tool",
            (
                ToolResult(
                    "toolu_1", (Text("see"), Image(Inline("image/png", b"\x89P"))), cache=CacheMark("1h")
                ),
            ),
        ),
        Message("tool", (ToolResult("call:2", (Text("no such place"),), is_error=True),)),
        Message("user", (Text("And?"),)),
        Message("system", (Text("Answer in German."),)),
    ),
    sampling=Sampling(max_tokens=20_000, temperature=0.5, top_p=0.9, top_k=5, stop=("END",)),
    tools=(
        replace(WEATHER, strict=True, cache=CacheMark(), extra=Extra("anthropic", {"defer_loading": False})),
        FunctionTool("list"),
        HostedTool("anthropic", {"type": "web_search_20260318", "name": "web_search", "max_uses": 2}),
    ),
    tool_choice=ToolChoice("required"),
    parallel_tool_calls=False,
    output=SchemaOutput({"type": "object", "additionalProperties": False}),
    thinking=Thinking(effort="xhigh", include_text=True),
    stream=True,
    service_tier="standard_only",
    user="u-1",
    extra=Extra("anthropic", {"container": "c1", "output_config": {"task_budget": {"total": 9}}}),
    context=Context(trace_id="t"),
)


def test_a_full_request_is_sent_to_the_byte() -> None:
    encoded = WIRE.encode(FULL)
    assert encoded.body == (FIXTURES / "request_full.json").read_bytes()
    assert encoded.dropped == ()
    assert WIRE.encode(FULL) == encoded


def test_a_full_request_is_of_the_official_type() -> None:
    body = json.loads(WIRE.encode(FULL).body)
    del body["output_config"]["task_budget"]  # a beta's
    for name in ("temperature", "top_p", "top_k"):  # the newest version has none, the one that is sent has
        del body[name]
    adapter = TypeAdapter(with_config(ConfigDict(extra="forbid"))(MessageCreateParamsStreaming))
    adapter.validate_python(body)


def test_the_golden_request_comes_back_from_the_inbound_side_unchanged() -> None:
    body = WIRE.encode(FULL).body
    again, _ = parse(body)
    assert json.loads(WIRE.encode(again).body) == json.loads(body)


def test_a_small_request_has_the_field_that_the_api_needs_and_no_other() -> None:
    assert sent(ASK) == {
        "model": NEW,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    encoded = Anthropic(max_tokens=7).encode(ASK)
    assert json.loads(encoded.body)["max_tokens"] == 7
    TypeAdapter(MessageCreateParamsNonStreaming).validate_python(json.loads(encoded.body))


def test_doctests() -> None:
    for module in pkgutil.iter_modules(anthropic.__path__, f"{anthropic.__name__}."):
        assert doctest.testmod(importlib.import_module(module.name)).failed == 0


# --- system --------------------------------------------------------------------------------------


def test_what_the_system_says_first_is_the_system_prompt() -> None:
    body = sent(Request(NEW, (system("A"), Message("developer", (Text("B"),)), user("Hi"))))
    assert body["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert sent(Request(NEW, (system("A"), user("Hi"))))["system"] == "A"
    assert "system" not in sent(Request(NEW, (system(""), user("Hi"))))


def test_a_later_system_message_stays_behind_its_user_turn() -> None:
    assert turns(user("1"), assistant("2"), user("3"), system("S"), assistant("4"), user("5")) == [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
        {"role": "system", "content": "S"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "5"},
    ]


def test_a_system_message_before_a_user_turn_stands_behind_it_for_the_api_has_no_other_place() -> None:
    assert turns(user("1"), assistant("2"), system("S"), system("T"), user("3")) == [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
        {"role": "system", "content": [{"type": "text", "text": "S"}, {"type": "text", "text": "T"}]},
    ]


def test_a_system_message_between_assistant_turns_is_said_by_the_user() -> None:
    expected = [{"role": "user", "content": "S"}, {"role": "assistant", "content": "3"}]
    assert turns(user("1"), assistant("2"), system("S"), assistant("3"))[2:] == expected


def test_a_system_message_may_follow_a_server_tool() -> None:
    hosted = Message("assistant", (Opaque("anthropic", {"type": "server_tool_use", "id": "s"}),))
    assert turns(user("1"), hosted, system("S"))[2] == {"role": "system", "content": "S"}


@pytest.mark.parametrize("model", [OLD, "claude-opus-4-7", "claude-sonnet-5", "glm-5"])
def test_other_models_get_a_later_system_message_as_a_text_of_the_user_turn(model: str) -> None:
    assert turns(user("1"), assistant("2"), system("S"), user("3"), model=model)[2] == {
        "role": "user",
        "content": [{"type": "text", "text": "S"}, {"type": "text", "text": "3"}],
    }


def test_a_growing_conversation_keeps_its_prefix() -> None:
    """The cache of the provider hangs on it."""
    talk = (
        system("A"),
        user("1"),
        system("S"),
        assistant("2"),
        RESULT,
        user("3"),
        system("T"),
        assistant("4"),
    )
    whole = turns(*talk)
    for length in (4, 8):
        shorter = turns(*talk[:length])
        assert whole[: len(shorter)] == shorter


def test_fields_of_a_later_system_message_stay_with_it() -> None:
    later = Message("system", (Text("S"),), extra=Extra("anthropic", {"clear_at": "next_user_message"}))
    assert turns(user("1"), later)[1]["clear_at"] == "next_user_message"
    assert dropped(Request(NEW, (later, user("1")))) == ("messages[0].clear_at",)


def test_a_system_prompt_alone_is_refused() -> None:
    with pytest.raises(RequestError, match="add a user message"):
        WIRE.encode(Request(NEW, (system("A"),)))


# --- turns ---------------------------------------------------------------------------------------


def test_neighbours_of_one_role_are_one_turn() -> None:
    assert turns(user("1"), user("2"), assistant("3"), assistant("4")) == [
        {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "3"}, {"type": "text", "text": "4"}]},
    ]


def test_parallel_results_share_one_user_turn_and_stand_first_in_it() -> None:
    calls = Message("assistant", (CALL, replace(CALL, id="toolu_2")))
    second = Message("tool", (ToolResult("toolu_2", ()),))
    said = turns(user("Go"), calls, user("Wait"), RESULT, second)
    assert said[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"},
            {"type": "tool_result", "tool_use_id": "toolu_2"},
            {"type": "text", "text": "Wait"},
        ],
    }


def test_a_turn_that_says_nothing_is_left_out_and_its_neighbours_meet() -> None:
    empty = Message("assistant", (Text(""), Refusal("")))
    assert turns(user("1"), empty, user("2"), Message("user", ())) == [
        {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]}
    ]
    assert dropped(Request(NEW, (user("1"), assistant("\n")))) == ("messages[1].parts[0]",)


def test_tool_ids_are_cleaned_the_same_way_in_calls_and_results() -> None:
    ids = ["functions.look:0", "functions.look:1", "functions_look_0", "é", ""]
    calls = Message("assistant", tuple(replace(CALL, id=given) for given in ids))
    results = Message("tool", tuple(ToolResult(given, ()) for given in ids))
    _, called, answered = turns(user("Go"), calls, results)
    clean = [block["id"] for block in called["content"]]
    assert [block["tool_use_id"] for block in answered["content"]] == clean
    assert len(set(clean)) == len(ids)
    assert clean[2] == "functions_look_0"
    assert all(
        set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for one in clean
    )
    assert all(clean)


def test_arguments_go_on_as_they_were_written() -> None:
    body = WIRE.encode(Request(NEW, (user("Go"), Message("assistant", (CALL,)), RESULT))).body
    assert b'"input":{"at": 1.0}' in body
    bare = turns(user("Go"), Message("assistant", (replace(CALL, arguments=""),)))
    assert bare[1]["content"][0]["input"] == {}


@pytest.mark.parametrize("arguments", ["[1]", "{", "1", "\ud800", "[" * 5000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(RequestError, match="'look' are not a JSON object") as caught:
        WIRE.encode(Request(NEW, (user("Go"), Message("assistant", (replace(CALL, arguments=arguments),)))))
    assert caught.value.param == "messages"


def test_a_refusal_is_said_again_as_text() -> None:
    assert turns(user("1"), Message("assistant", (Refusal("No."),)))[1]["content"] == "No."


# --- parts that cannot be carried ----------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Message("user", (Audio(Inline("audio/wav", b"")),)),
        Message("user", (Image(Inline("image/tiff", b"")),)),
        Message("user", (File(Inline("video/mp4", b"")),)),
        Message("user", (File(Link("https://example.org/a.doc", "application/msword")),)),
        Message("user", (Opaque("openai", {"type": "x"}),)),
        Message("user", (CALL,)),
        Message("assistant", (Image(Link("https://example.org/a.png")),)),
        Message("assistant", (File(Uploaded("f")),)),
        Message("assistant", (replace(CALL, kind="custom"),)),
        Message("system", (Image(Link("https://example.org/a.png")),)),
        Message("tool", (ToolResult("toolu_1", (Audio(id="a"),)),)),
        Message("user", (Text("a", extra=Extra("gemini", {"weight": 1})),)),
    ],
)
def test_a_part_on_which_the_answer_depends_is_refused(message: Message) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        WIRE.encode(Request(NEW, (user("Hi"), message)))
    assert (caught.value.param or "").startswith("messages")


def test_a_text_document_that_is_no_utf_8_is_the_callers_to_mend() -> None:
    with pytest.raises(RequestError, match="not UTF-8"):
        WIRE.encode(Request(NEW, (Message("user", (File(Inline("text/plain", b"\xff")),)),)))


@pytest.mark.parametrize("note", [{"type": ["x"]}, {"type": {}}, {"type": None}, {}, "x", None, [1]])
def test_an_annotation_of_any_shape_is_left_out(note: Any) -> None:
    answer = Message("assistant", (Text("c", (note,)),))
    assert dropped(Request(NEW, (user("a"), answer, user("b")))) == ("messages[1].parts[0].annotations",)


def test_what_the_answer_does_not_depend_on_is_left_out_by_name() -> None:
    parts = (
        Text("a", ({"type": "url_citation"},), signature="c2ln", cache=CacheMark("24h")),
        Image(Uploaded("f"), detail="low"),
        Text("b", extra=Extra("gemini", {"mediaResolution": "LOW"})),
    )
    answer = Message("assistant", (Text("c", ({"type": "url_citation"},)), replace(CALL, signature="c2ln")))
    request = Request(
        NEW,
        (Message("user", parts, name="ann"), answer, RESULT),
        sampling=Sampling(seed=1, frequency_penalty=0, presence_penalty=0.0),
        tools=(replace(WEATHER, extra=Extra("gemini", {"response": {}})),),
        parallel_tool_calls=True,
        output=SchemaOutput({"type": "object"}, "shape", "The shape"),
        metadata={"a": 1},
        service_tier="flex",
        extra=Extra("openai", {"store": True, "verbosity": "low"}),
    )
    assert dropped(request) == (
        "messages[0].name",
        "messages[0].parts[0].annotations",
        "messages[0].parts[0].signature",
        "messages[0].parts[0].cache",
        "messages[0].parts[1].detail",
        "messages[0].parts[2].mediaResolution",
        "messages[1].parts[0].annotations",
        "messages[1].parts[1].signature",
        "tools[0].response",
        "output.name",
        "output.description",
        "seed",
        "metadata",
        "service_tier",
        "store",
        "verbosity",
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"choices": 2}, "choices"),
        ({"modalities": ("text", "audio")}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"sampling": Sampling(frequency_penalty=0.1)}, "frequency_penalty"),
        ({"sampling": Sampling(presence_penalty=-1)}, "presence_penalty"),
        ({"sampling": Sampling(logit_bias={"1": 1})}, "logit_bias"),
        ({"sampling": Sampling(top_logprobs=0)}, "top_logprobs"),
        ({"sampling": Sampling(temperature=1.01)}, "temperature"),
        ({"sampling": Sampling(temperature=-0.1)}, "temperature"),
        ({"output": JsonOutput()}, "output"),
        ({"tools": (CustomTool("c"),)}, "tools"),
        ({"tools": (HostedTool("openai", {"type": "web_search"}),)}, "tools"),
        ({"tool_choice": ToolChoice("named", ("a", "b"))}, "tool_choice"),
        ({"tool_choice": ToolChoice("auto", ("a",))}, "tool_choice"),
        ({"extra": Extra("openai", {"prediction": {}})}, "prediction"),
        ({"operation": "embeddings"}, "model"),
    ],
)
def test_what_the_api_lacks_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    refused(replace(ASK, **fields), param)


def test_what_is_not_json_is_the_callers_to_mend() -> None:
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        WIRE.encode(replace(ASK, tools=(replace(WEATHER, parameters={"type": object()}),)))


# --- tools and parameters ------------------------------------------------------------------------


def test_an_input_schema_is_always_an_object() -> None:
    tools = (FunctionTool("a"), FunctionTool("b", parameters={"properties": {}}))
    assert sent(replace(ASK, tools=tools))["tools"] == [
        {"name": "a", "input_schema": {"type": "object", "properties": {}}},
        {"name": "b", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("named", ("get_weather",)), None, {"type": "tool", "name": "get_weather"}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    request = replace(ASK, tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=parallel)
    assert sent(request).get("tool_choice") == expected


def test_a_named_choice_needs_a_name() -> None:
    with pytest.raises(RequestError, match="names no tool"):
        WIRE.encode(replace(ASK, tools=(WEATHER,), tool_choice=ToolChoice("named")))


@pytest.mark.parametrize(("tier", "expected"), [("auto", "auto"), ("default", "standard_only")])
def test_service_tiers_that_the_api_has(tier: str, expected: str) -> None:
    assert sent(replace(ASK, service_tier=tier))["service_tier"] == expected


def test_the_callers_own_thinking_is_not_overwritten() -> None:
    extra = Extra("anthropic", {"thinking": {"type": "between_tools"}, "speed": "fast"})
    body = sent(replace(ASK, thinking=Thinking(effort="low"), extra=extra, wire=WireCall("anthropic", b"")))
    assert body["thinking"] == {"type": "between_tools"}
    assert (body["output_config"], body["speed"]) == ({"effort": "low"}, "fast")


@pytest.mark.parametrize(
    ("model", "sampling", "expected"),
    [
        (OLD, Sampling(temperature=1, top_p=1), {"temperature": 1}),
        (OLD, Sampling(temperature=0.5, top_p=1), {"temperature": 0.5}),
        (OLD, Sampling(temperature=0.5, top_p=0.9), {"temperature": 0.5, "top_p": 0.9}),
        (OLD, Sampling(top_p=1), {"top_p": 1}),
        ("claude-3-5-haiku", Sampling(temperature=1, top_p=1), {"temperature": 1, "top_p": 1}),
        (NEW, Sampling(temperature=1, top_p=1), {}),
        (NEW, Sampling(temperature=0), {"temperature": 0}),
        ("glm-5", Sampling(temperature=1, top_p=1), {"temperature": 1, "top_p": 1}),
    ],
)
def test_a_model_is_not_told_what_it_does_anyhow_where_it_refuses_to_be_told(
    model: str, sampling: Sampling, expected: dict[str, float]
) -> None:
    body = sent(replace(ASK, model=model, sampling=sampling))
    assert {name: body[name] for name in ("temperature", "top_p") if name in body} == expected


# --- counting ------------------------------------------------------------------------------------


def test_a_count_asks_only_what_counts() -> None:
    request = replace(FULL, operation="count_tokens", extra=None, stream=False)
    encoded = WIRE.encode(request)
    body = json.loads(encoded.body)
    assert encoded.path == "/messages/count_tokens"
    assert set(body) == {"model", "system", "messages", "tools", "tool_choice", "thinking", "output_config"}
    TypeAdapter(with_config(ConfigDict(extra="forbid"))(MessageCountTokensParams)).validate_python(body)
    old = replace(ASK, model=OLD, operation="count_tokens", thinking=Thinking(effort="high"))
    assert json.loads(WIRE.encode(old).body)["thinking"] == {"type": "enabled", "budget_tokens": 24_576}


# --- headers and the caller's own bytes ----------------------------------------------------------


def test_headers() -> None:
    assert WIRE.headers("k") == (("content-type", "application/json"), ("x-api-key", "k"))
    assert WIRE.headers(None) == (("content-type", "application/json"),)
    assert WIRE.encode(ASK).headers == (("anthropic-version", "2023-06-01"),)
    assert WIRE.hidden(ASK, "ping", "{}") is False


def test_the_callers_bytes_go_on_with_the_model_alone_replaced() -> None:
    body = (
        b'{"messages": [{"role":"user",  "content":"\\u00e9"}], "model": "fast", '
        b'"top_p": 1.0, "x": {"model": 1}}'
    )
    encoded = WIRE.forward(ASK, WireCall("anthropic", body))
    assert encoded.path == "/messages"
    assert encoded.body == (
        b'{"messages":[{"role":"user",  "content":"\\u00e9"}],"model":"claude-opus-5",'
        b'"top_p":1.0,"x":{"model": 1}}'
    )
    assert encoded.headers == (("anthropic-version", "2023-06-01"),)


def test_the_callers_version_and_betas_go_on_once_each() -> None:
    given = (("anthropic-version", "2026-10-21"), ("anthropic-beta", "a,b"), ("anthropic-beta", "c"))
    call = WireCall("anthropic", b'{"model":"m"}', given)
    encoded = WIRE.forward(ASK, call)
    assert (encoded.path, encoded.headers) == ("/messages?beta=true", given)
    count = replace(ASK, operation="count_tokens")
    assert WIRE.forward(count, call).path == "/messages/count_tokens?beta=true"
    translated = WIRE.encode(replace(ASK, wire=call))
    assert (translated.path, translated.headers) == ("/messages?beta=true", given)
    other = WIRE.encode(replace(ASK, wire=replace(call, dialect="openai")))
    assert (other.path, other.headers) == ("/messages", (("anthropic-version", "2023-06-01"),))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 5000])
def test_bytes_that_are_no_object_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        WIRE.forward(ASK, WireCall("anthropic", body))


def test_embeddings_cannot_be_forwarded_either() -> None:
    with pytest.raises(UnsupportedFeature, match="no embeddings"):
        WIRE.forward(replace(ASK, operation="embeddings"), WireCall("anthropic", b"{}"))
