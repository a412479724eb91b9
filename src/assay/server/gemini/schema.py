"""Google's Schema dialect, an older subset of OpenAPI's, as JSON Schema. Which schema is for what: .parse."""

from __future__ import annotations

from typing import Any

_PLURAL = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED = frozenset({"properties", "$defs"})
_SINGLE = frozenset({"items", "additionalProperties", "not"})
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_SNAKE = {
    "any_of": "anyOf",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties",
    "prefix_items": "prefixItems",
    "defs": "$defs",
    "ref": "$ref",
}


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The same as JSON Schema. A keyword that Google's dialect lacks is JSON Schema already, and kept.

    >>> json_schema({"type": "STRING", "nullable": True, "maxLength": "5"})
    {'type': ['string', 'null'], 'maxLength': 5}
    """
    out: dict[str, Any] = {}
    nullable = False
    order: Any = None
    for given, value in schema.items():
        name = _SNAKE.get(given, given)
        if value is None:
            continue
        if name == "nullable":
            nullable = value is True
        elif name == "propertyOrdering":
            order = value
        elif name == "example":
            out["examples"] = [value]
        elif name == "type":
            if (kind := _type(value)) is not None:
                out["type"] = kind
        elif name == "format" and value == "enum":
            continue  # says only that there is an `enum`
        else:
            out[name] = _value(name, value)
    if order is not None and isinstance(out.get("properties"), dict):
        out["properties"] = _ordered(out["properties"], order)
    return _or_null(out) if nullable else out


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return [_type(one) for one in value]
    if not isinstance(value, str) or value.upper() == "TYPE_UNSPECIFIED":
        return None
    return value.lower()


def _value(name: str, value: Any) -> Any:
    if name in _SINGLE and isinstance(value, dict):
        return json_schema(value)
    if name in _PLURAL and isinstance(value, list):
        return [json_schema(one) if isinstance(one, dict) else one for one in value]
    if name in _NAMED and isinstance(value, dict):
        return {key: json_schema(one) if isinstance(one, dict) else one for key, one in value.items()}
    if name in _COUNTS and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if name == "$ref" and isinstance(value, str):
        return value.replace("#/defs/", "#/$defs/", 1)
    return value


def _ordered(properties: dict[str, Any], order: Any) -> dict[str, Any]:
    """Models write properties in the order in which the schema has them."""
    wanted = [name for name in order if isinstance(name, str)] if isinstance(order, list) else []
    first = [name for name in wanted if name in properties]
    return {name: properties[name] for name in dict.fromkeys([*first, *properties])}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "null":
        schema["type"] = [kind, "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema
