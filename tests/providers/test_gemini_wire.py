"""Requests to Gemini's API, against the official types. Its replies: test_gemini_replies."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import json
import pkgutil
import warnings
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError, RequestError, UnsupportedFeature
from assay.providers import gemini
from assay.providers.base import Encoded, WireFormat
from assay.providers.gemini import Gemini
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

WIRE: WireFormat = Gemini()
ASK = Request("gemini-2.5-flash", (user("Hi"),))
HI = {"role": "user", "parts": [{"text": "Hi"}]}
SIGNATURE = "EjQKMgERTTIKtbg2bXAy"


def own(**fields: Any) -> Extra:
    return Extra("gemini", fields)


def foreign(**fields: Any) -> Extra:
    return Extra("openai", fields)


def sent(request: Request) -> Any:
    return json.loads(WIRE.encode(request).body)


def config(request: Request) -> Any:
    return sent(request)["generationConfig"]


def contents(*messages: Message) -> Any:
    return sent(Request("m", messages))["contents"]


def parts(*given: Any, role: Any = "user") -> Any:
    (content,) = contents(Message(role, given))
    return content["parts"]


def dropped(request: Request) -> tuple[str, ...]:
    return WIRE.encode(request).dropped


def assert_official(body: dict[str, Any]) -> None:
    """The SDK's types refuse every field that they do not name."""
    kinds: dict[str, Any] = {
        "contents": types.Content,
        "systemInstruction": types.Content,
        "tools": types.Tool,
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
        "safetySettings": types.SafetySetting,
    }
    for name, value in body.items():
        for item in value if isinstance(value, list) else [value]:
            if name in kinds:
                kinds[name].model_validate(item)


MODULES = [name for _, name, _ in pkgutil.iter_modules(gemini.__path__, f"{gemini.__name__}.")]


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


# --- where a call goes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (ASK, "/models/gemini-2.5-flash:generateContent"),
        (replace(ASK, model="models/gemini-2.5-flash"), "/models/gemini-2.5-flash:generateContent"),
        (replace(ASK, stream=True), "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        (replace(ASK, model="tunedModels/mine"), "/tunedModels/mine:generateContent"),
        (replace(ASK, model="a/../b?c#d e"), "/models/a%2F..%2Fb%3Fc%23d%20e:generateContent"),
        (replace(ASK, operation="embeddings"), "/models/gemini-2.5-flash:batchEmbedContents"),
        (replace(ASK, operation="count_tokens", stream=True), "/models/gemini-2.5-flash:countTokens"),
    ],
)
def test_the_model_and_what_is_asked_stand_in_the_path(request_: Request, path: str) -> None:
    assert WIRE.encode(request_).path == path


def test_headers() -> None:
    assert WIRE.headers(None) == (("content-type", "application/json"),)
    assert dict(WIRE.headers("k"))["x-goog-api-key"] == "k"


def test_nothing_of_a_stream_is_hidden() -> None:
    assert WIRE.hidden(ASK, "message", '{"usageMetadata":{}}') is False


# --- the caller's own body -----------------------------------------------------------------------


def forwarded(request: Request, body: bytes) -> Encoded:
    return WIRE.forward(request, WireCall("gemini", body))


def test_a_body_goes_on_as_it_is() -> None:
    body = b'{ "contents" : [{"parts": [{"text": "1.0"}]}], "new": 1.0 }'
    assert forwarded(ASK, body) == Encoded("/models/gemini-2.5-flash:generateContent", body)
    streamed = forwarded(replace(ASK, stream=True), body)
    assert streamed.path == "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert streamed.body == body


