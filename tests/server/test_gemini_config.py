"""Gemini's calls as requests: configuration, tools, schemas, and the calls that are no conversation.

Contents are in test_gemini_parse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import AssayError, RequestError, UnsupportedFeature
from assay.server.dialect import Dialect
from assay.server.gemini import BATCH_EMBED, COUNT_TOKENS, EMBED, GENERATE, STREAM_SSE
from assay.server.gemini.schema import json_schema
from assay.types import (
    Extra,
    JsonOutput,
    Message,
    Request,
    SchemaOutput,
    Text,
    TextOutput,
    Thinking,
    ToolChoice,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gemini"


def body(**fields: Any) -> bytes:
    return json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **fields}).encode()


def parsed(**fields: Any) -> Request:
    return GENERATE.parse(body(**fields), "m").request


def refusal(data: bytes, dialect: Dialect = GENERATE) -> RequestError:
    with pytest.raises(RequestError) as caught:
        dialect.parse(data, "m")
    return caught.value


# --- configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "thinking"),
    [
        ({}, None),
        ({"thinkingBudget": 0}, Thinking(enabled=False)),
        ({"thinkingBudget": -1}, Thinking(enabled=True)),
        ({"thinkingBudget": 512}, Thinking(enabled=True, budget_tokens=512)),
        ({"thinkingLevel": "high"}, Thinking(effort="high")),
        ({"includeThoughts": False}, Thinking(include_text=False)),
    ],
)
def test_thinking(config: dict[str, Any], thinking: Thinking | None) -> None:
    assert parsed(generationConfig={"thinkingConfig": config}).thinking == thinking


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({}, None),
        ({"mode": "AUTO"}, ToolChoice("auto")),
        ({"mode": "any"}, ToolChoice("required")),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice("named", ("f",))),
        ({"mode": "NONE"}, ToolChoice("none")),
        ({"mode": "VALIDATED"}, ToolChoice("auto", (), Extra("gemini", {"mode": "VALIDATED"}))),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice("auto", ("f",))),
    ],
)
def test_tool_choice(config: dict[str, Any], choice: ToolChoice | None) -> None:
    assert parsed(toolConfig={"functionCallingConfig": config}).tool_choice == choice


@pytest.mark.parametrize(
    ("config", "output", "extra"),
    [
        ({"responseMimeType": "text/plain"}, TextOutput(), None),
        ({"responseMimeType": "application/json"}, JsonOutput(), None),
        (
            {"responseMimeType": "application/json", "responseSchema": {"type": "STRING", "nullable": True}},
            SchemaOutput({"type": ["string", "null"]}),
            None,
        ),
        (
            {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}},
            TextOutput(),
            {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["a"]}},
        ),
        ({"responseFormat": [{"text": {"mimeType": "application/json"}}]}, JsonOutput(), None),
        (
            {"responseFormat": {"text": {"mimeType": "application/json", "schema": {"type": "object"}}}},
            SchemaOutput({"type": "object"}),
            None,
        ),
        ({"responseFormat": [{"image": {}}]}, TextOutput(), {"responseFormat": [{"image": {}}]}),
    ],
)
def test_the_shape_of_the_answer(
    config: dict[str, Any], output: object, extra: dict[str, Any] | None
) -> None:
    request = parsed(generationConfig=config)
    assert request.output == output
    assert request.extra == (None if extra is None else Extra("gemini", extra))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"generationConfig": {"temperature": 3}}, "generationConfig.temperature"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"generationConfig": {"maxOutputTokens": 0}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"candidateCount": 0}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"logprobs": 1}}, "generationConfig.logprobs"),
        ({"generationConfig": {"responseLogprobs": True, "logprobs": 21}}, "generationConfig.logprobs"),
        ({"generationConfig": {"responseSchema": {}}}, "generationConfig.responseMimeType"),
        (
            {"generationConfig": {"responseSchema": {}, "responseJsonSchema": {}}},
            "generationConfig.responseJsonSchema",
        ),
        (
            {"generationConfig": {"responseFormat": [], "responseMimeType": "text/plain"}},
            "generationConfig.responseFormat",
        ),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}}},
            "generationConfig.thinkingConfig",
        ),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": -2}}},
            "generationConfig.thinkingConfig.thinkingBudget",
        ),
        ({"generation_config": {"tempratur": 1}}, "generationConfig.tempratur"),
        ({"system": "a"}, "system"),
        ({"model": "models/other"}, "model"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        (
            {
                "tools": [
                    {"functionDeclarations": [{"name": "f", "parameters": {}, "parametersJsonSchema": {}}]}
                ]
            },
            "tools[0].functionDeclarations[0].parametersJsonSchema",
        ),
        ({"tools": [{"googleSerch": {}}]}, "tools[0].googleSerch"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}},
            "toolConfig.functionCallingConfig.mode",
        ),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["f"]}}},
            "toolConfig.functionCallingConfig.allowedFunctionNames",
        ),
        (
            {"toolConfig": {"functionCallingConfig": {"streamFunctionCallArguments": True}}},
            "toolConfig.functionCallingConfig.streamFunctionCallArguments",
        ),
    ],
)
def test_faults_name_their_field(fields: dict[str, Any], param: str) -> None:
    assert refusal(body(**fields)).param == param


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    error = refusal(body(generationConfig={"maxOutputToken": 1}))
    assert error.message == (
        "Invalid JSON payload received. Unknown name \"maxOutputToken\" at 'generationConfig': "
        "Cannot find field. Did you mean 'maxOutputTokens'?"
    )


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"a"', b"\xff", b'{"a":' * 5000])
def test_what_is_no_body(data: bytes) -> None:
    assert refusal(data).status == 400


def test_deep_schemas_are_refused_not_crashed_on() -> None:
    """JSON that can still be read may be too deep for what is done with it."""
    for depth in (50, 200, 300, 400, 450, 600, 2000):
        deep = '{"properties":{"a":' * depth + "{}" + "}}" * depth
        function = f'{{"name":"f","parameters":{deep}}}'
        data = body(tools=["here"]).replace(b'"here"', f'{{"functionDeclarations":[{function}]}}'.encode())
        try:
            GENERATE.parse(data, "m")
        except RequestError as error:
            assert "nested too deeply" in error.message


# --- schemas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_schema", "wanted"),
    [
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        ({"type": "string"}, {"type": "string"}),
        ({"type": "STRING", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "STRING", "example": "a"}, {"type": "string", "examples": ["a"]}),
        ({"type": "STRING", "nullable": False}, {"type": "string"}),
        (
            {"any_of": [{"type": "STRING"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        (
            {"type": "OBJECT", "properties": {"type": {"type": "STRING"}, "min_items": {"type": "NUMBER"}}},
            {"type": "object", "properties": {"type": {"type": "string"}, "min_items": {"type": "number"}}},
        ),
        (
            {"ref": "#/defs/a", "defs": {"a": {"type": "NULL"}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}},
        ),
        (
            {"type": "OBJECT", "additionalProperties": False},
            {"type": "object", "additionalProperties": False},
        ),
        ({"const": "a"}, {"const": "a"}),
    ],
)
def test_googles_schemas_are_json_schemas(given_schema: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert json_schema(given_schema) == wanted


def test_properties_stand_in_the_order_that_is_wanted() -> None:
    """Models write them in the order of the schema, and JSON Schema has no other word for it."""
    properties = {name: {"type": "STRING"} for name in "abc"}
    schema = json_schema({"type": "OBJECT", "properties": properties, "propertyOrdering": ["c", "x", "a"]})
    assert list(schema["properties"]) == ["c", "a", "b"]
    assert "propertyOrdering" not in schema
    for junk in ([["a"], {}, None, 1], "a", {"a": 1}):
        assert list(json_schema({"properties": properties, "propertyOrdering": junk})["properties"]) == [
            *"abc"
        ]


# --- the other calls -----------------------------------------------------------------------------


def test_counting_a_whole_call() -> None:
    whole = json.loads((FIXTURES / "call_full.json").read_bytes())
    data = json.dumps({"generateContentRequest": whole}).encode()
    request = COUNT_TOKENS.parse(data, "gemini-3-pro").request
    chat = GENERATE.parse(json.dumps(whole).encode(), "gemini-3-pro").request
    assert request.operation == "count_tokens"
    assert request.messages == chat.messages and request.tools == chat.tools
    both = {"contents": whole["contents"], "generateContentRequest": whole}
    assert refusal(json.dumps(both).encode(), COUNT_TOKENS).param == "generateContentRequest"
    assert refusal(b"{}", COUNT_TOKENS).param == "contents"
    faulty = b'{"generateContentRequest": {"contents": [{"parts": [{}]}]}}'
    assert refusal(faulty, COUNT_TOKENS).param == "generateContentRequest.contents[0].parts[0]"


def test_one_input_to_embed() -> None:
    content = {"parts": [{"text": "a"}, {"text": "b"}]}
    fields = {"model": "models/m", "content": content, "title": "t", "outputDimensionality": 8}
    data = json.dumps(fields).encode()
    assert EMBED.parse(data, "m").request == Request(
        "m",
        (Message("user", (Text("a"), Text("b"))),),
        operation="embeddings",
        dimensions=8,
        extra=Extra("gemini", {"title": "t"}),
    )


def test_inputs_that_ask_for_different_things() -> None:
    def batch(*fields: dict[str, Any]) -> bytes:
        content = {"parts": [{"text": "a"}]}
        return json.dumps(
            {"requests": [{"model": "models/m", "content": content, **one} for one in fields]}
        ).encode()

    request = BATCH_EMBED.parse(batch({"title": "a"}, {"title": "b"}, {}), "m").request
    assert request.extra is None
    assert [message.extra for message in request.messages] == [
        Extra("gemini", {"title": "a"}),
        Extra("gemini", {"title": "b"}),
        None,
    ]
    with pytest.raises(UnsupportedFeature, match="send them apart"):
        BATCH_EMBED.parse(batch({"outputDimensionality": 1}, {"outputDimensionality": 2}), "m")
    assert refusal(batch({}, {"model": "models/x"}), BATCH_EMBED).param == "requests[1].model"
    assert refusal(batch({}, {"content": None}), BATCH_EMBED).param == "requests[1].content"
    assert (
        refusal(batch({"outputDimensionality": 0}), BATCH_EMBED).param == "requests[0].outputDimensionality"
    )
    assert refusal(b"{}", BATCH_EMBED).param == "requests"
    assert refusal(b"{}", EMBED).param == "content"


# --- anything ------------------------------------------------------------------------------------

ALL = (GENERATE, STREAM_SSE, COUNT_TOKENS, EMBED, BATCH_EMBED)
KEYS = st.sampled_from(
    ["contents", "parts", "text", "role", "functionCall", "function_response", "response", "name", "args",
     "inlineData", "data", "mimeType", "tools", "functionDeclarations", "parameters", "type", "properties",
     "generationConfig", "thinkingConfig", "thinkingBudget", "requests", "content", "responseSchema",
     "generateContentRequest", "toolConfig", "functionCallingConfig", "mode", "thoughtSignature", "thought"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["user", "model", "AUTO", "image/png", "aGk="])
)
JSONS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(data=st.binary(max_size=60), number=st.integers(0, len(ALL) - 1))
@settings(max_examples=100, deadline=None)
def test_bytes_are_understood_or_refused(data: bytes, number: int) -> None:
    try:
        ALL[number].parse(data, "m")
    except AssayError as error:
        assert isinstance(error, RequestError)


@given(fields=st.dictionaries(KEYS, JSONS, max_size=4), number=st.integers(0, len(ALL) - 1))
@settings(max_examples=400, deadline=None)
def test_json_is_understood_or_refused(fields: dict[str, Any], number: int) -> None:
    try:
        ALL[number].parse(json.dumps(fields).encode(), "m")
    except AssayError as error:
        assert isinstance(error, RequestError)
