"""Picoschema to JSON Schema; JSON Schema as it is; what is neither."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from assay.prompts.picoschema import SchemaProblem, to_json_schema


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


@pytest.mark.parametrize(
    ("pico", "schema"),
    [
        ("string", {"type": "string"}),
        ("number, how much, in EUR", {"type": "number", "description": "how much, in EUR"}),
        ("any", {}),
        ("any, thing", {"description": "thing"}),
        (None, {"type": "null"}),
        ({"a": "string"}, closed({"a": {"type": "string"}}, "a")),
        ({"a": None}, closed({"a": {"type": "null"}}, "a")),
        ({"a?": "integer, n"}, closed({"a": {"type": ["integer", "null"], "description": "n"}})),
        ({"a?": "any"}, closed({"a": {}})),
        ({"a?": "null"}, closed({"a": {"type": "null"}})),
        (
            {"tags(array, the tags)": "string, one"},
            closed(
                {
                    "tags": {
                        "type": "array",
                        "items": {"type": "string", "description": "one"},
                        "description": "the tags",
                    }
                },
                "tags",
            ),
        ),
        ({"t?(array)": "any"}, closed({"t": {"type": ["array", "null"], "items": {}}})),
        (
            {"o(object, about)": {"b?": "boolean"}},
            closed({"o": closed({"b": {"type": ["boolean", "null"]}}) | {"description": "about"}}, "o"),
        ),
        (
            {"o?": {"b": "boolean"}},
            closed({"o": closed({"b": {"type": "boolean"}}, "b") | {"type": ["object", "null"]}}),
        ),
        (
            {"rows(array)": {"id": "integer"}},
            closed({"rows": {"type": "array", "items": closed({"id": {"type": "integer"}}, "id")}}, "rows"),
        ),
        ({"c(enum)": ["RED", "BLUE"]}, closed({"c": {"enum": ["RED", "BLUE"]}}, "c")),
        ({"c?(enum, colour)": ["RED"]}, closed({"c": {"enum": ["RED", None], "description": "colour"}})),
        ({"c?(enum)": [None, 1]}, closed({"c": {"enum": [None, 1]}})),
        (
            {"(*)": "integer, n"},
            {
                "type": "object",
                "properties": {},
                "additionalProperties": {"type": "integer", "description": "n"},
            },
        ),
        (
            {"a": "string", "(*)": "any"},
            {
                "type": "object",
                "properties": {"a": {"type": "string"}},
                "additionalProperties": {},
                "required": ["a"],
            },
        ),
        ({}, closed({})),
    ],
)
def test_picoschema(pico: Any, schema: dict[str, Any]) -> None:
    assert to_json_schema(pico) == schema
    jsonschema_rs.validator_for(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 3},
        {"type": "object", "properties": {"a": {"type": "number", "minimum": 20}}},
        {"type": ["object", "null"]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
    ],
)
def test_json_schema_is_taken_as_it_is(schema: dict[str, Any]) -> None:
    assert to_json_schema(schema) == schema


def test_properties_imply_an_object() -> None:
    assert to_json_schema({"properties": {"a": {}}}) == {"type": "object", "properties": {"a": {}}}


def test_a_field_called_type_of_a_name_is_still_picoschema() -> None:
    assert to_json_schema({"type(enum)": ["A"], "b": "string"})["required"] == ["type", "b"]


def test_the_source_is_not_changed() -> None:
    source = {"c?(enum)": ["RED"], "o": {"a?": "string"}}
    to_json_schema(source)
    assert source == {"c?(enum)": ["RED"], "o": {"a?": "string"}}


@pytest.mark.parametrize(
    ("pico", "location", "words"),
    [
        ("strng", (), ["'strng'", "did you mean 'string'?", "'boolean'"]),
        ("Person", (), ["'Person'", "Allowed"]),
        ({"a": {"b": "int"}}, ("a", "b"), ["'int'"]),
        ({"a": "array"}, ("a",), ["field(array)"]),
        ({"a": 3}, ("a",), ["3 is neither"]),
        ({"a": ["x"]}, ("a",), ["is neither"]),
        ([], (), ["is neither"]),
        ({"a(list)": "string"}, ("a(list)",), ["(list)", "'array'"]),
        ({"a(arry)": "string"}, ("a(arry)",), ["did you mean 'array'?"]),
        ({"a(array": "string"}, ("a(array",), ["'a(array'", "not a field"]),
        ({"a??": "string"}, ("a??",), ["not a field"]),
        ({"?": "string"}, ("?",), ["not a field"]),
        ({"a(enum)": "RED"}, ("a(enum)",), ["list of its values"]),
        ({"a(enum)": []}, ("a(enum)",), ["list of its values"]),
        ({"a(object)": "string"}, ("a(object)",), ["mapping"]),
        ({"a": "string", "a?": "string"}, ("a?",), ["declared twice"]),
        ({"rows(array)": {"id": "uuid"}}, ("rows(array)", "id"), ["'uuid'"]),
    ],
)
def test_what_is_wrong_and_where(pico: Any, location: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(SchemaProblem) as caught:
        to_json_schema(pico)
    assert caught.value.location == location
    for word in words:
        assert word in caught.value.problem