@pytest.mark.parametrize(
    ("operation", "body", "method", "expected"),
    [
        ("chat", b'{"model":"models/fast","n":1.0}', "generateContent", b'{"model":"models/real","n":1.0}'),
        ("embeddings", b'{"content":{}}', "embedContent", b'{"content":{}}'),
        (
            "embeddings",
            b'{"content":{"parts":[{"text":"\\"requests\\""}]},"model":"models/fast"}',
            "embedContent",
            b'{"content":{"parts":[{"text":"\\"requests\\""}]},"model":"models/real"}',
        ),
        (
            "embeddings",
            b'{"requests":[{"model":"models/fast","content":{ }},{"content":{"model":1}}]}',
            "batchEmbedContents",
            b'{"requests":[{"model":"models/real","content":{ }},{"content":{"model":1}}]}',
        ),
        (
            "count_tokens",
            b'{"generateContentRequest":{"model":"models/fast","contents":[ ]}}',
            "countTokens",
            b'{"generateContentRequest":{"model":"models/real","contents":[ ]}}',
        ),
    ],
)
def test_a_model_that_the_body_names_is_replaced(
    operation: Any, body: bytes, method: str, expected: bytes
) -> None:
    request = replace(ASK, model="real", operation=operation)
    assert forwarded(request, body) == Encoded(f"/models/real:{method}", expected)


@given(st.binary() | st.from_regex(rb'\{"model":.{0,20}\}'), st.sampled_from(["chat", "embeddings"]))
def test_any_body_is_forwarded_or_refused(body: bytes, operation: Any) -> None:
    with contextlib.suppress(RequestError):
        forwarded(replace(ASK, operation=operation), body)


# --- messages ------------------------------------------------------------------------------------


def test_what_is_absent_is_not_sent() -> None:
    assert sent(ASK) == {"contents": [HI]}


def test_what_systems_say_first_is_the_instruction_and_later_stays_in_place() -> None:
    request = Request(
        "m",
        (
            system("A"),
            Message("developer", (Text("B"), Text("C"))),
            user("Hi"),
            system("now"),
            assistant("x"),
        ),
    )
    assert sent(request) == {
        "systemInstruction": {"parts": [{"text": "A"}, {"text": "B"}, {"text": "C"}]},
        "contents": [
            HI,
            {"role": "user", "parts": [{"text": "now"}]},
            {"role": "model", "parts": [{"text": "x"}]},
        ],
    }
    assert dropped(request) == ("messages[3].role",)


def test_the_same_conversation_has_the_same_bytes_before_it_grew() -> None:
    tools = (FunctionTool("b", parameters={"type": "object", "z": 1, "a": 2}), FunctionTool("a"))
    first = Request("m", (system("S"), user("1")), tools=tools)
    grown = replace(first, messages=(*first.messages, assistant("2"), system("late"), user("3")))
    short, long = (WIRE.encode(request).body for request in (first, grown))
    prefix = short[: short.index(b'],"tools"')]
    assert long.startswith(prefix)
    assert short[len(prefix) :] == long[long.index(b'],"tools"') :]


def test_results_of_parallel_calls_share_one_turn_and_have_their_functions_names() -> None:
    asked = Message(
        "assistant", (ToolCall("a", "f", '{ "x": 1.0 }', signature=SIGNATURE), ToolCall("b", "g", ""))
    )
    results = (
        Message("tool", (ToolResult("b", (Text("no such city"),), is_error=True),)),
        Message("tool", (ToolResult("a", (Text('{"t": 21}'),), name="misnamed"),)),
    )
    turns = contents(user("Hi"), asked, *results, user("and?"))
    assert turns[1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "a", "name": "f", "args": {"x": 1.0}}, "thoughtSignature": SIGNATURE},
                {"functionCall": {"id": "b", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "b", "name": "g", "response": {"error": "no such city"}}},
                {"functionResponse": {"id": "a", "name": "f", "response": {"t": 21}}},
            ],
        },
        {"role": "user", "parts": [{"text": "and?"}]},
    ]


def test_what_the_model_says_in_several_messages_is_one_turn() -> None:
    calls = [Message("assistant", (ToolCall(name, "f", "{}"),)) for name in "ab"]
    results = [Message("tool", (ToolResult(name, (Text("1"),)),)) for name in "ab"]
    marked = replace(assistant("x"), extra=own(odd=1))
    turns = contents(user("Hi"), assistant("Looking."), *calls, *results, assistant("x"), marked)
    assert [(turn["role"], len(turn["parts"])) for turn in turns] == [
        ("user", 1),
        ("model", 3),
        ("user", 2),
        ("model", 1),
        ("model", 1),
    ]


