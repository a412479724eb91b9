"""JSON Schemas that the local model keeps to: which of them, as what grammar, and whether a reply did.

The grammar engine (LLGuidance, inside llama.cpp) compiles a schema when the call begins. A schema that it
cannot compile it leaves out without a word, and the model then writes what it likes. So the keywords that it
does not know are refused beforehand, and every complete reply is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.types import JSON, JsonOutput, Output, SchemaOutput, TextOutput

PARAM: Final = "response_format"

ANY_OBJECT: Final[dict[str, JSON]] = {"type": "object"}

UNHELD: Final = frozenset(
    {
        "$anchor",
        "$dynamicRef",
        "$recursiveRef",
        "additionalItems",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
"""The keywords of JSON Schema that the grammar cannot hold."""

_LAYOUT: Final = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
"""On one line: a small model that may choose its spaces loses itself in them."""

_ONE: Final = ("additionalProperties", "items")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS: Final = ("$defs", "definitions", "patternProperties", "properties")
_JSON_STARTS: Final = frozenset('{["-0123456789tfn')


class Validator(Protocol):
    def is_valid(self, instance: JSON) -> bool: ...


class Held:
    """A schema and the reply that must keep to it, fed as it comes."""

    def __init__(self, schema: dict[str, JSON], validator: Validator) -> None:
        self.rule = rule(schema)
        self.grammar = f"%llguidance {{}}\nstart: {self.rule}"
        self._validator = validator
        self._texts: list[str] = []
        self._begun = False

    def add(self, text: str) -> None:
        """Raises UnsupportedFeature as soon as it shows that the grammar was not in force."""
        self._texts.append(text)
        if not self._begun and (first := text.lstrip()[:1]):
            self._begun = True
            if first not in _JSON_STARTS:
                raise _not_held()

    def check(self, *, whole: bool) -> None:
        """Raises UnsupportedFeature unless the reply is JSON that keeps to the schema.

        Of a reply that was cut short (`whole` False) it must be how JSON begins.
        """
        text = "".join(self._texts)
        if not whole:
            if not _begins_json(text):
                raise _not_held()
            return
        try:
            value = msgspec.json.decode(text)
        except (ValueError, RecursionError) as error:
            raise _not_held() from error
        if not self._validator.is_valid(value):
            raise _not_held()


def held(output: Output) -> Held | None:
    """What holds the reply to `output`: None for free text.

    Raises RequestError when the schema is not a valid JSON Schema, UnsupportedFeature (naming the keyword)
    when the grammar cannot hold it. Nothing is fetched: a `$ref` must stay inside the schema.
    """
    match output:
        case TextOutput():
            return None
        case JsonOutput():
            schema = ANY_OBJECT
        case SchemaOutput():
            schema = output.schema
    return Held(schema, validator(schema, "the schema", PARAM))


def rule(schema: dict[str, JSON]) -> str:
    """The right side of a grammar's rule for JSON that keeps to the schema, on one line."""
    return f"%json {msgspec.json.encode({**schema, 'x-guidance': _LAYOUT}).decode()}"


def validator(schema: dict[str, JSON], what: str, param: str) -> Validator:
    """What checks a value. Errors name the schema as `what`; they are those of `held`."""
    import jsonschema_rs  # 30 ms, which only calls with a schema need

    try:
        found = jsonschema_rs.validator_for(schema, offline=True)
        msgspec.json.encode(schema)
    except (ValueError, TypeError, RecursionError) as error:
        said = getattr(error, "message", None) or str(error)
        raise RequestError(
            f"{what[0].upper() + what[1:]} is not a JSON Schema that can be used: {said}", param=param
        ) from error
    for place, keyword in _unheld(schema, "#"):
        raise UnsupportedFeature(
            f"The local model cannot be held to '{keyword}' (at {place} of {what}); leave it out and "
            "check the reply, or choose another model",
            param=param,
        )
    return found


def _unheld(schema: JSON, place: str) -> Iterator[tuple[str, str]]:
    """Where which keywords are that cannot be held. Properties of such a name do not count."""
    if not isinstance(schema, dict):
        return
    for keyword in sorted(UNHELD.intersection(schema)):
        if schema[keyword] is not False:
            yield place, keyword
    for keyword, inner in schema.items():
        at = f"{place}/{keyword}"
        if keyword in _ONE:
            yield from _unheld(inner, at)
        elif keyword in _LISTS and isinstance(inner, list):
            for number, item in enumerate(inner):
                yield from _unheld(item, f"{at}/{number}")
        elif keyword in _MAPS and isinstance(inner, dict):
            for name, item in inner.items():
                yield from _unheld(item, f"{at}/{name}")


def _begins_json(text: str) -> bool:
    for digit in ("", "0"):  # "1." becomes JSON with a digit
        try:
            msgspec.json.decode(text + digit)
        except ValueError as error:
            if "truncated" in str(error):
                return True
        else:
            return True
    return False


def _not_held() -> UnsupportedFeature:
    return UnsupportedFeature(
        "The local model could not be held to this schema, and its reply does not keep to it; simplify the "
        "schema (patterns without lookaround, alternatives that exclude each other, limits that can be met)",
        param=PARAM,
    )
