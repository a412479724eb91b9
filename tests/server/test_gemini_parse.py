"""Gemini's calls as requests: every field has its place, every fault its field. Replies: test_gemini_reply.

What the official SDK sends is taken from the SDK itself.
"""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

from assay.errors import RequestError
from assay.server import gemini
from assay.server.dialect import Dialect
from assay.server.gemini import (
    BATCH_EMBED,
    COUNT_TOKENS,
    EMBED,
    GENERATE,
    STREAM_ARRAY,
    STREAM_SSE,
    Options,
)
from assay.types import (
    Audio,
    Extra,
    File,
    FunctionTool,
    HostedTool,
    Image,
    Inline,
    Link,
    Message,
    Opaque,
    Reasoning,
    Request,
    Sampling,
    SchemaOutput,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Uploaded,
    assistant,
    user,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"
PNG = Inline("image/png", b"\x89PNG\r\n\x1a\n")
MODULES = [name for _, name, _ in pkgutil.iter_modules(gemini.__path__, f"{gemini.__name__}.")]


def said(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "parts": list(parts)}


def body(**fields: Any) -> bytes:
    return json.dumps({"contents": [said("user", {"text": "Hi"})], **fields}).encode()


def parsed(**fields: Any) -> Request:
    request = GENERATE.parse(body(**fields), "m").request
    assert isinstance(request, Request)
    return request


def conversation(*contents: dict[str, Any]) -> tuple[Message, ...]:
    return parsed(contents=contents).messages


def refusal(data: bytes, dialect: Dialect = GENERATE) -> RequestError:
    with pytest.raises(RequestError) as caught:
        dialect.parse(data, "m")
    return caught.value


def sent_by_sdk(call: Callable[[genai.Client], object], reply: dict[str, Any]) -> tuple[str, bytes]:
    """The path and the body that the official client sends."""
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json=reply)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http_client:
        options = types.HttpOptions(base_url="http://x.test", httpx_client=http_client)
        call(genai.Client(api_key="k", http_options=options))
    return sent[-1].url.path, sent[-1].content


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


# --- whole bodies --------------------------------------------------------------------------------


def test_the_smallest_body() -> None:
    assert GENERATE.parse(body(), "m") == (Request("m", (user("Hi"),)), Options())


def test_the_path_says_whether_it_streams() -> None:
    assert STREAM_SSE.parse(body(), "models/m").request == Request("m", (user("Hi"),), stream=True)
    assert STREAM_ARRAY.parse(body(), "m").request.stream
    assert {GENERATE.name, STREAM_SSE.name, STREAM_ARRAY.name, EMBED.name} == {"gemini"}


def test_every_field_finds_its_place() -> None:
    request, options = GENERATE.parse((FIXTURES / "call_full.json").read_bytes(), "gemini-3-pro")
    assert options == Options(include_thoughts=True)
    video = {"startOffset": "1s", "fps": 2}
    look = {
        "type": "object",
        "properties": {
            "at": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
            "how": {"type": ["string", "null"], "enum": ["near", "far", None]},
        },
        "required": ["at"],
    }
    assert request == Request(
        "gemini-3-pro",
        (
            Message("system", (Text("Be brief."), Text("Cite."))),
            Message(
                "user",
                (
                    Text("What are these?"),
                    Image(PNG),
                    Audio(Inline("audio/wav", b"RIFF"), extra=Extra("gemini", {"displayName": "a.wav"})),
                    File(Inline("application/pdf", b"%PDF-"), "a.pdf"),
                    Image(Link("https://example.com/cat.jpg", "image/jpeg")),
                    File(
                        Uploaded("https://generativelanguage.googleapis.com/v1beta/files/abc", "video/mp4"),
                        extra=Extra(
                            "gemini",
                            {"videoMetadata": video, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}},
                        ),
                    ),
                ),
            ),
            Message(
                "assistant",
                (
                    Reasoning("Let me see."),
                    Text("I look.", signature="c2ln"),
                    ToolCall("c1", "look", '{"at":1}', signature="+/+/"),
                    ToolCall("call_1_3", "look", '{"at":2}'),
                    ToolCall("call_1_4", "zoom", "{}"),
                    Opaque("gemini", {"executableCode": {"language": "PYTHON", "code": "1+1"}}),
                    Opaque("gemini", {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}),
                ),
            ),
            Message(
                "tool",
                (
                    ToolResult("call_1_4", (Text("broken"),), "zoom", is_error=True),
                    ToolResult("c1", (Text("a cat"),), "look"),
                    ToolResult(
                        "call_1_3",
                        (Text('{"kind":"dog","legs":4}'), Image(PNG)),
                        "look",
                        extra=Extra("gemini", {"scheduling": "SILENT"}),
                    ),
                ),
            ),
            user("Go on."),
        ),
        sampling=Sampling(
            max_tokens=64,
            temperature=0.5,
            top_p=0.25,
            top_k=40,
            stop=("END",),
            seed=7,
            frequency_penalty=-0.5,
            presence_penalty=0.5,
            top_logprobs=3,
        ),
        tools=(
            FunctionTool("look", "Looks.", look),
            FunctionTool("zoom", None, {"type": "object"}, extra=Extra("gemini", {"behavior": "BLOCKING"})),
            HostedTool("gemini", {"googleSearch": {}}),
            HostedTool("gemini", {"urlContext": {}, "codeExecution": {}}),
        ),
        tool_choice=ToolChoice("named", ("look", "zoom")),
        output=SchemaOutput({"type": "object", "properties": {"a": {"type": "string"}}}),
        modalities=("text",),
        thinking=Thinking(effort="low", include_text=True),
        choices=2,
        service_tier="flex",
        extra=Extra(
            "gemini",
            {
                "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
                "cachedContent": "cachedContents/x",
                "labels": {"team": "a"},
                "speechConfig": {"languageCode": "en-US"},
                "mediaResolution": "MEDIA_RESOLUTION_LOW",
                "retrievalConfig": {"languageCode": "en"},
            },
        ),
    )