def test_results_come_first_in_their_turn() -> None:
    call = Message("assistant", (ToolCall("a", "f", "{}"),))
    turn = contents(call, Message("tool", (Text("look"), ToolResult("a", (Text("1"),)))))[1]
    assert [next(iter(part)) for part in turn["parts"]] == ["functionResponse", "text"]


@pytest.mark.parametrize(
    ("text", "is_error", "response"),
    [
        ("21", False, {"output": "21"}),
        ('{"a": [1, {"b": null}]}', False, {"a": [1, {"b": None}]}),
        ('{"error": "no"}', True, {"error": "no"}),
        ('{"code": 7}', True, {"error": {"code": 7}}),
        ("[1]", False, {"output": "[1]"}),
        ("{broken", False, {"output": "{broken"}),
        ("", False, {"output": ""}),
        ('{"id": 9007199254740993}', False, {"output": '{"id": 9007199254740993}'}),
        ("{" * 100_000, False, {"output": "{" * 100_000}),
    ],
)
def test_a_result_is_an_object_and_loses_nothing(text: str, is_error: bool, response: object) -> None:
    result = Message("tool", (ToolResult("a", (Text(text),), name="f", is_error=is_error),))
    (turn,) = contents(result)
    assert turn["parts"][0]["functionResponse"]["response"] == response


def test_media_in_a_result() -> None:
    seen = (
        Text("see"),
        Image(Inline("image/png", b"\x89PNG"), extra=own(displayName="a.png")),
        File(Link("https://x.test/a.pdf"), "a.pdf"),
    )
    result = ToolResult("a", seen, name="f", extra=own(scheduling="SILENT"))
    (turn,) = contents(Message("tool", (result,)))
    assert turn["parts"] == [
        {
            "functionResponse": {
                "id": "a",
                "name": "f",
                "response": {"output": "see"},
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": "iVBORw==", "displayName": "a.png"}},
                    {
                        "fileData": {
                            "mimeType": "application/pdf",
                            "fileUri": "https://x.test/a.pdf",
                            "displayName": "a.pdf",
                        }
                    },
                ],
                "scheduling": "SILENT",
            }
        }
    ]


