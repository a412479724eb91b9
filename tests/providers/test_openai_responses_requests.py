"""Calls to an upstream of the Responses API: every rule of what is sent, left out and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import ResponseInputItem
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from pydantic import TypeAdapter

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.openai_responses import OpenAIResponses
from assay.types import (
    Audio,
    CacheMark,
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

ASK = Request("m", (user("Hi"),))
WEATHER = FunctionTool("weather", "Weather", {"type": "object"})
OFFICIAL_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseInputItem)
PDF = Inline("application/pdf", b"%PDF")


def sent(request: Request, **options: Any) -> dict[str, Any]:
    path, body, *_ = OpenAIResponses(**options).encode(request)
    assert path == "/responses"
    fields: dict[str, Any] = json.loads(body)
    assert set(fields) <= {*ResponseCreateParamsBase.__annotations__, "stream", "top_k"}
    return fields


def items(*turns: Message, **options: Any) -> list[Any]:
    found: list[Any] = sent(Request("m", turns), **options)["input"]
    return found


def said(*parts: Any, role: Any = "user", **options: Any) -> list[Any]:
    return items(Message(role, parts), **options)


def dropped(request: Request, **options: Any) -> tuple[str, ...]:
    return OpenAIResponses(**options).encode(request).dropped


def lost(*parts: Any, role: Any = "user") -> tuple[str, ...]:
    return dropped(Request("m", (Message(role, parts),)))


def refused(request: Request, **options: Any) -> UnsupportedFeature:
    with pytest.raises(UnsupportedFeature) as caught:
        OpenAIResponses(**options).encode(request)
    return caught.value


# --- the frame -----------------------------------------------------------------------------------


def test_the_least_call() -> None:
    assert sent(ASK) == {"model": "m", "input": [{"role": "user", "content": "Hi"}], "store": False}


def test_the_same_request_is_the_same_bytes() -> None:
    request = replace(ASK, tools=(WEATHER,), thinking=Thinking(effort="low"), metadata={"b": "1", "a": "2"})
    wire = OpenAIResponses()
    assert wire.encode(request) == wire.encode(request)


def test_nothing_is_kept_at_the_upstream_and_reasoning_comes_back_sealed() -> None:
    body = sent(replace(ASK, thinking=Thinking(effort="high", summary="auto"), stream=True))
    assert body["store"] is False
    assert body["stream"] is True
    assert body["include"] == ["reasoning.encrypted_content"]
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}


@pytest.mark.parametrize("thinking", [None, Thinking(enabled=False), Thinking(effort="none")])
def test_a_model_that_shall_not_reason_is_not_asked_to_seal_it(thinking: Thinking | None) -> None:
    assert "include" not in sent(replace(ASK, thinking=thinking))


def test_earlier_reasoning_asks_for_more_of_it() -> None:
    turn = Message("assistant", (Reasoning(id="rs_1", encrypted="E"), Text("Hm")))
    assert sent(Request("m", (user("a"), turn, user("b"))))["include"] == ["reasoning.encrypted_content"]


def test_counting_sends_what_counts() -> None:
    request = replace(
        ASK, operation="count_tokens", tools=(WEATHER,), sampling=Sampling(max_tokens=5), user="u"
    )
    path, body, *_ = OpenAIResponses().encode(request)
    assert path == "/responses/input_tokens"
    assert set(json.loads(body)) == {"model", "input", "tools"}


def test_embeddings_are_another_apis() -> None:
    assert refused(replace(ASK, operation="embeddings")).param == "model"


# --- messages ------------------------------------------------------------------------------------


def test_system_messages_stay_where_they_are() -> None:
    turns = (system("a"), user("b"), Message("developer", (Text("c"),)), user("d"))
    assert [item["role"] for item in items(*turns)] == ["system", "user", "developer", "user"]


def test_parts_of_a_user() -> None:
    (message,) = said(
        Text("look"),
        Image(Inline("image/png", b"hi"), "low"),
        Image(Link("https://x/y.png")),
        Image(Uploaded("file-1")),
        File(PDF, "a.pdf"),
        File(Link("https://x/a.pdf")),
        File(Uploaded("file-2")),
        Audio(Inline("audio/mpeg", b"hi")),
    )
    assert message["content"] == [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "low"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
        {"type": "input_image", "file_id": "file-1", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
        {"type": "input_file", "file_url": "https://x/a.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
    ]


def test_a_file_that_has_no_name_gets_one() -> None:
    assert said(File(PDF))[0]["content"][0]["filename"] == "file.pdf"


@pytest.mark.parametrize(
    "part",
    [
        File(Inline("video/mp4", b"x")),
        Audio(Inline("audio/flac", b"x")),
        Audio(id="audio_1"),
        Opaque("anthropic", {"type": "document"}),
        Reasoning("hm"),
    ],
)
def test_what_a_user_cannot_say_is_refused(part: Any) -> None:
    assert refused(Request("m", (Message("user", (part,)),))).param == "messages"


def test_what_the_model_said_is_items_in_their_order() -> None:
    turn = (
        Reasoning("", ("short",), encrypted="E", id="rs_1"),
        Text("On my way."),
        ToolCall("c1", "weather", "{}"),
        ToolCall("c2", "code", "print()", "custom"),
        Opaque("openai-responses", {"type": "web_search_call", "id": "ws_1"}),
        Text("a"),
        Refusal("b"),
    )
    found = said(*turn, role="assistant")
    assert found == [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "short"}],
            "encrypted_content": "E",
        },
        {"role": "assistant", "content": "On my way."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "code", "input": "print()"},
        {"type": "web_search_call", "id": "ws_1"},
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a", "annotations": []},
                {"type": "refusal", "refusal": "b"},
            ],
        },
    ]
    for item in found[:4]:
        OFFICIAL_ITEM.validate_python(item)


def test_a_phase_goes_with_its_message() -> None:
    first = Text("Looking.", extra=Extra("openai-responses", {"phase": "commentary"}))
    last = Text("Done.", extra=Extra("openai-responses", {"phase": "final_answer"}))
    assert said(first, last, role="assistant") == [
        {"role": "assistant", "content": "Looking.", "phase": "commentary"},
        {"role": "assistant", "content": "Done.", "phase": "final_answer"},
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        Reasoning("thought", signature="sig"),
        Reasoning("", encrypted="redacted"),
        Reasoning("thought"),
        Reasoning("thought", id="rs_1"),
    ],
)
def test_reasoning_that_another_api_sealed_is_left_out(foreign: Reasoning) -> None:
    turn = Message("assistant", (foreign, Text("Hi")))
    assert items(turn) == [{"role": "assistant", "content": "Hi"}]
    assert dropped(Request("m", (turn,))) == ("messages[0].parts[0].reasoning",)


def test_a_compatible_server_is_told_the_text_of_earlier_reasoning() -> None:
    (thought, _) = said(Reasoning("thought", signature="sig"), Text("Hi"), role="assistant", extensions=True)
    assert thought["content"] == [{"type": "reasoning_text", "text": "thought"}]
    assert thought["id"].startswith("rs_assay_")


def test_reasoning_that_nothing_followed_is_left_out() -> None:
    turn = Message("assistant", (Text("Hm"), Reasoning(id="rs_1", encrypted="E")))
    assert items(turn) == [{"role": "assistant", "content": "Hm"}]
    assert dropped(Request("m", (turn,))) == ("messages[0].parts[1].reasoning",)


def test_an_empty_answer_stays_an_answer() -> None:
    assert items(Message("assistant", ())) == [{"role": "assistant", "content": ""}]


def test_citations_of_this_api_and_of_chat_completions_go_back() -> None:
    flat = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    nested = {"type": "url_citation", "url_citation": {k: v for k, v in flat.items() if k != "type"}}
    (item,) = said(Text("a", (flat, nested)), role="assistant")
    assert item["content"][0]["annotations"] == [flat, flat]
    assert lost(Text("a", ({"type": "char_location"},)), role="assistant") == (
        "messages[0].parts[0].annotations",
    )


# --- results of tools ----------------------------------------------------------------------------


def test_results_come_first_and_custom_tools_have_their_own() -> None:
    call = Message("assistant", (ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "x", "custom")))
    results = Message("user", (Text("and?"), ToolResult("c1", (Text("one"),)), ToolResult("c2", ())))
    assert items(call, results)[2:] == [
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": ""},
        {"role": "user", "content": "and?"},
    ]


def test_a_result_may_hold_pictures_and_files() -> None:
    result = ToolResult("c1", (Text("see"), Image(Link("https://x/y.png")), File(Uploaded("file-1"))))
    (item,) = said(result, role="tool")
    assert [part["type"] for part in item["output"]] == ["input_text", "input_image", "input_file"]
    refused(Request("m", (Message("tool", (ToolResult("c1", (Audio(Inline("audio/wav", b"")),)),)),)))


def test_a_tool_turn_without_a_result_is_refused() -> None:
    with pytest.raises(RequestError, match="holds no ToolResult"):
        said(Text("x"), role="tool")


def test_ids_that_are_too_long_are_shortened_alike() -> None:
    long = "toolu_" + "x" * 80
    call, result = items(
        Message("assistant", (ToolCall(long, "f", "{}"),)), Message("tool", (ToolResult(long, ()),))
    )
    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) <= 64
    other = said(ToolCall(long + "y", "f", "{}"), role="assistant")[0]
    assert other["call_id"] != call["call_id"]


# --- left out ------------------------------------------------------------------------------------


def test_what_the_answer_does_not_depend_on_is_left_out_and_named() -> None:
    mark = CacheMark()
    turns = (
        Message("user", (Text("a", cache=mark), Image(Link("u"), cache=mark)), name="Ann"),
        Message("assistant", (Text("b", signature="s"), ToolCall("c", "f", "{}", signature="s", cache=mark))),
        Message("tool", (ToolResult("c", (Text("x", cache=mark),), name="f", is_error=True, cache=mark),)),
    )
    request = Request(
        "m",
        turns,
        tools=(replace(WEATHER, cache=mark),),
        sampling=Sampling(seed=3),
        extra=Extra("anthropic", {"cache_control": {}}),
    )
    assert dropped(request) == (
        "messages[0].name",
        "messages[0].parts[0].cache",
        "messages[0].parts[1].cache",
        "messages[1].parts[0].signature",
        "messages[1].parts[1].signature",
        "messages[1].parts[1].cache",
        "messages[2].parts[0].parts[0].cache",
        "messages[2].parts[0].name",
        "messages[2].parts[0].is_error",
        "messages[2].parts[0].cache",
        "tools[0].cache",
        "seed",
        "cache_control",
    )


# --- tools ---------------------------------------------------------------------------------------


def test_tools() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    nested = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}}
    tools = (
        WEATHER,
        FunctionTool("bare", strict=True),
        CustomTool("code", "Code", grammar),
        CustomTool("code2", format=nested),
        HostedTool("openai-responses", {"type": "web_search"}),
    )
    assert sent(replace(ASK, tools=tools))["tools"] == [
        {
            "type": "function",
            "name": "weather",
            "description": "Weather",
            "parameters": {"type": "object"},
            "strict": False,
        },
        {"type": "function", "name": "bare", "parameters": None, "strict": True},
        {"type": "custom", "name": "code", "description": "Code", "format": grammar},
        {"type": "custom", "name": "code2", "format": grammar},
        {"type": "web_search"},
    ]


def test_a_caller_of_this_api_means_its_default_of_strict() -> None:
    call = WireCall("openai-responses", b"{}")
    assert "strict" not in sent(replace(ASK, tools=(WEATHER,), wire=call))["tools"][0]


def test_another_providers_hosted_tool_is_refused() -> None:
    assert refused(replace(ASK, tools=(HostedTool("anthropic", {}),))).param == "tools"


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice("auto"), "auto"),
        (ToolChoice("none"), "none"),
        (ToolChoice("required"), "required"),
        (ToolChoice("named", ("weather",)), {"type": "function", "name": "weather"}),
        (ToolChoice("named", ("code",)), {"type": "custom", "name": "code"}),
        (
            ToolChoice("auto", ("weather", "code")),
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "weather"}, {"type": "custom", "name": "code"}],
            },
        ),
        (
            ToolChoice("required", extra=Extra("openai-responses", {"tool_choice": {"type": "web_search"}})),
            {"type": "web_search"},
        ),
    ],
)
def test_tool_choices(choice: ToolChoice, wire: Any) -> None:
    assert sent(replace(ASK, tools=(WEATHER, CustomTool("code")), tool_choice=choice))["tool_choice"] == wire


def test_a_choice_that_names_nothing_is_refused() -> None:
    with pytest.raises(RequestError):
        sent(replace(ASK, tool_choice=ToolChoice("named")))


# --- parameters ----------------------------------------------------------------------------------


def test_parameters() -> None:
    request = replace(
        ASK,
        sampling=Sampling(max_tokens=9, temperature=0, top_p=0.5, top_logprobs=2, frequency_penalty=0.0),
        parallel_tool_calls=False,
        service_tier="flex",
        user="u",
        metadata={"k": "v"},
    )
    body = sent(request)
    assert body["max_output_tokens"] == 9
    assert (body["temperature"], body["top_p"]) == (0, 0.5)
    assert body["top_logprobs"] == 2
    assert body["include"] == ["message.output_text.logprobs"]
    assert body["parallel_tool_calls"] is False
    assert (body["service_tier"], body["user"], body["metadata"]) == ("flex", "u", {"k": "v"})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(stop=("x",))}, "stop"),
        ({"sampling": Sampling(top_k=4)}, "top_k"),
        ({"sampling": Sampling(frequency_penalty=0.5)}, "frequency_penalty"),
        ({"sampling": Sampling(presence_penalty=-1)}, "presence_penalty"),
        ({"sampling": Sampling(logit_bias={"1": 2})}, "logit_bias"),
        ({"choices": 2}, "choices"),
        ({"modalities": ("text", "audio")}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "modalities"),
        ({"extra": Extra("gemini", {"tomorrow": []})}, "tomorrow"),
        ({"extra": Extra("openai", {"web_search_options": {}})}, "web_search_options"),
    ],
)
def test_what_the_answer_depends_on_is_refused(fields: Any, param: str) -> None:
    assert refused(replace(ASK, **fields)).param == param


def test_a_compatible_server_takes_top_k() -> None:
    assert sent(replace(ASK, sampling=Sampling(top_k=4)), extensions=True)["top_k"] == 4


@pytest.mark.parametrize(
    ("output", "wire"),
    [
        (JsonOutput(), {"type": "json_object"}),
        (
            SchemaOutput({"type": "object"}, "answer", "An answer", True),
            {
                "type": "json_schema",
                "name": "answer",
                "schema": {"type": "object"},
                "description": "An answer",
                "strict": True,
            },
        ),
    ],
)
def test_structured_output(output: Any, wire: Any) -> None:
    assert sent(replace(ASK, output=output))["text"] == {"format": wire}


@pytest.mark.parametrize(
    ("thinking", "wire", "approximated"),
    [
        (Thinking(effort="low"), {"effort": "low"}, False),
        (Thinking(enabled=True), {"effort": "medium"}, False),
        (Thinking(enabled=False), {"effort": "none"}, False),
        (Thinking(budget_tokens=1024), {"effort": "low"}, True),
        (Thinking(budget_tokens=8000), {"effort": "medium"}, True),
        (Thinking(budget_tokens=60_000), {"effort": "high"}, True),
        (Thinking(effort="high", include_text=True), {"effort": "high", "summary": "auto"}, False),
        (Thinking(summary="detailed"), {"summary": "detailed"}, False),
    ],
)
def test_how_much_to_reason(thinking: Thinking, wire: Any, approximated: bool) -> None:
    request = replace(ASK, thinking=thinking)
    assert sent(request)["reasoning"] == wire
    assert dropped(request) == (("thinking",) if approximated else ())


def test_own_fields_and_those_that_chat_completions_share_are_sent() -> None:
    own = Extra(
        "openai-responses",
        {
            "verbosity": "low",
            "reasoning": {"context": "all_turns"},
            "truncation": "auto",
            "include": ["web_search_call.action.sources"],
        },
    )
    request = replace(ASK, extra=own, output=JsonOutput(), thinking=Thinking(effort="low"))
    body = sent(request)
    assert body["text"] == {"format": {"type": "json_object"}, "verbosity": "low"}
    assert body["reasoning"] == {"context": "all_turns", "effort": "low"}
    assert body["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    chat = Extra("openai", {"verbosity": "high", "safety_identifier": "s", "store": True, "prediction": {}})
    body = sent(replace(ASK, extra=chat))
    assert (body["text"], body["safety_identifier"], body["store"]) == ({"verbosity": "high"}, "s", False)
    assert dropped(replace(ASK, extra=chat)) == ("prediction", "store")


def test_what_is_no_json_is_the_callers() -> None:
    with pytest.raises(RequestError, match="cannot be written as JSON"):
        sent(replace(ASK, metadata={"a": object()}))


# --- the caller's own bytes ----------------------------------------------------------------------


def forwarded(body: bytes, **fields: Any) -> Any:
    call = WireCall("openai-responses", body)
    return OpenAIResponses().forward(replace(ASK, **fields), call)


def test_only_the_model_is_changed() -> None:
    body = b'{"input":"Hi","temperature":1.0,"model":"fast","future":{"x":[1]},"store":true}'
    path, sent_body, *_ = forwarded(body)
    assert path == "/responses"
    assert sent_body == body.replace(b"fast", b"m")
    assert forwarded(body, operation="count_tokens").path == "/responses/input_tokens"


def test_reasoning_of_another_providers_model_is_taken_out() -> None:
    items = [
        {"type": "reasoning", "id": "rs_assay_1_0", "summary": [], "encrypted_content": "assay:signature:x"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "E"},
        {"role": "user", "content": "rs_assay_"},
    ]
    body = json.dumps({"model": "x", "input": items}).encode()
    assert json.loads(forwarded(body).body)["input"] == items[1:]


def test_nothing_in_a_stream_is_hidden() -> None:
    assert not OpenAIResponses().hidden(ASK, "response.completed", "{}")


def test_headers() -> None:
    assert OpenAIResponses().headers("k") == (
        ("content-type", "application/json"),
        ("authorization", "Bearer k"),
    )


def test_a_whole_conversation_keeps_its_order() -> None:
    turns = (
        system("s"),
        user("1"),
        Message("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))),
        Message("tool", (ToolResult("a", (Text("x"),)), ToolResult("b", (Text("y"),)))),
        assistant("2"),
        user("3"),
    )
    kinds = [item.get("type") or item["role"] for item in items(*turns)]
    assert kinds == [
        "system",
        "user",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
        "assistant",
        "user",
    ]