def snake(value: Any) -> Any:
    """The body with every name of the API's own in snake_case; what is free JSON is left alone."""
    free = {"args", "response", "parametersJsonSchema", "responseJsonSchema", "properties", "labels"}
    free |= {"videoMetadata", "mediaResolution", "speechConfig", "retrievalConfig", "safetySettings"}
    free |= {"executableCode", "codeExecutionResult"}
    if isinstance(value, list):
        return [snake(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        "".join(f"_{char.lower()}" if char.isupper() else char for char in name): (
            one if name in free else snake(one)
        )
        for name, one in value.items()
    }


def test_snake_case_says_the_same() -> None:
    plain = (FIXTURES / "call_full.json").read_bytes()
    other = json.dumps(snake(json.loads(plain))).encode()
    assert b"system_instruction" in other and b"function_calling_config" in other
    assert GENERATE.parse(other, "gemini-3-pro") == GENERATE.parse(plain, "gemini-3-pro")


def test_the_fixture_is_the_sdks() -> None:
    call = json.loads((FIXTURES / "call_full.json").read_bytes())
    for content in call["contents"]:
        types.Content.model_validate(content)
    for tool in call["tools"]:
        types.Tool.model_validate(tool)
    types.GenerationConfig.model_validate(call["generationConfig"])
    types.ToolConfig.model_validate(call["toolConfig"])


def test_the_json_of_protocol_buffers_has_other_forms() -> None:
    request = GENERATE.parse(
        b'{"contents": {"parts": {"text": "Hi"}}, "system_instruction": {"parts": {"text": "Be."}},'
        b' "tools": {"google_search": {}}, "generation_config": {"maxOutputTokens": "64", "top_k": 40.0,'
        b' "stopSequences": "END", "seed": null}}',
        "m",
    ).request
    assert request.messages == (Message("system", (Text("Be."),)), user("Hi"))
    assert request.tools == (HostedTool("gemini", {"googleSearch": {}}),)
    assert request.sampling == Sampling(max_tokens=64, top_k=40, stop=("END",))


def test_a_field_given_in_both_spellings_is_refused() -> None:
    error = refusal(body(generationConfig={"topK": 1, "top_k": 2}))
    assert error.param == "generationConfig.topK"


# --- what the official SDK sends -----------------------------------------------------------------


class Answer(BaseModel):
    name: str | None
    tags: list[str]


def look(at: int) -> str:
    """Looks."""
    return str(at)


def test_what_the_sdk_sends_is_understood() -> None:
    config = types.GenerateContentConfig(
        system_instruction="Be brief.",
        temperature=0.5,
        top_k=40,
        tools=[look],
        response_mime_type="application/json",
        response_schema=Answer,
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    picture = types.Part.from_bytes(data=b"\xff\xfe\xfd", mime_type="image/png")
    path, data = sent_by_sdk(
        lambda client: client.models.generate_content(model="m", contents=["Hi", picture], config=config),
        {"candidates": []},
    )
    request = GENERATE.parse(data, "m").request
    assert path.endswith("/models/m:generateContent")
    assert request.messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hi"), Image(Inline("image/png", b"\xff\xfe\xfd")))),
    )
    assert request.sampling == Sampling(temperature=0.5, top_k=40)
    assert request.thinking == Thinking(enabled=True, budget_tokens=1024, include_text=True)
    (tool,) = request.tools
    assert isinstance(tool, FunctionTool) and tool.name == "look" and tool.parameters is not None
    assert tool.parameters["properties"] == {"at": {"type": "integer"}}
    assert isinstance(request.output, SchemaOutput)
    assert request.output.schema["properties"]["name"]["type"] == ["string", "null"]
    assert list(request.output.schema["properties"]) == ["name", "tags"]


def test_the_sdks_embeddings_and_counts_are_understood() -> None:
    path, data = sent_by_sdk(
        lambda client: client.models.embed_content(
            model="m",
            contents=["a", "b"],
            config=types.EmbedContentConfig(output_dimensionality=2, task_type="RETRIEVAL_QUERY"),
        ),
        {"embeddings": [{"values": [1, 2]}]},
    )
    assert path.endswith(":batchEmbedContents")
    assert BATCH_EMBED.parse(data, "m").request == Request(
        "m",
        (user("a"), user("b")),
        operation="embeddings",
        dimensions=2,
        extra=Extra("gemini", {"taskType": "RETRIEVAL_QUERY"}),
    )
    path, data = sent_by_sdk(
        lambda client: client.models.count_tokens(model="m", contents="a"), {"totalTokens": 1}
    )
    assert path.endswith(":countTokens")
    assert COUNT_TOKENS.parse(data, "m").request == Request("m", (user("a"),), operation="count_tokens")


# --- contents ------------------------------------------------------------------------------------


def test_calls_without_ids_pair_up_by_name_in_order() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    result = {"functionResponse": {"name": "f", "response": {"result": "1"}}}
    messages = conversation(
        said("user", {"text": "go"}), said("model", call, call), said("user", result, result)
    )
    asked = [part.id for part in messages[1].parts if isinstance(part, ToolCall)]
    told = [part.call_id for part in messages[2].parts if isinstance(part, ToolResult)]
    assert asked == told == ["call_1_0", "call_1_1"]
    assert messages[2].role == "tool"


def test_made_up_ids_do_not_change_as_the_conversation_grows() -> None:
    turns = []
    seen: list[tuple[Message, ...]] = []
    for number in range(3):
        turns += [
            said("user", {"text": str(number)}),
            said("model", {"functionCall": {"name": "f"}}),
            said("user", {"functionResponse": {"name": "f", "response": {}}}),
            said("model", {"text": "done"}),
        ]
        seen.append(conversation(*turns))
    assert seen[0] == seen[1][:4] == seen[2][:4] and seen[1] == seen[2][:8]
    calls = [part.id for message in seen[2] for part in message.parts if isinstance(part, ToolCall)]
    assert len(set(calls)) == 3


@pytest.mark.parametrize(
    ("calls", "results", "pairs"),
    [
        ([("x", "f"), ("y", "f")], [("y", "f"), ("x", "f")], ["y", "x"]),
        ([("x", "f")], [(None, "f")], ["x"]),
        ([(None, "f")], [("z", "f")], ["call_1_0"]),
        ([(None, "f"), ("z", "f")], [("z", "f"), (None, "f")], ["z", "call_1_0"]),
        ([("call_1_1", "f"), (None, "g")], [(None, "g")], ["call_1_1_"]),
        ([("x", "f")], [("q", "g")], ["q"]),
        ([("x", "f")], [("q", "f")], ["q"]),
        ([("x", "f")], [("x", "renamed")], ["x"]),
        ([("x", "f")], [("x", None)], ["x"]),
        ([("x", "f")], [(None, "g")], ["call_2_0"]),
    ],
)
def test_which_call_a_result_answers(
    calls: list[tuple[str | None, str]], results: list[tuple[str | None, str | None]], pairs: list[str]
) -> None:
    messages = conversation(
        said("user", {"text": "go"}),
        said("model", *({"functionCall": {"id": id_, "name": name}} for id_, name in calls)),
        said(
            "user",
            *({"functionResponse": {"id": id_, "name": name, "response": {}}} for id_, name in results),
        ),
    )
    assert [part.call_id for part in messages[2].parts if isinstance(part, ToolResult)] == pairs


def test_results_come_before_what_is_said_with_them() -> None:
    result = {"functionResponse": {"name": "f", "response": {"output": "1"}}}
    messages = conversation(
        said("user", {"text": "go"}),
        said("model", {"functionCall": {"name": "f"}}),
        said("user", {"text": "And?"}, result),
    )
    assert [message.role for message in messages] == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("response", "text", "is_error"),
    [
        ({"output": "a"}, "a", False),
        ({"result": "a"}, "a", False),
        ({"error": "a"}, "a", True),
        ({"error": {"code": 1}}, '{"code":1}', True),
        ({"output": [1]}, "[1]", False),
        ({"result": 1}, '{"result":1}', False),
        ({"error": "a", "code": 1}, '{"error":"a","code":1}', True),
        ({"error": None, "result": 1}, '{"error":null,"result":1}', False),
        ({"error": None}, '{"error":null}', False),
        ({}, "{}", False),
    ],
)
def test_what_a_function_gave(response: dict[str, Any], text: str, is_error: bool) -> None:
    (_, _, message) = conversation(
        said("user", {"text": "go"}),
        said("model", {"functionCall": {"name": "f"}}),
        said("user", {"functionResponse": {"name": "f", "response": response}}),
    )
    assert message.parts == (ToolResult("call_1_0", (Text(text),), "f", is_error),)


