"""JSON Schemas towards Gemini's API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.gemini import Gemini
from assay.providers.gemini.schema import json_schema
from assay.types import FunctionTool, Request, SchemaOutput, user

ASK = Request("m", (user("Hi"),))


def normal(schema: dict[str, Any]) -> tuple[Any, list[str]]:
    reported: list[str] = []
    return json_schema(schema, "s", reported.append), reported


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}


@pytest.mark.parametrize(
    ("schema", "expected", "reported"),
    [
        ({}, {}, []),
        (
            {"type": ["string", "null"], "minimum": 1, "additionalProperties": False, "title": "T"},
            {"type": ["string", "null"], "minimum": 1, "additionalProperties": False, "title": "T"},
            [],
        ),
        ({"$schema": "x", "$comment": "y", "type": "object"}, {"type": "object"}, []),
        ({"const": 3}, {"enum": [3]}, []),
        ({"const": True}, {"const": True}, ["s.const"]),
        ({"const": "a", "enum": ["a", "b"]}, {"const": "a", "enum": ["a", "b"]}, []),
        (
            {"properties": {"n": {"exclusiveMinimum": 0}, "m": {"items": {"pattern": "a"}}}},
            {"properties": {"n": {"exclusiveMinimum": 0}, "m": {"items": {"pattern": "a"}}}},
            ["s.properties.n.exclusiveMinimum", "s.properties.m.items.pattern"],
        ),
        (
            {"anyOf": [{"type": "string"}, {"minLength": 1}]},
            {"anyOf": [{"type": "string"}, {"minLength": 1}]},
            ["s.anyOf[1].minLength"],
        ),
        ({"allOf": [{"type": "string"}], "title": "T"}, {"anyOf": [{"type": "string"}], "title": "T"}, []),
        ({"allOf": [{}, {}]}, {"allOf": [{}, {}]}, ["s.allOf"]),
        (
            {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
            {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
            [],
        ),
        (
            {"items": {"$ref": "#/definitions/A", "description": "d"}, "definitions": {"A": {"const": "x"}}},
            {
                "items": {"description": "d", "anyOf": [{"$ref": "#/$defs/A"}]},
                "$defs": {"A": {"enum": ["x"]}},
            },
            [],
        ),
        (
            {"properties": {"a": {"type": "object"}, "b": {"$ref": "#/properties/a", "title": "B"}}},
            {"properties": {"a": {"type": "object"}, "b": {"type": "object", "title": "B"}}},
            [],
        ),
        (
            {"properties": {"const": {"const": "a"}, "x": True}},
            {"properties": {"const": {"enum": ["a"]}, "x": {}}},
            [],
        ),
        (
            {"enum": [{"const": 1}], "default": {"$ref": "x"}},
            {"enum": [{"const": 1}], "default": {"$ref": "x"}},
            [],
        ),
    ],
)
def test_the_field_that_takes_json_schema(
    schema: dict[str, Any], expected: object, reported: list[str]
) -> None:
    before = json.dumps(schema)
    assert normal(schema) == (expected, reported)
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"properties": {"a": {"$ref": "#"}}}, "refers to itself"),
        ({"$ref": "#/$defs/A"}, "does not hold"),
        ({"$ref": "#/anyOf/7", "anyOf": [{}]}, "does not hold"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_refused(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedFeature, match=words) as caught:
        normal(schema)
    assert caught.value.param is not None
    assert caught.value.param.startswith("s")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def test_a_bottomless_schema_is_refused() -> None:
    with pytest.raises(UnsupportedFeature):
        normal(deep(5_000))


def declared(schema: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    request = Request("m", (user("Hi"),), tools=(FunctionTool("f", parameters=schema),))
    encoded = Gemini().encode(request)
    body = json.loads(encoded.body)
    return body["tools"][0]["functionDeclarations"][0], encoded.dropped


def test_which_field_of_a_function_is_used() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number", "exclusiveMinimum": 0}}}
    path = ("tools[0].parameters.properties.n.exclusiveMinimum",)
    assert declared(schema) == ({"name": "f", "parametersJsonSchema": schema}, path)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {"type": "object"}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"anyOf": [{"type": "object"}]}, {"anyOf": [{"type": "object"}]}),
    ],
)
def test_parameters_are_an_object_though_nobody_said_so(schema: dict[str, Any], expected: object) -> None:
    assert declared(schema)[0]["parametersJsonSchema"] == expected


def test_which_field_of_the_output_is_used() -> None:
    output = SchemaOutput({"type": "object", "properties": {"a": {"const": "x"}}})
    request = Request("m", (user("Hi"),), output=output)
    config = json.loads(Gemini().encode(request).body)["generationConfig"]
    assert config == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "properties": {"a": {"enum": ["x"]}}},
    }


_LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.just("#/$defs/a")
_WORDS = st.sampled_from(
    [
        "type", "$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "enum", "items", "properties", "a",
        "format", "exclusiveMinimum", "definitions", "required", "additionalProperties",
    ]
)  # fmt: skip
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_WORDS, _JSON, max_size=5))
def test_any_schema_is_taken_or_refused(schema: dict[str, Any]) -> None:
    try:
        first = declared(schema)
    except RequestError:
        return
    assert declared(schema) == first
