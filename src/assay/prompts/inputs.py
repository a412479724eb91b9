"""What a prompt may be given: defaults, names, the input schema, and values as JSON. Raises PromptError.

How the values are looked up by a template is assay.prompts.rendering's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import jsonschema_rs

from assay.errors import PromptError
from assay.prompts.picoschema import SchemaProblem
from assay.prompts.source import Location, did_you_mean, listed
from assay.types import JSON

Schema = dict[str, JSON]
Shape = tuple[Schema, ...]
"""The schemas that describe one value: more than one where anyOf, oneOf, allOf or $ref lead on."""

_MAX_DEPTH: Final = 100
_MAX_MESSAGE: Final = 300
_TOO_LARGE: Final = 10**308


def compile_schema(schema: Schema) -> jsonschema_rs.Validator:
    """A validator for `schema`. Nothing is fetched. Raises SchemaProblem for what is not a JSON Schema."""
    try:
        return jsonschema_rs.validator_for(schema, retriever=_refuse)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as exc:
        problem = getattr(exc, "message", str(exc))
        location = tuple(getattr(exc, "instance_path", ()))
        raise SchemaProblem(location, f"not a valid JSON Schema: {_short(problem)}") from exc


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched; put the schema under $defs and point to '#/$defs/...'")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The variables of one prompt.

    `used` are the names in the template; `schema` is None when the prompt declares none: then exactly the
    used variables are wanted (or anything, when the template prints its whole input).
    """

    prompt: str
    used: tuple[str, ...]
    whole_input: bool
    schema: Schema | None
    defaults: dict[str, JSON]
    validator: jsonschema_rs.Validator | None

    @property
    def shape(self) -> Shape:
        return expand(self.schema, self.schema) if self.schema else ()

    @property
    def declared(self) -> tuple[str, ...]:
        """The names in the schema, in its order."""
        return tuple(dict.fromkeys(name for schema in self.shape for name in schema.get("properties", ())))

    @property
    def required(self) -> tuple[str, ...]:
        """What a caller must pass: required or undeclared variables that have no default."""
        declared = self.declared
        names = list(self.schema.get("required", ())) if self.schema else []
        names += [name for name in self.used if name not in declared and name not in names]
        return tuple(name for name in names if name not in self.defaults)

    @property
    def known(self) -> tuple[str, ...]:
        """All names that may be passed, but for what `open` lets in."""
        required = self.schema.get("required", ()) if self.schema else ()
        return tuple(dict.fromkeys((*self.declared, *required, *self.used)))

    @property
    def open(self) -> bool:
        """Whether names are welcome that neither the schema nor the template has.

        A JSON Schema says so with `additionalProperties` or `patternProperties`; silence means no.
        """
        if self.schema is None:
            return self.whole_input
        return any(
            schema.get("additionalProperties", False) is not False or bool(schema.get("patternProperties"))
            for schema in self.shape
        )

    def bind(self, variables: Mapping[str, JSON]) -> dict[str, JSON]:
        """Defaults and variables as one checked JSON object. Raises PromptError that names the variable."""
        for name in variables:
            if name not in self.known and not self.open:
                raise PromptError(
                    f"{self.prompt}: there is no variable {name!r}{did_you_mean(str(name), self.known)}"
                    f" The prompt takes: {listed(self.known)}"
                )
        missing = [name for name in self.required if name not in variables]
        if missing:
            raise PromptError(
                f"{self.prompt}: the variable{'s' if len(missing) > 1 else ''} {listed(missing)}"
                f" {'are' if len(missing) > 1 else 'is'} missing; pass a value,"
                " or declare it optional ('name?: type') in input.schema"
            )
        bound = {name: self._json(value, name, 0) for name, value in {**self.defaults, **variables}.items()}
        if self.validator is not None:
            self._validate(bound, self.validator)
        return bound

    def misfit_of_defaults(self) -> tuple[Location, str] | None:
        """The first default that does not fit the schema: where it is in `defaults`, and why."""
        if self.schema is None or not self.defaults:
            return None
        validator = compile_schema({**self.schema, "required": []})
        for error in validator.iter_errors(self.defaults):
            if error.instance_path:
                return tuple(error.instance_path), _short(error.message)
        return None

    def _validate(self, bound: dict[str, JSON], validator: jsonschema_rs.Validator) -> None:
        for error in validator.iter_errors(bound):
            where = dotted(error.instance_path)
            subject = f"the variable {where!r}" if where else "the input"
            raise PromptError(f"{self.prompt}: {subject} does not fit input.schema: {_short(error.message)}")

    def _json(self, value: object, at: str, depth: int) -> JSON:
        """A copy of `value` made of JSON's own types. Raises PromptError that names the place."""
        match value:
            case None | bool():
                return value
            case int() if abs(value) < _TOO_LARGE:
                return value
            case float() if math.isfinite(value):
                return value
            case int() | float():
                raise self._error(at, "is a number that JSON cannot carry; pass a finite one, or None")
            case str():
                return self._text(value, at)
            case _ if depth >= _MAX_DEPTH:
                raise self._error(at, f"nests more than {_MAX_DEPTH} deep; flatten it")
            case Mapping():
                return {
                    self._key(key, at): self._json(item, f"{at}.{key}", depth + 1)
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self._json(item, f"{at}.{index}", depth + 1) for index, item in enumerate(value)]
            case _:
                raise self._error(
                    at, f"is a {type(value).__name__}; pass text, a number, True, None, a list or a dict"
                )

    def _text(self, value: str, at: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise self._error(at, f"has a lone surrogate at {exc.start}, which is not valid Unicode") from exc
        return str(value)

    def _key(self, key: object, at: str) -> str:
        if not isinstance(key, str):
            raise self._error(at, f"has the key {key!r}; keys must be text")
        return self._text(key, at)

    def _error(self, at: str, problem: str) -> PromptError:
        return PromptError(f"{self.prompt}: the variable {at!r} {problem}")


# --- shapes: what the schema says about a value deep inside ---------------------------------------


def expand(schema: JSON, root: Schema) -> Shape:
    """`schema` and all that it leads to by $ref (inside `root`), anyOf, oneOf and allOf."""
    found: list[Schema] = []
    waiting = [schema]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, dict) or any(current is seen for seen in found):
            continue
        found.append(current)
        for keyword in ("anyOf", "oneOf", "allOf"):
            waiting += current.get(keyword, ())
        if isinstance(reference := current.get("$ref"), str):
            waiting.append(_resolve(reference, root))
    return tuple(found)


def _resolve(reference: str, root: Schema) -> JSON:
    value: JSON = root
    for part in reference.removeprefix("#").split("/")[1:]:
        value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, dict) else None
    return value


def field_shape(shape: Shape, name: str, root: Schema | None) -> Shape:
    """What the schema says about the field `name` of a value of this shape."""
    return _joined(
        (schema.get("properties", {}).get(name, schema.get("additionalProperties")) for schema in shape), root
    )


def item_shape(shape: Shape, root: Schema | None) -> Shape:
    """What the schema says about the items of a list (or the values of an object) of this shape."""
    return _joined((schema.get("items", schema.get("additionalProperties")) for schema in shape), root)


def _joined(schemas: Iterator[JSON], root: Schema | None) -> Shape:
    return tuple(one for schema in schemas for one in expand(schema, root or {}))


def may_lack(shape: Shape, name: str) -> bool:
    """Whether the schema declares the field `name` and does not require it."""
    declaring = [schema for schema in shape if name in schema.get("properties", {})]
    return bool(declaring) and not any(name in schema.get("required", ()) for schema in shape)


def dotted(path: Sequence[str | int]) -> str:
    """A path in an input for a message: `items.0.name`."""
    return ".".join(str(part) for part in path)


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "..."
