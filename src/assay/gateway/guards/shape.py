"""The outer shape of what is said: how long it is, and whether a reply keeps to a JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jsonschema_rs
import msgspec

from assay.errors import ConfigError
from assay.types import (
    JSON,
    Audio,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    SchemaOutput,
    Text,
    ToolCall,
    ToolResult,
    Value,
)


class Lengths(Value):
    """The most that may be said at once. Tokens are estimated: a fourth of the bytes of UTF-8."""

    chars: int | None = None
    tokens: int | None = None
    messages: int | None = None

    def objection(self, messages: Iterable[Message]) -> str | None:
        """What is too long, and by how much."""
        chars = size = count = 0
        for message in messages:
            count += 1
            for part in message.parts:
                for text in texts(part):
                    chars += len(text)
                    size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self.messages is not None and count > self.messages:
            return f"it has {count} messages, and {self.messages} are allowed"
        return self.too_long(chars, size)

    def too_long(self, chars: int, size: int) -> str | None:
        """What is too long of a text of so many characters and bytes."""
        if self.chars is not None and chars > self.chars:
            return f"it has more than the {self.chars} characters that are allowed"
        if self.tokens is not None and -(-size // 4) > self.tokens:
            return f"it has more than the {self.tokens} tokens (estimated) that are allowed"
        return None


def texts(part: Part) -> tuple[str, ...]:
    """What a part says, as text."""
    match part:
        case Text() | Refusal():
            return (part.text,)
        case Reasoning():
            return (part.text, *part.summary)
        case ToolCall():
            return (part.arguments,)
        case ToolResult():
            return tuple(text for inner in part.parts for text in texts(inner))
        case Audio(transcript=str(transcript)):
            return (transcript,)
        case Opaque():
            return (msgspec.json.encode(part.body).decode(),)
        case _:
            return ()


class Schema:
    """Whether the text of a reply is JSON that keeps to a schema: this one, else the one asked for.

    Replies that call a tool, and calls that ask for no schema where none is given, have nothing to keep to.
    Raises ConfigError for a schema that is none.
    """

    def __init__(self, schema: dict[str, Any] | None) -> None:
        self._validator = None if schema is None else _validator(schema)

    def objection(self, request: Request, reply: Response) -> str | None:
        validator = self._validator
        if validator is None:
            if not isinstance(request.output, SchemaOutput):
                return None
            try:
                validator = _validator(request.output.schema)
            except ConfigError as error:
                return error.message
        for choice in reply.choices:
            if any(isinstance(part, ToolCall) for part in choice.message.parts):
                continue
            if problem := _problem(validator, choice.message.text):
                return problem
        return None


def _validator(schema: dict[str, JSON]) -> Any:
    try:
        return jsonschema_rs.validator_for(schema, offline=True)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise ConfigError(f"The schema is not a JSON Schema: {str(error)[:300]}") from error


def _problem(validator: Any, text: str) -> str | None:
    """Where it breaks the schema; never what stands there."""
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    try:
        found = next(iter(validator.iter_errors(value)), None)
    except ValueError:
        return "it cannot be held against the schema"
    if found is None:
        return None
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in found.instance_path)
    rule = found.schema_path[-1] if found.schema_path else "schema"
    return f"it breaks the rule {rule!r} of its schema at ${place[:200]}"
