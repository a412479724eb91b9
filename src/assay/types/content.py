"""Messages and their parts: what was said. Requests and replies live in assay.types.calls and .events.

A part is one of a closed union; match on it and end with `assert_never`. What only one dialect knows
travels as `Opaque` (a whole part) or `Extra` (fields on a part or request), verbatim and with the
dialect's name on it, so that a translator can carry it, report it or refuse it, but never lose it.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, dataclass_transform

import msgspec

JSON: TypeAlias = Any
"""Anything that JSON can carry: None, bool, int, float, str, list, dict with string keys."""

Dialect: TypeAlias = Literal["openai", "openai-responses", "anthropic", "gemini", "local", "scripted"]
Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Value(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A frozen value: equal by content, without identity. Change one with `assay.types.replace`."""


class Extra(Value):
    """Fields that only `dialect` knows, verbatim."""

    dialect: str
    fields: dict[str, JSON]


class Inline(Value, tag="inline"):
    """Bytes that travel with the message (base64 on the wire)."""

    media_type: str
    data: bytes


class Link(Value, tag="link"):
    """A URL that the provider, never Assay, fetches."""

    url: str
    media_type: str | None = None


class Uploaded(Value, tag="uploaded"):
    """A file that was uploaded to the provider before, by the provider's id or URI."""

    file_id: str
    media_type: str | None = None


Source: TypeAlias = Inline | Link | Uploaded


class CacheMark(Value):
    """Ask the provider to cache the prefix that ends with this part, for `ttl` ("5m" or "1h")."""

    ttl: str = "5m"


class Text(Value, tag="text"):
    """Plain text. `annotations` are citations and the like, in the provider's own shape."""

    text: str
    annotations: tuple[JSON, ...] = ()
    signature: str | None = None
    cache: CacheMark | None = None
    extra: Extra | None = None


class Refusal(Value, tag="refusal"):
    """The model's own words when it declines, where the dialect keeps them apart from text."""

    text: str


class Image(Value, tag="image"):
    """A picture. `detail` is OpenAI's low/high/auto hint."""

    source: Source
    detail: str | None = None
    cache: CacheMark | None = None
    extra: Extra | None = None


class Audio(Value, tag="audio"):
    """Sound, said or heard; `id` refers to audio that the provider made earlier in the conversation."""

    source: Source | None = None
    transcript: str | None = None
    id: str | None = None
    expires_at_s: int | None = None
    cache: CacheMark | None = None
    extra: Extra | None = None


class File(Value, tag="file"):
    """A document (PDF, text, video, ...) given to the model."""

    source: Source
    name: str | None = None
    cache: CacheMark | None = None
    extra: Extra | None = None


class ToolCall(Value, tag="tool_call"):
    """The model asks for a tool. `arguments` is the text exactly as written, JSON for function tools."""

    id: str
    name: str
    arguments: str
    kind: Literal["function", "custom"] = "function"
    signature: str | None = None
    cache: CacheMark | None = None
    extra: Extra | None = None


class ToolResult(Value, tag="tool_result"):
    """What a tool gave back for the call `call_id`; `parts` are Text, Image, Audio, File or Opaque."""

    call_id: str
    parts: tuple[Part, ...]
    name: str | None = None
    is_error: bool = False
    cache: CacheMark | None = None
    extra: Extra | None = None


class Reasoning(Value, tag="reasoning"):
    """The model's thinking: readable `text` or `summary`, and what its provider needs to see again.

    `signature` vouches for `text`; `encrypted` stands in its place where the provider redacts it.
    """

    text: str = ""
    summary: tuple[str, ...] = ()
    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None
    extra: Extra | None = None


class Opaque(Value, tag="opaque"):
    """A part that only `dialect` knows (a hosted tool's call or result, executable code), verbatim."""

    dialect: str
    body: JSON


Part: TypeAlias = Text | Refusal | Image | Audio | File | ToolCall | ToolResult | Reasoning | Opaque


class Message(Value):
    """One turn. Tool results stand in a message of role `tool`, whatever the dialect does with them."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Extra | None = None

    @property
    def text(self) -> str:
        """The Text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def system(text: str) -> Message:
    return Message("system", (Text(text),))


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))
