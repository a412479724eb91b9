"""A whole message, as Anthropic sent it, as a canonical Response. Streams live in .stream.

Wrong types are a BadResponse. Blocks of a type that has no canonical name are Opaque; fields that have none
are kept in `Response.extra`, those of `usage` under that name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assay.providers.anthropic.errors import error_in_stream
from assay.providers.anthropic.vocabulary import (
    DIALECT,
    Tally,
    WireUsage,
    finish_from,
    made_up_id,
    unread,
)
from assay.providers.refusal import bad_response
from assay.types import Choice, Extra, Message, Opaque, Part, Reasoning, Response, Text, ToolCall, Usage


class WireText(msgspec.Struct):
    text: str
    citations: list[Any] | None = None


class WireThinking(msgspec.Struct):
    thinking: str
    signature: str | None = None


class WireRedacted(msgspec.Struct):
    data: str


class WireToolUse(msgspec.Struct):
    name: str
    id: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")
    caller: Any = None
    toolset_name: str | None = None

    @property
    def arguments(self) -> str:
        """The input as it was written. Raises ValueError unless it is an object."""
        written = bytes(self.input).decode()
        if not written.startswith("{"):
            raise ValueError(f"the input of the tool call '{self.name}' is not an object")
        return written

    @property
    def extra(self) -> Extra | None:
        fields: dict[str, Any] = {}
        if isinstance(self.caller, dict) and self.caller.get("type") != "direct":
            fields["caller"] = self.caller
        if self.toolset_name is not None:
            fields["toolset_name"] = self.toolset_name
        return Extra(DIALECT, fields) if fields else None


class WireTyped(msgspec.Struct):
    type: str


WireBlock = WireText | WireThinking | WireRedacted | WireToolUse

_TYPE = msgspec.json.Decoder(WireTyped).decode
_BLOCKS: dict[str, Any] = {
    "text": msgspec.json.Decoder(WireText).decode,
    "thinking": msgspec.json.Decoder(WireThinking).decode,
    "redacted_thinking": msgspec.json.Decoder(WireRedacted).decode,
    "tool_use": msgspec.json.Decoder(WireToolUse).decode,
}


def read_block(raw: msgspec.Raw) -> WireBlock | dict[str, Any]:
    """The fields of a block that has a canonical name; all of any other. Raises ValueError."""
    decode = _BLOCKS.get(_TYPE(raw).type)
    found: WireBlock | dict[str, Any] = msgspec.json.decode(raw) if decode is None else decode(raw)
    return found


class WireMessage(msgspec.Struct):
    content: list[msgspec.Raw] | None = None
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: WireUsage | None = None
    error: Any = None


class WireCount(msgspec.Struct):
    input_tokens: int | None = None
    error: Any = None


MESSAGE = msgspec.json.Decoder(WireMessage).decode
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
KNOWN = frozenset({"type", "role", "id", "model", "content", "stop_reason", "stop_sequence", "error"})
_COUNT = msgspec.json.Decoder(WireCount).decode


def decode_reply(body: bytes) -> Response:
    """Raises BadResponse when the body is not a message, or the error that it is instead."""
    try:
        reply = MESSAGE(body)
        fields = FIELDS(body)
        reply_id = reply.id or ""
        parts = tuple(_part(raw, number, reply_id) for number, raw in enumerate(reply.content or ()))
        extra = unread(fields, KNOWN)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that is not a message", body, error) from error
    if reply.error:
        raise error_in_stream({"error": reply.error})
    if reply.content is None or not reply.stop_reason:
        missing = "content" if reply.content is None else "a stop_reason"
        raise bad_response(f"a message without {missing}", body)
    tally = Tally()
    tally.tell(reply.usage)
    finish = finish_from(reply.stop_reason, reply.stop_sequence)
    return Response(
        reply_id,
        reply.model or "",
        (Choice(Message("assistant", parts), finish),),
        usage=tally.usage(),
        extra=Extra(DIALECT, extra) if extra else None,
    )


def decode_count(model: str, body: bytes) -> Response:
    """How long a request is. Raises BadResponse when the body does not say it."""
    try:
        reply = _COUNT(body)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that counts no tokens", body, error) from error
    if reply.error:
        raise error_in_stream({"error": reply.error})
    if reply.input_tokens is None or reply.input_tokens < 0:
        raise bad_response("a reply that counts no tokens", body)
    return Response("", model, (), usage=Usage(input=reply.input_tokens))


def _part(raw: msgspec.Raw, number: int, reply_id: str) -> Part:
    block = read_block(raw)
    match block:
        case WireText():
            return Text(block.text, tuple(block.citations or ()))
        case WireThinking():
            return Reasoning(block.thinking, signature=block.signature or None)
        case WireRedacted():
            return Reasoning(encrypted=block.data)
        case WireToolUse():
            call_id = block.id or made_up_id(reply_id, number)
            return ToolCall(call_id, named(block), block.arguments, extra=block.extra)
        case _:
            return Opaque(DIALECT, block)


def named(block: WireToolUse) -> str:
    """Raises ValueError for a call of no tool."""
    if not block.name:
        raise ValueError("a tool call has no name")
    return block.name
