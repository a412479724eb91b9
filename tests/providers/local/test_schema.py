"""Which schemas the local model is held to, without the model."""

from __future__ import annotations

from typing import Any

import pytest

from assay.errors import RequestError, UnsupportedFeature
from assay.providers.local.schema import UNHELD, Held, held
from assay.types import JsonOutput, SchemaOutput, TextOutput

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "not": {"type": "boolean"}, "if": {"$ref": "#/$defs/n"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"n": {"type": "integer", "title": "N", "default": 1}},
}


def keep(schema: dict[str, Any] = PERSON) -> Held:
    found = held(SchemaOutput(schema))
    assert found is not None
    return found


def test_free_text_is_not_held() -> None:
    assert held(TextOutput()) is None


def test_the_grammar_is_the_schema_on_one_line() -> None:
    grammar = keep({"type": "string", "title": 'two\nlines and "quotes"'}).grammar
    assert grammar.startswith('%llguidance {}\nstart: %json {"type":"string"')
    assert len(grammar.splitlines()) == 2


def test_json_output_is_an_object() -> None:
    found = held(JsonOutput())
    assert found is not None
    found.add('{"a": [1, 2]}')
    found.check(whole=True)


@pytest.mark.parametrize("keyword", sorted(UNHELD))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: inner,
        lambda inner: {"properties": {"p": inner}},
        lambda inner: {"items": inner},
        lambda inner: {"anyOf": [{"type": "null"}, inner]},
        lambda inner: {"$defs": {"d": inner}},
        lambda inner: {"additionalProperties": inner},
    ],
)
def test_keywords_that_the_grammar_ignores_are_refused_wherever_they_are(keyword: str, wrap: Any) -> None:
    values: dict[str, Any] = {
        "uniqueItems": True,
        "dependentRequired": {"a": ["b"]},
        "dependentSchemas": {"a": {}},
        "dependencies": {"a": ["b"]},
        "$anchor": "here",
        "$dynamicRef": "#",
        "$recursiveRef": "#",
    }
    with pytest.raises(UnsupportedFeature, match=keyword.replace("$", r"\$")) as caught:
        held(SchemaOutput(wrap({keyword: values.get(keyword, {})})))
    assert caught.value.param == "response_format"


def test_an_ignored_keyword_that_asks_for_nothing_is_accepted() -> None:
    keep({"type": "array", "uniqueItems": False})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "banana"},
        {"properties": []},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.org/schema.json"},
        {"$ref": "other.json"},
        {"pattern": "["},
        {"title": "\ud800"},
    ],
)
def test_what_is_no_usable_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        held(SchemaOutput(schema))
    assert caught.value.param == "response_format"


def test_a_very_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(10_000):
        schema = {"items": schema}
    with pytest.raises(RequestError):
        held(SchemaOutput(schema))


@pytest.mark.parametrize("text", ['{"name": "Ann"}', '{"name": "Ann", "if": 3}'])
def test_a_reply_that_keeps_to_it(text: str) -> None:
    found = keep()
    for char in text:
        found.add(char)
    found.check(whole=True)


@pytest.mark.parametrize("text", ["", '{"name": 1}', '{"name": "Ann", "x": 1}', '{"name": "Ann"', "[]"])
def test_a_reply_that_does_not(text: str) -> None:
    found = keep()
    found.add(text)
    with pytest.raises(UnsupportedFeature, match="does not keep to it"):
        found.check(whole=True)


def test_prose_is_noticed_at_its_first_letter() -> None:
    found = keep()
    found.add(" \n")
    with pytest.raises(UnsupportedFeature):
        found.add("Here is")


@pytest.mark.parametrize("text", ["", "{", '{"name": "An', '{"name": tr', "1.", "-", '{"a": 1.', '{"a": 2e'])
def test_how_json_may_be_cut_short(text: str) -> None:
    found = keep()
    found.add(text)
    found.check(whole=False)


@pytest.mark.parametrize("text", ["1. Red", "{name", '"a" is', "tall"])
def test_what_is_not_the_beginning_of_json(text: str) -> None:
    found = keep()
    found.add(text)
    with pytest.raises(UnsupportedFeature):
        found.check(whole=False)
