"""A whole response, as an upstream sent it, as a canonical Response. Streams live in .stream.

Wrong types are a BadResponse. The items of hosted tools are kept verbatim as Opaque, and so are calls of
functions in namespaces, which have no canonical name. What a response says about itself beyond the canonical
types is kept in `Response.extra`; what it repeats of the request is passed over.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from assay.errors import AssayError, BadResponse
from assay.providers.openai_chat.errors import error_in_stream
from assay.providers.openai_chat.reply import made_up_id
from assay.providers.openai_chat.vocabulary import WireLogprob
from assay.providers.openai_responses.vocabulary import (
    DIALECT,
    ResponseUsage,
    finish_from,
    tokens_from,
    usage_from,
)
from assay.providers.refusal import bad_response
from assay.types import (
    Choice,
    Extra,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)


class WirePart(msgspec.Struct):
    """A piece of a message or of reasoning, of any type."""

    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    logprobs: list[WireLogprob] | None = None


class WireItem(msgspec.Struct):
    """An item of the output, of any type: the fields that have a canonical name."""

    type: str
    id: str | None = None
    content: list[WirePart] | None = None
    summary: list[WirePart] | None = None
    encrypted_content: str | None = None
    phase: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    namespace: str | None = None
    caller: Any = None
    is_async: Any = msgspec.field(default=None, name="async")


class WireReason(msgspec.Struct):
    reason: str | None = None


class WireResponse(msgspec.Struct):
    output: list[msgspec.Raw] | None = None
    id: str | None = None
    model: str | None = None
    created_at: int | float | None = None
    status: str | None = None
    incomplete_details: WireReason | None = None
    usage: ResponseUsage | None = None
    error: Any = None


class WireCount(msgspec.Struct):
    input_tokens: int


_REPLY = msgspec.json.Decoder(WireResponse)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEM = msgspec.json.Decoder(WireItem)
_COUNT = msgspec.json.Decoder(WireCount)

TOLD = frozenset(
    {
        "access_programs",
        "image",
        "input_transformations",
        "moderation",
        "prompt_cache_diagnostics",
        "service_tier",
        "tool_usage",
    }
)
"""What a response says about how it was made: all that is kept of it in `Response.extra`."""


def decode_reply(body: bytes) -> Response:
    """Raises BadResponse when the body is not a finished response, or the error that it is instead."""
    try:
        reply = _REPLY.decode(body)
        check(reply)
        parts: list[Part] = []
        tokens: list[TokenLogprob] = []
        called = False
        for number, raw in enumerate(reply.output or ()):
            item = _ITEM.decode(raw)
            called = called or is_call(item)
            parts.extend(_parts(item, raw, made_up_id(reply.id or "", 0, number), tokens))
        extra = told(body)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that is not a response", body, error) from error
    finish = finish_from(reply.status or "", _reason(reply), called=called)
    return Response(
        reply.id or "",
        reply.model or "",
        (Choice(Message("assistant", tuple(parts)), finish, tuple(tokens)),),
        usage=usage_from(reply.usage),
        created_s=int(reply.created_at or 0),
        extra=extra,
    )


def decode_count(request: Request, body: bytes) -> Response:
    """The number of tokens that `request` has."""
    try:
        count = _COUNT.decode(body)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that is not a count of tokens", body, error) from error
    return Response("", request.model, (), usage=Usage(input=max(count.input_tokens, 0)))


def _parts(item: WireItem, raw: msgspec.Raw, spare_id: str, tokens: list[TokenLogprob]) -> list[Part]:
    match kind_of(item):
        case "message":
            return [part for piece in item.content or () if (part := _said(piece, item.phase, tokens))]
        case "reasoning":
            summary = tuple(piece.text or "" for piece in item.summary or ())
            text = "\n\n".join(piece.text or "" for piece in item.content or ())
            return [Reasoning(text, summary, encrypted=item.encrypted_content, id=item.id)]
        case "function" | "custom" as kind:
            name, arguments = call_words(item, kind)
            return [ToolCall(item.call_id or spare_id, name, arguments, kind)]
        case "opaque":
            return [Opaque(DIALECT, msgspec.json.decode(raw))]


def _said(piece: WirePart, phase: str | None, tokens: list[TokenLogprob]) -> Part | None:
    if piece.type == "refusal":
        return Refusal(piece.refusal or "") if piece.refusal else None
    if piece.type != "output_text":
        raise ValueError(f"a message holds a part of type {piece.type!r}")
    tokens.extend(tokens_from(piece.logprobs))
    if not piece.text and not piece.annotations:
        return None
    extra = None if phase is None else Extra(DIALECT, {"phase": phase})
    return Text(piece.text or "", tuple(piece.annotations or ()), extra=extra)


# --- shared with the stream ----------------------------------------------------------------------

Kind = Literal["message", "reasoning", "function", "custom", "opaque"]


def kind_of(item: WireItem) -> Kind:
    """What an item is in canonical words; `opaque` for all that only this API knows."""
    match item.type:
        case "message":
            return "message"
        case "reasoning":
            return "reasoning"
        case "function_call" if not _special(item):
            return "function"
        case "custom_tool_call" if not _special(item):
            return "custom"
        case _:
            return "opaque"


def is_call(item: WireItem) -> bool:
    """Whether the caller has to run something for the model to go on."""
    return item.type in {"function_call", "custom_tool_call"}


def _special(item: WireItem) -> bool:
    """Whether a call is more than a name and arguments: only this API can answer it."""
    direct = item.caller is None or (isinstance(item.caller, dict) and item.caller.get("type") == "direct")
    return item.namespace is not None or bool(item.is_async) or not direct


def call_words(item: WireItem, kind: Literal["function", "custom"]) -> tuple[str, str]:
    """Name and arguments. Raises ValueError for a call without a name."""
    if not item.name:
        raise ValueError(f"the tool call {item.call_id or item.id} has no name")
    return item.name, (item.arguments if kind == "function" else item.input) or ""


def decode_item(raw: msgspec.Raw) -> WireItem:
    return _ITEM.decode(raw)


def told(response: bytes | msgspec.Raw) -> Extra | None:
    fields = _FIELDS.decode(response)
    found = {name: msgspec.json.decode(fields[name]) for name in fields if name in TOLD}
    found = {name: value for name, value in found.items() if value is not None}
    return Extra(DIALECT, found) if found else None


def check(reply: WireResponse) -> None:
    """Raises the error that a response carries, or BadResponse where it is not finished."""
    if reply.error or reply.status == "failed":
        raise failure(reply.error or {"message": "the response failed"})
    if reply.status not in {"completed", "incomplete"}:
        raise BadResponse(
            f"The upstream sent a response whose status is {reply.status!r}, not a finished one",
            upstream_status=200,
        )


def _reason(reply: WireResponse) -> str | None:
    return reply.incomplete_details.reason if reply.incomplete_details else None


_THE_CALLERS = frozenset(
    {"invalid_prompt", "bio_policy", "misalignment_policy_violation", "context_length_exceeded"}
)
_RETRYABLE = frozenset({"server_error", "vector_store_timeout", "failed_to_download_image"})


def failure(detail: Any) -> AssayError:
    """The typed error for the `error` of a response, or of an event."""
    if isinstance(detail, dict) and isinstance(detail.get("error"), dict):
        detail = detail["error"]
    if isinstance(detail, dict):
        code = str(detail.get("code") or "")
        blamed = code in _THE_CALLERS or ("image" in code and code not in _RETRYABLE)
        if blamed and not str(detail.get("type") or "").endswith("_error"):
            detail = {**detail, "type": "invalid_request_error"}
        elif detail.get("type") == "error":  # the event's own type
            detail = {name: value for name, value in detail.items() if name != "type"}
    return error_in_stream({"error": detail})