def test_the_pieces_of_a_streamed_reply_become_one_message() -> None:
    messages = conversation(
        said("user", {"text": "go"}),
        said("model", {"text": "Hm", "thought": True}),
        said("model", {"text": "m.", "thought": True}),
        said("model", {"text": "", "thought": True, "thoughtSignature": "c2ln"}),
        said("model", {"text": "Hel"}),
        said("model", {"text": "lo."}),
        said("model", {"text": "", "thoughtSignature": "c2ln"}),
        said("model", {"functionCall": {"name": "f"}}),
        said("model", {"text": ""}),
        said("user", {"text": "a"}),
        said("user", {"text": "b"}),
    )
    assert messages == (
        user("go"),
        Message(
            "assistant",
            (
                Reasoning("Hmm.", signature="c2ln"),
                Text("Hello."),
                Text("", signature="c2ln"),
                ToolCall("call_7_0", "f", "{}"),
            ),
        ),
        user("a"),
        user("b"),
    )


def test_parts_of_one_content_stay_apart() -> None:
    messages = conversation(said("user", {"text": "go"}), said("model", {"text": "a"}, {"text": "b"}))
    assert messages[1] == Message("assistant", (Text("a"), Text("b")))
    assert conversation(said("user", {"text": ""}), said("model", {"text": ""}))[1] == assistant("")


