"""Schemas in front matter: dotprompt's Picoschema, or JSON Schema as it is, to JSON Schema.

Picoschema in short: `name: type, description`, `name?` is optional and may be null, `tags(array): string`,
`address(object): {...}`, `colour(enum): [RED, BLUE]`, `(*): type` allows further names. The reference is
https://google.github.io/dotprompt/extending/picoschema/. Schemas registered by name are not supported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from assay.prompts.source import Location, did_you_mean, listed
from assay.types import JSON

SCALARS: Final = ("any", "boolean", "integer", "null", "number", "string")
COMPOUNDS: Final = ("array", "enum", "object")
_WILDCARD: Final = "(*)"
_FIELD: Final = re.compile(
    r"(?P<name>[^?()]+)(?P<optional>\??)(?:\(\s*(?P<type>\w+)\s*(?:,(?P<about>.*))?\))?", re.DOTALL
)
_JSON_SCHEMA_KEYS: Final = ("$schema", "$ref", "$defs", "allOf", "anyOf", "oneOf")


class SchemaProblem(Exception):
    """What is wrong with a schema, and the keys that lead there."""

    def __init__(self, location: Location, problem: str) -> None:
        super().__init__(problem)
        self.location = location
        self.problem = problem


def to_json_schema(schema: JSON) -> dict[str, JSON]:
    """The JSON Schema of a `schema:` entry. Raises SchemaProblem.

    >>> to_json_schema({"city": "string, where", "days?": "integer"})["required"]
    ['city']
    """
    if isinstance(schema, Mapping) and _is_json_schema(schema):
        copy = dict(schema)
        if isinstance(copy.get("properties"), Mapping):
            copy.setdefault("type", "object")
        return copy
    return _pico(schema, ())


def _is_json_schema(schema: Mapping[str, JSON]) -> bool:
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind in SCALARS or kind in COMPOUNDS
    return (
        isinstance(kind, list)
        or isinstance(schema.get("properties"), Mapping)
        or any(key in schema for key in _JSON_SCHEMA_KEYS)
    )


def _pico(value: JSON, at: Location) -> dict[str, JSON]:
    match value:
        case None:
            return {"type": "null"}
        case str():
            return _scalar(value, at)
        case Mapping():
            return _object(value, at)
        case _:
            raise SchemaProblem(
                at, f"a schema is a type name or a mapping of fields; {value!r} is neither ({_allowed()})"
            )


def _scalar(text: str, at: Location) -> dict[str, JSON]:
    name, _, about = (part.strip() for part in text.partition(","))
    if name not in SCALARS:
        hint = did_you_mean(name, SCALARS)
        if name in COMPOUNDS:
            hint = f"; it goes after the field's name, as in 'field({name}): ...'."
        raise SchemaProblem(at, f"there is no type {name!r}{hint} {_allowed()}")
    schema: dict[str, JSON] = {} if name == "any" else {"type": name}
    return _described(schema, about)


def _object(fields: Mapping[str, JSON], at: Location) -> dict[str, JSON]:
    properties: dict[str, JSON] = {}
    required: list[str] = []
    further: JSON = False
    for key, value in fields.items():
        here = (*at, key)
        if key == _WILDCARD:
            further = _pico(value, here)
            continue
        field = _FIELD.fullmatch(key)
        if field is None:
            raise SchemaProblem(
                here, f"{key!r} is not a field; a field is like 'name', 'name?' or 'name?(array, about it)'"
            )
        name = field["name"].strip()
        if name in properties:
            raise SchemaProblem(here, f"the field {name!r} is declared twice; remove one")
        optional = bool(field["optional"])
        if not optional:
            required.append(name)
        properties[name] = _field(
            value, field["type"], (field["about"] or "").strip(), here, optional=optional
        )
    schema: dict[str, JSON] = {"type": "object", "properties": properties, "additionalProperties": further}
    if required:
        schema["required"] = required
    return schema


def _field(value: JSON, kind: str | None, about: str, at: Location, *, optional: bool) -> dict[str, JSON]:
    match kind:
        case None | "object":
            if kind and not isinstance(value, Mapping):
                raise SchemaProblem(at, f"an object needs a mapping of its fields, not {value!r}")
            schema = _pico(value, at)
        case "array":
            schema = {"type": "array", "items": _pico(value, at)}
        case "enum":
            if not isinstance(value, list) or not value:
                raise SchemaProblem(
                    at, f"an enum needs a list of its values, as in [RED, BLUE], not {value!r}"
                )
            schema = {"enum": list(value)}
        case _:
            hint = did_you_mean(kind, COMPOUNDS)
            raise SchemaProblem(
                at, f"there is no type ({kind}){hint} Allowed in brackets: {listed(COMPOUNDS)}"
            )
    if optional:
        _make_nullable(schema)
    return _described(schema, about)


def _make_nullable(schema: dict[str, JSON]) -> None:
    if "enum" in schema:
        if None not in schema["enum"]:
            schema["enum"].append(None)
    elif isinstance(kind := schema.get("type"), str) and kind != "null":
        schema["type"] = [kind, "null"]


def _described(schema: dict[str, JSON], about: str) -> dict[str, JSON]:
    if about:
        schema["description"] = about
    return schema


def _allowed() -> str:
    return (
        f"Allowed: {listed(SCALARS)}, or a mapping of fields; tags(array): string, level(enum): [LOW, HIGH]"
    )
