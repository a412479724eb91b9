"""JSON Schemas as Gemini takes them. Nothing is sent from here.

`parametersJsonSchema` and `responseJsonSchema` take JSON Schema itself, and pass over the keywords that they
do not know. The API's older `parameters` and `responseSchema`, of a fixed form, are not written: they refuse
the whole call for one field too many, and lose references and `null` among types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

from assay.errors import UnsupportedFeature

Schema: TypeAlias = dict[str, Any]
Report: TypeAlias = Callable[[str], None]
"""Told the path of every constraint that the API will not hold."""

_IDENTITY = frozenset({"$schema", "$comment"})
"""What says nothing about a value; left out without a word."""

_UNHELD = frozenset(
    {
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
        "uniqueItems", "contains", "minContains", "maxContains", "minProperties", "maxProperties",
        "patternProperties", "propertyNames", "allOf", "not", "if", "then", "else", "dependentRequired",
        "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties", "additionalItems",
    }
)  # fmt: skip
"""Constraints that JSON Schema has and the API's list of what it holds has not."""

_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "$defs", "patternProperties", "dependentSchemas")


def recursive(where: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"The schema at '{where}' refers to itself, which Gemini's API cannot take in this place; write it "
        "out to the depth that is needed",
        param=where,
    )


def _target(root: Schema, ref: str, where: str) -> Schema:
    """What a reference within the schema points to."""
    found: Any = root
    if ref.startswith("#"):
        for step in ref[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not ref.startswith("#"):
        raise UnsupportedFeature(
            f"The schema at '{where}' refers to '{ref}', which it does not hold; put the definition into it",
            param=where,
        )
    return found


def json_schema(schema: Schema, where: str, report: Report) -> Schema:
    """The same schema in the words that the API holds best.

    >>> json_schema({"$schema": "x", "const": "a"}, "output.schema", print)
    {'enum': ['a']}
    >>> json_schema({"type": "string", "pattern": "a+"}, "output.schema", print)
    output.schema.pattern
    {'type': 'string', 'pattern': 'a+'}

    A reference may have nothing beside it, so what stands there moves around it; `allOf` of one is `anyOf` of
    one; draft 7's `definitions` are `$defs`. Raises UnsupportedFeature for a reference that leads nowhere, or
    past the definitions and back to itself.
    """
    try:
        return cast("Schema", _Normal(schema, report).of(schema, where))
    except RecursionError as error:
        raise recursive(where) from error


class _Normal:
    def __init__(self, root: Schema, report: Report) -> None:
        self._root = root
        self._report = report
        self._inside: list[str] = []

    def of(self, schema: Any, where: str) -> Any:
        if not isinstance(schema, dict):
            return {} if schema is True else schema
        if isinstance(ref := schema.get("$ref"), str):
            return self._reference(schema, ref, where)
        if _one(schema.get("allOf")) and "anyOf" not in schema:
            schema = {"anyOf" if name == "allOf" else name: value for name, value in schema.items()}
        found: Schema = {}
        for name, value in schema.items():
            at = f"{where}.{name}"
            if name in _UNHELD:
                self._report(at)
            if name == "definitions" and "$defs" not in schema:
                name = "$defs"
            if name in _IDENTITY:
                continue
            if name == "const" and "enum" not in schema and isinstance(value, str | int | float):
                if not isinstance(value, bool):
                    found["enum"] = [value]
                    continue
                self._report(at)
            found[name] = self._keyword(name, value, at)
        return found

    def _keyword(self, name: str, value: Any, at: str) -> Any:
        if name in _SCHEMA and not isinstance(value, bool):
            return self.of(value, at)
        if name in _SCHEMAS and isinstance(value, list):
            return [self.of(item, f"{at}[{number}]") for number, item in enumerate(value)]
        if name in _NAMED and isinstance(value, dict):
            return {inner: self.of(item, f"{at}.{inner}") for inner, item in value.items()}
        return value

    def _reference(self, schema: Schema, ref: str, where: str) -> Schema:
        around = self.of({name: value for name, value in schema.items() if name != "$ref"}, where)
        if ref.startswith(("#/$defs/", "#/definitions/")):
            _target(self._root, ref, where)
            target: Schema = {"$ref": ref.replace("#/definitions/", "#/$defs/", 1)}
            if all(name.startswith("$") for name in around) or "anyOf" in around:
                return {**around, **target}
            return {**around, "anyOf": [target]}
        if ref in self._inside:
            raise recursive(where)
        self._inside.append(ref)
        target = self.of(_target(self._root, ref, where), where)
        self._inside.pop()
        return {**target, **around}


def _one(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1