def test_media_in_a_message() -> None:
    assert parts(
        Image(Inline("image/png", b"\x89PNG"), extra=own(mediaResolution={"level": "MEDIA_RESOLUTION_LOW"})),
        Image(Link("https://x.test/a.JPG?w=1#top")),
        Image(Link("https://x.test/picture")),
        Audio(Inline("audio/wav", b"RIFF")),
        File(Uploaded("https://generativelanguage.googleapis.com/v1beta/files/abc", "video/mp4"), "a.mp4"),
    ) == [
        {
            "inlineData": {"mimeType": "image/png", "data": "iVBORw=="},
            "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
        },
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.test/a.JPG?w=1#top"}},
        {"fileData": {"fileUri": "https://x.test/picture"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
        {
            "fileData": {
                "mimeType": "video/mp4",
                "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                "displayName": "a.mp4",
            }
        },
    ]


def test_an_answer_keeps_its_signatures_where_they_were() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": SIGNATURE}
    assert parts(
        Reasoning("hm", signature=SIGNATURE),
        Opaque("gemini", code),
        Text("a", signature=SIGNATURE),
        Text("b"),
        Refusal("no"),
        Text("", signature=SIGNATURE),
        role="assistant",
    ) == [
        {"text": "hm", "thought": True, "thoughtSignature": SIGNATURE},
        code,
        {"text": "a", "thoughtSignature": SIGNATURE},
        {"text": "b"},
        {"text": "no"},
        {"text": "", "thoughtSignature": SIGNATURE},
    ]


def test_thoughts_of_others_are_left_out_and_named() -> None:
    said = Message(
        "assistant",
        (
            Reasoning("unsigned"),
            Reasoning(encrypted="AAAA"),
            Reasoning("odd", signature="not base64!"),
            ToolCall("1", "f", "{}", signature="rs_1!"),
            Text("ok", signature="!"),
        ),
    )
    request = Request("m", (user("Hi"), said))
    assert sent(request)["contents"][1]["parts"] == [
        {"functionCall": {"id": "1", "name": "f", "args": {}}},
        {"text": "ok"},
    ]
    assert dropped(request) == (
        "messages[1].parts[0].reasoning",
        "messages[1].parts[1].reasoning",
        "messages[1].parts[2].reasoning",
        "messages[1].parts[3].signature",
        "messages[1].parts[4].signature",
    )


def test_turns_that_say_nothing_are_not_sent() -> None:
    request = Request("m", (user("Hi"), Message("assistant", ()), assistant(""), user("Hi")))
    assert sent(request)["contents"] == [HI, HI]
    assert dropped(request) == ("messages[1]", "messages[2]")
    assert parts(Text(""), Text("x")) == [{"text": "x"}]
    assert parts(Text("")) == [{"text": ""}]


def test_what_is_left_out_is_named() -> None:
    mark = CacheMark()
    messages = (
        Message("system", (Text("S", cache=mark),), "house"),
        Message(
            "user",
            (
                Text("a", ({"url": "x"},), cache=mark, extra=foreign(prompt_cache_breakpoint=1)),
                Image(Inline("image/png", b""), "high", cache=mark),
                Audio(transcript="heard"),
            ),
            "ann",
        ),
        Message("assistant", (ToolCall("1", "f", "{}", cache=mark),)),
        Message("tool", (ToolResult("1", (Text("r", cache=mark),)),)),
    )
    tool = FunctionTool("f", parameters={"type": "string", "pattern": "a"}, strict=True, cache=mark)
    request = Request(
        "m",
        messages,
        tools=(tool,),
        parallel_tool_calls=True,
        service_tier="auto",
        user="u",
        metadata={"k": "v"},
        extra=foreign(store=True, verbosity="low"),
    )
    assert dropped(request) == (
        "messages[0].parts[0].cache",
        "messages[0].name",
        "messages[1].parts[0].annotations",
        "messages[1].parts[0].cache",
        "messages[1].parts[0].prompt_cache_breakpoint",
        "messages[1].parts[1].detail",
        "messages[1].parts[1].cache",
        "messages[1].parts[2].audio",
        "messages[1].name",
        "messages[2].parts[0].cache",
        "messages[3].parts[0].cache",
        "tools[0].parameters.pattern",
        "tools[0].strict",
        "tools[0].cache",
        "parallel_tool_calls",
        "service_tier",
        "user",
        "metadata",
        "store",
        "verbosity",
    )


# --- tools ---------------------------------------------------------------------------------------

TOOLS = (
    HostedTool("gemini", {"googleSearch": {}}),
    FunctionTool("f", "Does.", {"type": "object"}),
    HostedTool("gemini", {"codeExecution": {}}),
    FunctionTool("g", extra=own(response={"type": "STRING"})),
)


def test_functions_share_one_entry_and_hosted_tools_are_verbatim() -> None:
    body = sent(replace(ASK, tools=TOOLS))
    assert body["tools"] == [
        {"googleSearch": {}},
        {
            "functionDeclarations": [
                {"name": "f", "description": "Does.", "parametersJsonSchema": {"type": "object"}},
                {"name": "g", "response": {"type": "STRING"}},
            ]
        },
        {"codeExecution": {}},
    ]
    assert_official(body)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("none", ("f",)), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("named", ("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (ToolChoice("named", ("f", "g")), {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
        (ToolChoice("auto", ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        (ToolChoice("auto", extra=own(mode="VALIDATED")), {"mode": "VALIDATED"}),
    ],
)
def test_tool_choice(choice: ToolChoice, expected: object) -> None:
    body = sent(replace(ASK, tools=TOOLS, tool_choice=choice))
    assert body["toolConfig"] == {"functionCallingConfig": expected}
    assert_official(body)


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_there_is_no_choice_among_no_functions(mode: Any) -> None:
    assert "toolConfig" not in sent(replace(ASK, tool_choice=ToolChoice(mode)))


# --- parameters ----------------------------------------------------------------------------------


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
            logit_bias={},
            top_logprobs=2,
        ),
        output=SchemaOutput({"type": "object"}, "o", "An answer."),
        modalities=("text", "audio"),
        audio={"format": "pcm16", "voice": "Kore"},
        thinking=Thinking(budget_tokens=512, include_text=True),
        choices=2,
        service_tier="flex",
        extra=own(
            safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            cachedContent="cachedContents/1",
            labels={"team": "a"},
            mediaResolution="MEDIA_RESOLUTION_LOW",
            includeServerSideToolInvocations=True,
            generationConfig={"seed": 9, "audioTimestamp": True},
        ),
    )
    body = sent(request)
    assert_official(body)
    assert body == {
        "contents": [HI],
        "generationConfig": {
            "maxOutputTokens": 9,
            "temperature": 0.0,
            "topP": 0.5,
            "topK": 40,
            "seed": 0,
            "presencePenalty": -1.0,
            "frequencyPenalty": 0.0,
            "stopSequences": ["a", "b"],
            "responseLogprobs": True,
            "logprobs": 2,
            "candidateCount": 2,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object", "description": "An answer."},
            "responseModalities": ["TEXT", "AUDIO"],
            "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
            "thinkingConfig": {"thinkingBudget": 512, "includeThoughts": True},
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "audioTimestamp": True,
        },
        "serviceTier": "flex",
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/1",
        "labels": {"team": "a"},
        "toolConfig": {"includeServerSideToolInvocations": True},
    }


def test_json_without_a_schema() -> None:
    assert config(replace(ASK, output=JsonOutput())) == {"responseMimeType": "application/json"}


def test_log_probabilities_of_the_chosen_tokens_alone() -> None:
    assert config(replace(ASK, sampling=Sampling(top_logprobs=0))) == {"responseLogprobs": True}


@pytest.mark.parametrize(
    ("model", "thinking", "expected", "approximated"),
    [
        ("gemini-2.5-flash", Thinking(effort="low"), {"thinkingBudget": 1024}, False),
        ("gemini-2.5-flash", Thinking(effort="medium"), {"thinkingBudget": 8192}, False),
        ("gemini-2.5-flash", Thinking(effort="high"), {"thinkingBudget": 24576}, False),
        ("gemini-2.5-flash", Thinking(effort="max"), {"thinkingBudget": 24576}, True),
        ("gemini-2.5-pro", Thinking(effort="xhigh"), {"thinkingBudget": 32768}, False),
        ("gemini-2.5-flash", Thinking(enabled=False), {"thinkingBudget": 0}, False),
        ("gemini-2.5-pro", Thinking(enabled=False), {"thinkingBudget": 128}, True),
        ("gemini-2.5-pro", Thinking(effort="none"), {"thinkingBudget": 128}, True),
        ("gemini-2.5-flash", Thinking(enabled=True), {"thinkingBudget": -1}, False),
        ("gemini-2.5-flash", Thinking(budget_tokens=99_999), {"thinkingBudget": 99_999}, False),
        ("gemini-2.5-flash", Thinking(budget_tokens=9, effort="low"), {"thinkingBudget": 9}, True),
        ("gemini-2.5-flash", Thinking(effort="odd"), None, True),
        ("models/gemini-3-pro-preview", Thinking(effort="low"), {"thinkingLevel": "LOW"}, False),
        ("gemini-3-flash", Thinking(effort="minimal"), {"thinkingLevel": "MINIMAL"}, False),
        ("gemini-3-flash", Thinking(effort="xhigh"), {"thinkingLevel": "XHIGH"}, False),
        ("gemini-3-flash", Thinking(effort="max"), {"thinkingLevel": "HIGH"}, True),
        ("gemini-3-flash", Thinking(effort="odd"), None, True),
        ("gemini-3-flash", Thinking(enabled=False), {"thinkingLevel": "MINIMAL"}, True),
        ("gemini-3-pro", Thinking(effort="none"), {"thinkingLevel": "LOW"}, True),
        ("gemini-3-pro", Thinking(budget_tokens=2048), {"thinkingBudget": 2048}, False),
        ("gemini-3-pro", Thinking(budget_tokens=2048, effort="low"), {"thinkingBudget": 2048}, True),
        ("gemini-3-pro", Thinking(enabled=True), None, False),
        ("gemini-3-pro", Thinking(summary="auto"), {"includeThoughts": True}, False),
        ("gemini-3-pro", Thinking(summary="auto", include_text=False), {"includeThoughts": False}, False),
        ("gemini-3-pro", Thinking(summary="none"), {"includeThoughts": False}, False),
    ],
)
def test_how_much_to_reason(model: str, thinking: Thinking, expected: object, approximated: bool) -> None:
    request = replace(ASK, model=model, thinking=thinking)
    body = sent(request)
    assert body.get("generationConfig", {}).get("thinkingConfig") == expected
    assert dropped(request) == (("thinking",) if approximated else ())
    assert_official(body)


# --- what cannot be carried ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (replace(ASK, extra=foreign(logprobs=1)), "cannot carry 'logprobs'"),
        (replace(ASK, tools=(HostedTool("anthropic", {}),)), "tool that anthropic runs"),
        (replace(ASK, tools=(CustomTool("sql"),)), "declare 'sql' as a function"),
        (replace(ASK, tools=(FunctionTool("f", extra=foreign(x=1)),)), r"'tools\[0\].x'"),
        (replace(ASK, tools=TOOLS, tool_choice=ToolChoice("auto", extra=foreign(x=1))), "'tool_choice.x'"),
        (replace(ASK, tools=TOOLS, parallel_tool_calls=False), "one function call at a time"),
        (replace(ASK, sampling=Sampling(logit_bias={"1": 1.0})), "no logit_bias"),
        (replace(ASK, audio={"format": "wav", "voice": "Kore"}), "pcm16"),
        (replace(ASK, audio={"format": "pcm16"}), "Kore"),
        (
            replace(ASK, messages=(Message("system", (Image(Inline("image/png", b"")),)), user("x"))),
            "a Image in a system message",
        ),
        *(
            (replace(ASK, messages=(Message(role, (part,)),)), words)
            for role, part, words in [
                ("user", Text("x", extra=foreign(odd=1)), r"'messages\[0\].parts\[0\].odd'"),
                ("user", Opaque("anthropic", {}), "anthropic part"),
                ("user", Opaque("gemini", "text"), "gemini part"),
                ("user", ToolCall("1", "f", "{}"), "ToolCall in a message of role 'user'"),
                ("user", File(Uploaded("file-123")), "'file-123' is none"),
                ("user", Reasoning("x"), "Reasoning in a message of role 'user'"),
                ("user", Audio(id="audio_1"), "cannot look up the sound 'audio_1'"),
                ("assistant", ToolResult("1", ()), "ToolResult in a message of role 'assistant'"),
                ("assistant", ToolCall("1", "sql", "select", "custom"), "no tools with free text"),
                ("tool", ToolResult("1", (Opaque("openai", {}),), "f"), "openai part in a tool result"),
            ]
        ),
    ],
)
def test_what_cannot_be_carried_is_refused(request_: Request, words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words) as caught:
        WIRE.encode(request_)
    assert caught.value.param


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (replace(ASK, messages=(Message("tool", (Text("x"),)),)), "holds no ToolResult"),
        (replace(ASK, messages=(Message("tool", (ToolResult("1", ()),)),)), "No call '1' comes before"),
        (replace(ASK, messages=(Message("assistant", (ToolCall("1", "f", "[1]"),)),)), "no JSON object"),
        (replace(ASK, messages=(Message("assistant", (ToolCall("1", "f", "{"),)),)), "no JSON object"),
        (replace(ASK, messages=(system("S"),)), "has none; add one"),
        (replace(ASK, tools=TOOLS, tool_choice=ToolChoice("named")), "names no tool"),
        (replace(ASK, tools=(FunctionTool("f", parameters={"k": object()}),)), "cannot be written as JSON"),
        (replace(ASK, messages=(user("\ud800"),)), "cannot be written as JSON"),
        (replace(ASK, operation="embeddings", messages=()), "at least one input"),
    ],
)
def test_what_makes_no_sense_is_the_callers_error(request_: Request, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        WIRE.encode(request_)


def test_one_call_at_a_time_is_no_matter_without_tools() -> None:
    assert dropped(replace(ASK, parallel_tool_calls=False)) == ("parallel_tool_calls",)


# --- embeddings and counts -----------------------------------------------------------------------


def test_inputs_to_be_embedded() -> None:
    request = Request(
        "models/gemini-embedding-001",
        (user("a"), replace(user("b"), name="n", extra=own(title="T"))),
        operation="embeddings",
        dimensions=256,
        user="u",
        extra=own(taskType="RETRIEVAL_DOCUMENT"),
    )
    common = {"outputDimensionality": 256, "taskType": "RETRIEVAL_DOCUMENT"}
    model = "models/gemini-embedding-001"
    assert sent(request) == {
        "requests": [
            {"model": model, "content": {"parts": [{"text": "a"}]}, **common},
            {"model": model, "content": {"parts": [{"text": "b"}]}, "title": "T", **common},
        ]
    }
    assert dropped(request) == ("user",)


def test_only_what_can_be_embedded_is() -> None:
    with pytest.raises(UnsupportedFeature, match="openai part"):
        WIRE.encode(Request("m", (Message("user", (Opaque("openai", [1]),)),), operation="embeddings"))


def test_counting_the_messages_or_the_whole_call() -> None:
    counted = replace(ASK, operation="count_tokens")
    assert sent(counted) == {"contents": [HI]}
    whole = replace(counted, messages=(system("S"), user("Hi")), tools=TOOLS[1:2])
    assert sent(whole) == {
        "generateContentRequest": {
            "model": "models/gemini-2.5-flash",
            "systemInstruction": {"parts": [{"text": "S"}]},
            "contents": [HI],
            "tools": sent(replace(ASK, tools=TOOLS[1:2]))["tools"],
        }
    }


# --- properties ----------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
_EXTRAS = st.sampled_from([None, own(partMetadata={"k": 1}), foreign(store=1), foreign(odd=1)])
_PARTS = st.one_of(
    st.builds(Text, _TEXTS, signature=st.sampled_from([None, SIGNATURE, "!"]), extra=_EXTRAS),
    st.builds(Reasoning, _TEXTS, signature=st.sampled_from([None, SIGNATURE]), extra=_EXTRAS),
    st.builds(ToolCall, _TEXTS, _TEXTS, _TEXTS | st.just("{}"), extra=_EXTRAS),
    st.builds(ToolResult, _TEXTS, st.just((Text("r"),)), st.none() | _TEXTS, st.booleans(), extra=_EXTRAS),
    st.builds(Image, st.builds(Link, _TEXTS), extra=_EXTRAS),
    st.builds(Opaque, st.sampled_from(["gemini", "openai"]), st.just({"toolCall": {}})),
)
_MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    st.lists(_PARTS, max_size=3).map(tuple),
)


