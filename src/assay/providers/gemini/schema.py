"""JSON Schemas as Gemini takes them, in either of the API's two fields for them. Nothing is sent from here.

`parametersJsonSchema` and `responseJsonSchema` take JSON Schema itself, and pass over the keywords that they
do not know; `parameters` and `responseSchema` take messages of a fixed form, and refuse the whole call for
one field too many. The first are used unless an upstream is too old for them: nothing is lost on the way,
references and `null` among types stay what they are, and the API's own SDK recommends them.
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


# --- the fields that take JSON Schema ------------------------------------------------------------


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


# --- the fields of a fixed form ------------------------------------------------------------------

_KEPT = frozenset(
    {
        "title", "description", "default", "example", "nullable", "minItems", "maxItems", "minProperties",
        "maxProperties", "minLength", "maxLength", "minimum", "maximum", "pattern", "required",
        "propertyOrdering",
    }
)  # fmt: skip
_FORMATS = frozenset({"enum", "date-time", "float", "double", "int32", "int64"})
_SILENT = _IDENTITY | {
    "$id",
    "$anchor",
    "$defs",
    "definitions",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
}


def fixed_schema(schema: Schema, where: str, report: Report) -> Schema:
    """The schema as the API's own `Schema` message: what that has no field for is converted or reported.

    >>> fixed_schema({"type": ["integer", "null"], "exclusiveMinimum": 0}, "tools[0].parameters", print)
    {'nullable': True, 'type': 'INTEGER', 'minimum': 1}
    >>> fixed_schema({"type": "number", "exclusiveMinimum": 0}, "tools[0].parameters", print)
    tools[0].parameters.exclusiveMinimum
    {'type': 'NUMBER', 'minimum': 0}

    References are written out. Raises UnsupportedFeature for one that leads nowhere or back to itself.
    """
    try:
        return _Fixed(schema, report).of(schema, where)
    except RecursionError as error:
        raise recursive(where) from error


class _Fixed:
    def __init__(self, root: Schema, report: Report) -> None:
        self._root = root
        self._report = report
        self._inside: list[str] = []

    def of(self, schema: Any, where: str) -> Schema:
        if not isinstance(schema, dict):
            return {}
        if isinstance(ref := schema.get("$ref"), str):
            if ref in self._inside:
                raise recursive(where)
            self._inside.append(ref)
            beside = {name: value for name, value in schema.items() if name != "$ref"}
            found = self.of({**_target(self._root, ref, where), **beside}, where)
            self._inside.pop()
            return found
        schema = self._merged(schema, where)
        found = {}
        for name, value in schema.items():
            self._keyword(found, schema, name, value, f"{where}.{name}")
        if found.get("type") == "ARRAY":
            found.setdefault("items", {})
        return found

    def _keyword(self, found: Schema, schema: Schema, name: str, value: Any, at: str) -> None:
        match name:
            case "type" if isinstance(value, str | list):
                self._type(found, value)
            case "const":
                self._enum(found, [value], at)
            case "enum" if isinstance(value, list):
                self._enum(found, value, at)
            case "anyOf" | "oneOf" if isinstance(value, list):
                self._any_of(found, value, at)
            case "properties" if isinstance(value, dict):
                found[name] = {inner: self.of(item, f"{at}.{inner}") for inner, item in value.items()}
            case "items" if isinstance(value, dict | bool):
                found[name] = self.of(value, at)
            case "format" if isinstance(value, str) and value in _FORMATS:
                found[name] = value
            case "exclusiveMinimum" | "exclusiveMaximum":
                self._bound(found, schema, name, value, at)
            case _ if name in _KEPT:
                found.setdefault(name, value)
            case _ if name not in _SILENT:
                self._report(at)

    def _type(self, found: Schema, value: Any) -> None:
        names = [value] if isinstance(value, str) else [name for name in value if isinstance(name, str)]
        kinds = [name.upper() for name in names if name.lower() != "null"]
        if len(kinds) < len(names):
            found["nullable"] = True
        if len(kinds) == 1:
            found["type"] = kinds[0]
        elif kinds:
            found["anyOf"] = [{"type": kind} for kind in kinds]
        elif names:
            found["type"] = "NULL"

    def _enum(self, found: Schema, values: list[Any], at: str) -> None:
        """Strings, whatever the type is; a number's are marked by a format."""
        said = [value for value in values if value is not None]
        if len(said) < len(values):
            found["nullable"] = True
        if all(isinstance(value, str) for value in said):
            found.setdefault("type", "STRING")
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in said):
            whole = all(isinstance(value, int) for value in said)
            found.setdefault("type", "INTEGER" if whole else "NUMBER")
            found["format"] = "enum"
        else:
            self._report(at)
            return
        if said:
            found["enum"] = [str(value) for value in said]

    def _any_of(self, found: Schema, options: list[Any], at: str) -> None:
        kept = [
            self.of(option, f"{at}[{number}]")
            for number, option in enumerate(options)
            if not (isinstance(option, dict) and option.get("type") == "null")
        ]
        if len(kept) < len(options):
            found["nullable"] = True
        if len(kept) == 1:
            for name, value in kept[0].items():
                found.setdefault(name, value)
        elif kept:
            found["anyOf"] = kept

    def _bound(self, found: Schema, schema: Schema, name: str, value: Any, at: str) -> None:
        """Exact for whole numbers; else the bound itself is let in, and that is said."""
        bound = "minimum" if name == "exclusiveMinimum" else "maximum"
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._report(at)
            return
        step = 1 if bound == "minimum" else -1
        kinds = schema.get("type")
        if isinstance(value, int) and (
            kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds)
        ):
            found[bound] = value + step
        else:
            self._report(at)
            found.setdefault(bound, value)

    def _merged(self, schema: Schema, where: str) -> Schema:
        """`allOf` as one schema: properties and required names together; else what came first stays."""
        parts = schema.get("allOf")
        if not isinstance(parts, list):
            return schema
        merged = {name: value for name, value in schema.items() if name != "allOf"}
        for number, part in enumerate(parts):
            at = f"{where}.allOf[{number}]"
            for name, value in self._followed(part, at).items():
                known = merged.get(name)
                if name == "properties" and isinstance(value, dict) and isinstance(known, dict):
                    merged[name] = {**value, **known}
                elif name == "required" and isinstance(value, list) and isinstance(known, list):
                    merged[name] = [*known, *(item for item in value if item not in known)]
                elif merged.setdefault(name, value) != value:
                    self._report(f"{at}.{name}")
        return merged

    def _followed(self, part: Any, at: str) -> Schema:
        seen = set()
        while isinstance(part, dict) and isinstance(ref := part.get("$ref"), str):
            if ref in seen:
                raise recursive(at)
            seen.add(ref)
            beside = {name: value for name, value in part.items() if name != "$ref"}
            part = {**_target(self._root, ref, at), **beside}
        return self._merged(part, at) if isinstance(part, dict) else {}
