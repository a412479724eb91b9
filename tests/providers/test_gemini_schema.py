"""JSON Schemas towards Gemini's API, in its field for them and in its older one of a fixed form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.gemini import Gemini
from assay.providers.gemini.schema import fixed_schema, json_schema
from assay.types import FunctionTool, Request, SchemaOutput, user

ASK = Request("m", (user("Hi"),))


def normal(schema: dict[str, Any]) -> tuple[Any, list[str]]:
    reported: list[str] = []
    return json_schema(schema, "s", reported.append), reported


def fixed(schema: dict[str, Any]) -> tuple[Any, list[str]]:
    reported: list[str] = []
    found = fixed_schema(schema, "s", reported.append)
    types.Schema.model_validate(found)
    return found, reported


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
    ("schema", "expected", "reported"),
    [
        ({}, {}, []),
        ({"$schema": "x", "$id": "y", "type": "object"}, {"type": "OBJECT"}, []),
        ({"type": ["string", "null"]}, {"nullable": True, "type": "STRING"}, []),
        (
            {"type": ["string", "integer", "null"]},
            {"nullable": True, "anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
            [],
        ),
        ({"type": "null"}, {"nullable": True, "type": "NULL"}, []),
        ({"const": "a"}, {"type": "STRING", "enum": ["a"]}, []),
        ({"type": "integer", "const": 3}, {"type": "INTEGER", "format": "enum", "enum": ["3"]}, []),
        ({"enum": [1.5, None]}, {"nullable": True, "type": "NUMBER", "format": "enum", "enum": ["1.5"]}, []),
        ({"const": True}, {}, ["s.const"]),
        ({"enum": ["a", 1]}, {}, ["s.enum"]),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "INTEGER", "minimum": 1}, []),
        ({"type": "integer", "exclusiveMaximum": 9}, {"type": "INTEGER", "maximum": 8}, []),
        ({"type": "number", "exclusiveMaximum": 9}, {"type": "NUMBER", "maximum": 9}, ["s.exclusiveMaximum"]),
        (
            {"type": "number", "minimum": 1, "exclusiveMinimum": True},
            {"type": "NUMBER", "minimum": 1},
            ["s.exclusiveMinimum"],
        ),
        (
            {"type": "object", "additionalProperties": False, "properties": {"u": {"format": "uuid"}}},
            {"type": "OBJECT", "properties": {"u": {}}},
            ["s.additionalProperties", "s.properties.u.format"],
        ),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}, []),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "T"},
            {"nullable": True, "type": "STRING", "title": "T"},
            [],
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "integer", "multipleOf": 2}]},
            {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
            ["s.oneOf[1].multipleOf"],
        ),
        ({"type": "array"}, {"type": "ARRAY", "items": {}}, []),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/A", "description": "d"}},
                "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "string"}},
            },
            {"properties": {"a": {"type": "STRING", "description": "d"}}},
            [],
        ),
        (
            {
                "allOf": [
                    {"$ref": "#/$defs/A"},
                    {"properties": {"b": {"type": "string"}}, "required": ["b"], "title": "U"},
                ],
                "title": "T",
                "$defs": {"A": {"type": "object", "properties": {"a": {}}, "required": ["a"]}},
            },
            {
                "title": "T",
                "type": "OBJECT",
                "properties": {"b": {"type": "STRING"}, "a": {}},
                "required": ["a", "b"],
            },
            ["s.allOf[1].title"],
        ),
    ],
)
def test_the_field_of_a_fixed_form(schema: dict[str, Any], expected: object, reported: list[str]) -> None:
    before = json.dumps(schema)
    assert fixed(schema) == (expected, reported)
    assert json.dumps(schema) == before


LOOP = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}


@pytest.mark.parametrize(
    ("take", "schema", "words"),
    [
        (fixed, {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}, "refers to itself"),
        (fixed, {"allOf": [{"$ref": "#/$defs/A"}], **LOOP}, "refers to itself"),
        (
            fixed,
            {
                "allOf": [{"$ref": "#/$defs/A"}],
                "$defs": {"A": {"properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}]}}}},
            },
            "refers to itself",
        ),
        (fixed, {"items": {"$ref": "#/$defs/A", **LOOP}, **LOOP}, "refers to itself"),
        (fixed, {"$ref": "https://x.test/s.json"}, "does not hold"),
        (fixed, {"$ref": "#/$defs/A"}, "does not hold"),
        (normal, {"properties": {"a": {"$ref": "#"}}}, "refers to itself"),
        (normal, {"$ref": "#/$defs/A"}, "does not hold"),
        (normal, {"$ref": "#/anyOf/7", "anyOf": [{}]}, "does not hold"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_refused(
    take: Any, schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsupportedFeature, match=words) as caught:
        take(schema)
    assert caught.value.param is not None
    assert caught.value.param.startswith("s")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize("take", [normal, fixed])
def test_a_bottomless_schema_is_refused(take: Any) -> None:
    with pytest.raises(UnsupportedFeature):
        take(deep(5_000))


def declared(schema: dict[str, Any], *, json_schemas: bool) -> tuple[Any, tuple[str, ...]]:
    request = Request("m", (user("Hi"),), tools=(FunctionTool("f", parameters=schema),))
    encoded = Gemini(json_schemas=json_schemas).encode(request)
    body = json.loads(encoded.body)
    return body["tools"][0]["functionDeclarations"][0], encoded.dropped


def test_which_field_of_a_function_is_used() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number", "exclusiveMinimum": 0}}}
    path = ("tools[0].parameters.properties.n.exclusiveMinimum",)
    assert declared(schema, json_schemas=True) == ({"name": "f", "parametersJsonSchema": schema}, path)
    old = {"type": "OBJECT", "properties": {"n": {"type": "NUMBER", "minimum": 0}}}
    assert declared(schema, json_schemas=False) == ({"name": "f", "parameters": old}, path)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, {"type": "object"}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"anyOf": [{"type": "object"}]}, {"anyOf": [{"type": "object"}]}),
    ],
)
def test_parameters_are_an_object_though_nobody_said_so(schema: dict[str, Any], expected: object) -> None:
    assert declared(schema, json_schemas=True)[0]["parametersJsonSchema"] == expected


def test_a_function_without_parameters_has_none_in_the_older_field() -> None:
    for schema in ({"type": "object", "properties": {}}, {}):
        assert declared(schema, json_schemas=False) == ({"name": "f"}, ())


def test_which_field_of_the_output_is_used() -> None:
    output = SchemaOutput({"type": "object", "properties": {"a": {"const": "x"}}})
    request = Request("m", (user("Hi"),), output=output)
    new, old = (
        json.loads(Gemini(json_schemas=choice).encode(request).body)["generationConfig"]
        for choice in (True, False)
    )
    assert new["responseJsonSchema"] == {"type": "object", "properties": {"a": {"enum": ["x"]}}}
    assert old["responseSchema"] == {"type": "OBJECT", "properties": {"a": {"type": "STRING", "enum": ["x"]}}}
    assert "responseSchema" not in new
    assert "responseJsonSchema" not in old


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


@given(st.dictionaries(_WORDS, _JSON, max_size=5), st.booleans())
def test_any_schema_is_taken_or_refused(schema: dict[str, Any], json_schemas: bool) -> None:
    try:
        first = declared(schema, json_schemas=json_schemas)
    except RequestError:
        return
    assert declared(schema, json_schemas=json_schemas) == first
