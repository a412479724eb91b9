"""A whole chat completion, as an upstream sent it, as a canonical Response. Streams live in .stream.

Wrong types are a BadResponse. Fields that this module does not know are kept in `Response.extra` at the top
level, and passed over further down.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any, Literal

import msgspec

from assay.providers.openai_chat.errors import error_in_stream
from assay.providers.openai_chat.vocabulary import (
    DIALECT,
    WireLogprobs,
    WireUsage,
    audio_type,
    finish_from,
    logprobs_from,
    usage_from,
)
from assay.providers.refusal import bad_response
from assay.types import (
    Audio,
    Choice,
    Extra,
    Inline,
    Message,
    Part,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
)


class WireFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class WireCustom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class GoogleContent(msgspec.Struct):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct):
    """Where Gemini's OpenAI-compatible API puts its signatures."""

    google: GoogleContent | None = None


class WireToolCall(msgspec.Struct):
    """A tool call, whole or (with `index`) in pieces."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: WireFunction | None = None
    custom: WireCustom | None = None
    extra_content: ExtraContent | None = None

    @property
    def signature(self) -> str | None:
        found = self.extra_content
        return None if found is None or found.google is None else found.google.thought_signature


class WireAudio(msgspec.Struct):
    id: str | None = None
    data: str | None = None
    expires_at: int | None = None
    transcript: str | None = None


class WireMessage(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    annotations: list[Any] | None = None
    audio: WireAudio | None = None
    tool_calls: list[WireToolCall] | None = None
    function_call: Any = None


class WireChoice(msgspec.Struct):
    message: WireMessage
    index: int | None = None
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None


class WireReply(msgspec.Struct):
    choices: list[WireChoice] | None = None
    id: str | None = None
    model: str | None = None
    created: int | float | None = None
    usage: WireUsage | None = None
    error: Any = None


_REPLY = msgspec.json.Decoder(WireReply)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = frozenset((*WireReply.__struct_fields__, "object"))


def decode_reply(body: bytes) -> Response:
    """Raises BadResponse when the body is not a chat completion, or the error that it is instead."""
    try:
        reply = _REPLY.decode(body)
        fields = _FIELDS.decode(body)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that is not a chat completion", body, error) from error
    if reply.error:
        raise error_in_stream({"error": reply.error})
    if not reply.choices:
        raise bad_response("a reply without choices", body)
    reply_id = reply.id or ""
    choices = sorted(reply.choices, key=lambda choice: choice.index or 0)
    try:
        decoded = tuple(_choice(choice, position, reply_id) for position, choice in enumerate(choices))
    except ValueError as error:
        raise bad_response("a reply that is not a chat completion", body, error) from error
    extra = {name: msgspec.json.decode(fields[name]) for name in fields if name not in _KNOWN}
    extra = {name: value for name, value in extra.items() if value is not None}
    return Response(
        reply_id,
        reply.model or "",
        decoded,
        usage=usage_from(reply.usage),
        created_s=int(reply.created or 0),
        extra=Extra(DIALECT, extra) if extra else None,
    )


def _choice(choice: WireChoice, position: int, reply_id: str) -> Choice:
    if not choice.finish_reason:
        raise ValueError(f"choice {position} has no finish_reason")
    message = Message("assistant", tuple(_parts(choice.message, position, reply_id)))
    logprobs = choice.logprobs or WireLogprobs()
    tokens = logprobs_from(logprobs.content or logprobs.refusal)
    return Choice(message, finish_from(choice.finish_reason), tokens)


def _parts(message: WireMessage, position: int, reply_id: str) -> list[Part]:
    """In the order that the API gives them meaning: thought, said, called."""
    if message.function_call is not None:
        raise ValueError("it uses function_call, which is deprecated and was not asked for")
    parts: list[Part] = []
    if reasoning := message.reasoning_content or message.reasoning:
        parts.append(Reasoning(reasoning))
    if message.content or message.annotations:
        parts.append(Text(message.content or "", tuple(message.annotations or ())))
    if message.refusal:
        parts.append(Refusal(message.refusal))
    if message.audio is not None:
        parts.append(_audio(message.audio))
    for number, call in enumerate(message.tool_calls or ()):
        parts.append(_tool_call(call, call.id or made_up_id(reply_id, position, number)))
    return parts


def _tool_call(call: WireToolCall, call_id: str) -> ToolCall:
    if call.custom is not None:
        name, arguments = call.custom.name, call.custom.input
    elif call.function is not None:
        name, arguments = call.function.name, call.function.arguments
    else:
        raise ValueError(f"the tool call {call_id} has no function")
    if not name:
        raise ValueError(f"the tool call {call_id} has no name")
    kind: Literal["function", "custom"] = "function" if call.custom is None else "custom"
    return ToolCall(call_id, name, arguments or "", kind, signature=call.signature)


def _audio(audio: WireAudio) -> Audio:
    data = decode_base64(audio.data) if audio.data else None
    return Audio(
        None if data is None else Inline(audio_type(data), data),
        transcript=audio.transcript or None,
        id=audio.id,
        expires_at_s=audio.expires_at,
    )


# --- shared with the stream ----------------------------------------------------------------------


def made_up_id(reply_id: str, choice: int, number: int) -> str:
    """An id for a tool call that came without one: the same for the same reply, streamed or not."""
    return f"call_{reply_id}_{choice}_{number}" if reply_id else f"call_{choice}_{number}"


def decode_base64(text: str) -> bytes:
    """Raises ValueError when it is not base64."""
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"sound that is not base64: {error}") from error