@given(st.lists(_MESSAGES, max_size=5).map(tuple))
def test_any_conversation_is_carried_in_official_words_or_refused(messages: tuple[Message, ...]) -> None:
    request = Request("m", messages)
    try:
        encoded = WIRE.encode(request)
    except AssayError as error:
        assert isinstance(error, RequestError)
        return
    body = json.loads(encoded.body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_official(body)
    assert all(content["parts"] for content in body["contents"])
    assert WIRE.encode(request) == encoded


@pytest.mark.parametrize(
    ("model", "signatures", "expected"),
    [
        ("gemini-3-pro", (None, None), ["skip_thought_signature_validator", None]),
        ("gemini-3-pro", ("c2ln", None), ["c2ln", None]),
        ("gemini-2.5-flash", (None, None), [None, None]),
    ],
)
def test_calls_that_another_model_made_are_marked_for_models_that_want_signed_ones(
    model: str, signatures: tuple[str | None, ...], expected: list[str | None]
) -> None:
    calls = tuple(ToolCall(f"c{number}", "f", "{}", signature=one) for number, one in enumerate(signatures))
    results = tuple(ToolResult(call.id, (Text("x"),)) for call in calls)
    body = json.loads(
        Gemini()
        .encode(Request(model, (user("Hi"), Message("assistant", calls), Message("tool", results))))
        .body
    )
    assert [part.get("thoughtSignature") for part in body["contents"][1]["parts"]] == expected