def test_a_missing_role_is_the_users() -> None:
    assert conversation({"parts": [{"text": "Hi"}]}) == (user("Hi"),)


@pytest.mark.parametrize(
    ("contents", "param"),
    [
        ([], "contents"),
        (None, "contents"),
        ([{"role": "user"}], "contents[0].parts"),
        ([{"role": "user", "parts": []}], "contents[0].parts"),
        ([said("system", {"text": "a"})], "contents[0].role"),
        ([said("user", {})], "contents[0].parts[0]"),
        ([said("user", {"text": "a", "functionCall": {"name": "f"}})], "contents[0].parts[0]"),
        ([said("user", {"functionCall": {"name": "f"}})], "contents[0].role"),
        ([said("model", {"functionResponse": {"name": "f", "response": {}}})], "contents[0].role"),
        ([said("model", {"functionCall": {}})], "contents[0].parts[0].functionCall.name"),
        ([said("user", {"inlineData": {"data": ""}})], "contents[0].parts[0].inlineData.mimeType"),
        (
            [said("user", {"inlineData": {"mimeType": "image/png", "data": "%"}})],
            "contents[0].parts[0].inlineData.data",
        ),
        ([said("user", {"fileData": {"mimeType": "image/png"}})], "contents[0].parts[0].fileData.fileUri"),
        ([said("model", {"text": "a", "thoughtSignature": "%"})], "contents[0].parts[0].thoughtSignature"),
        ([said("user", {"txt": "a"})], "contents[0].parts[0].txt"),
        ([said("user", {"text": 1})], "contents[0].parts[0].text"),
        (
            [said("user", {"functionResponse": {"name": "f", "parts": [{}]}})],
            "contents[0].parts[0].functionResponse.parts[0]",
        ),
    ],
)
def test_faults_in_contents_name_their_part(contents: Any, param: str) -> None:
    error = refusal(body(contents=contents))
    assert error.param == param
    assert error.status == 400
