"""A whole reply of generateContent or countTokens as a canonical Response, and what its parts mean.

Streams live in .stream. Wrong types are a BadResponse. Parts that only this API knows are Opaque, pictures
too: a reply's picture has no other place in a stream. What a reply says beside its parts is kept in its Extra
as it came: the fields of a candidate (groundingMetadata, citationMetadata, safetyRatings, finishMessage ...)
stand in the candidate's place in the list `candidates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from assay.errors import BadResponse
from assay.providers.gemini.errors import error_in_reply
from assay.providers.gemini.vocabulary import (
    DIALECT,
    WireLogprobs,
    WireUsage,
    blocked,
    bytes_of,
    finish_from,
    logprobs_from,
    made_up_id,
    usage_from,
)
from assay.providers.refusal import bad_response
from assay.types import (
    Audio,
    Choice,
    Extra,
    Inline,
    Message,
    Opaque,
    Reasoning,
    Request,
    Response,
    Text,
    ToolCall,
    Usage,
)

ReplyPart = Text | Reasoning | ToolCall | Audio | Opaque


class WireFunctionCall(msgspec.Struct, rename="camel"):
    name: str | None = None
    id: str | None = None
    args: dict[str, Any] | None = None
    partial_args: Any = None
    will_continue: bool | None = None


class WireBlob(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""


class WirePart(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: WireFunctionCall | None = None
    inline_data: WireBlob | None = None


class WireContent(msgspec.Struct):
    parts: list[msgspec.Raw] | None = None


class WireCandidate(msgspec.Struct, rename="camel"):
    content: WireContent | None = None
    index: int | None = None
    finish_reason: str | None = None
    logprobs_result: WireLogprobs | None = None
    finish_message: Any = None
    safety_ratings: Any = None
    citation_metadata: Any = None
    grounding_metadata: Any = None
    url_context_metadata: Any = None
    avg_logprobs: Any = None
    token_count: Any = None
    continuation_token: Any = None


class WireReply(msgspec.Struct, rename="camel"):
    candidates: list[WireCandidate] | None = None
    prompt_feedback: dict[str, Any] | None = None
    usage_metadata: WireUsage | None = None
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None
    model_status: Any = None
    error: Any = None


class WireCount(msgspec.Struct, rename="camel"):
    total_tokens: int | None = None
    error: Any = None


_REPLY = msgspec.json.Decoder(WireReply).decode
_COUNT = msgspec.json.Decoder(WireCount).decode
_PART = msgspec.json.Decoder(WirePart).decode
_ANY = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder().encode

_ASIDE = tuple(
    (name, wire)
    for name, wire in zip(
        WireCandidate.__struct_fields__, WireCandidate.__struct_encode_fields__, strict=True
    )
    if name not in {"content", "index", "finish_reason", "logprobs_result"}
)
_UNSAID = {"thought", "thoughtSignature"}


def decode_reply(request: Request, body: bytes) -> Response:
    """Raises BadResponse when the body is no reply of generateContent, or the error that it is instead."""
    try:
        reply = _REPLY(body)
        if reply.error:
            raise error_in_reply({"error": reply.error})
        choices = _choices(reply)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that is not one of generateContent", body, error) from error
    if not choices:
        raise bad_response("a reply without candidates", body)
    told = {"promptFeedback": reply.prompt_feedback, "modelStatus": reply.model_status}
    asides = [aside(candidate) for candidate in _in_order(reply)]
    return Response(
        reply.response_id or "",
        reply.model_version or request.model,
        choices,
        usage=usage_from(reply.usage_metadata),
        created_s=seconds(reply.create_time),
        extra=extra_of(told, asides, reply.usage_metadata),
    )


def decode_count(request: Request, body: bytes) -> Response:
    """Raises BadResponse when the body does not count, or the error that it is instead."""
    try:
        reply = _COUNT(body)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that is not one of countTokens", body, error) from error
    if reply.error:
        raise error_in_reply({"error": reply.error})
    if reply.total_tokens is None or reply.total_tokens < 0:
        raise bad_response("a count of tokens that is none", body)
    return Response("", request.model, (), usage=Usage(input=reply.total_tokens))


def _choices(reply: WireReply) -> tuple[Choice, ...]:
    if not reply.candidates:
        finish = blocked(reply.prompt_feedback)
        return () if finish is None else (Choice(Message("assistant", ()), finish),)
    reply_id = reply.response_id or ""
    return tuple(_choice(candidate, place, reply_id) for place, candidate in enumerate(_in_order(reply)))


def _in_order(reply: WireReply) -> list[WireCandidate]:
    return sorted(reply.candidates or (), key=lambda candidate: candidate.index or 0)


def _choice(candidate: WireCandidate, place: int, reply_id: str) -> Choice:
    if not candidate.finish_reason:
        raise ValueError(f"candidate {place} has no finishReason")
    parts: list[ReplyPart] = []
    calls = 0
    for raw in parts_of(candidate):
        part = part_from(raw, made_up_id(reply_id, place, calls))
        if part is None:
            continue
        calls += isinstance(part, ToolCall)
        parts.append(part)
    finish = finish_from(candidate.finish_reason, called=calls > 0)
    return Choice(Message("assistant", tuple(parts)), finish, logprobs_from(candidate.logprobs_result))


# --- shared with the stream ----------------------------------------------------------------------


def parts_of(candidate: WireCandidate) -> Sequence[msgspec.Raw]:
    content = candidate.content
    return () if content is None or content.parts is None else content.parts


def part_from(raw: msgspec.Raw, call_id: str) -> ReplyPart | None:
    """The part in canonical words; `call_id` is for a call that has none. None for one that is empty.

    Raises ValueError for one that is not what the API allows.
    """
    part = _PART(raw)
    if (call := part.function_call) is not None:
        if call.partial_args is not None or call.will_continue is not None or not (call.name or call.args):
            # Arguments in pieces, which only a caller of this dialect can have asked for.
            return Opaque(DIALECT, _ANY(raw))
        if not call.name:
            raise ValueError("a function call has no name")
        arguments = _ENCODE(call.args or {}).decode()
        return ToolCall(call.id or call_id, call.name, arguments, signature=part.thought_signature)
    if (blob := part.inline_data) is not None:
        if not part.thought and blob.mime_type.startswith("audio/"):
            return Audio(Inline(blob.mime_type, bytes_of(blob.data)))
        return Opaque(DIALECT, _ANY(raw))
    text = part.text
    if text is None:
        fields = _ANY(raw)
        if any(name not in _UNSAID and value is not None for name, value in fields.items()):
            return Opaque(DIALECT, fields)
        text = ""
    if not text and part.thought_signature is None:
        return None
    if part.thought:
        return Reasoning(text, signature=part.thought_signature)
    return Text(text, signature=part.thought_signature)


def aside(candidate: WireCandidate) -> dict[str, Any]:
    """What a candidate says beside its parts."""
    return {wire: value for name, wire in _ASIDE if (value := getattr(candidate, name)) is not None}


def extra_of(
    fields: dict[str, Any], asides: Sequence[dict[str, Any]], usage: WireUsage | None
) -> Extra | None:
    """What a reply says beside its candidates' parts, in the places that it has on the wire."""
    found = {name: value for name, value in fields.items() if value is not None}
    if any(asides):
        found["candidates"] = list(asides)
    if usage is not None:
        tier = {"trafficType": usage.traffic_type, "serviceTier": usage.service_tier}
        if told := {name: value for name, value in tier.items() if value is not None}:
            found["usageMetadata"] = told
    return Extra(DIALECT, found) if found else None


def seconds(timestamp: str | None) -> int:
    """Seconds since 1970; 0 where the reply does not say, or not so that it can be read."""
    try:
        return int(datetime.fromisoformat(timestamp or "").timestamp())
    except (ValueError, OverflowError):
        return 0


def cut_off(what: str) -> BadResponse:
    return BadResponse(
        f"The upstream's stream ended before {what}; the answer is cut off", upstream_status=200
    )
