"""What the parts of Gemini's API share: names, finish reasons, usage, log probabilities, bytes as text.

How a request or a reply looks lives beside this file.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from assay.types import Finish, FinishReason, TokenLogprob, Usage

DIALECT = "gemini"
"""The name on every Extra and Opaque that this API alone knows."""

API = "Gemini's API"
"""Its name in messages."""

# --- names ---------------------------------------------------------------------------------------


def resource(model: str) -> str:
    """The model as a resource of the API: a bare name is one of `models/`.

    >>> resource("gemini-2.5-flash"), resource("models/gemini-2.5-flash"), resource("tunedModels/mine")
    ('models/gemini-2.5-flash', 'models/gemini-2.5-flash', 'tunedModels/mine')
    """
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def path(model: str, method: str) -> str:
    """Where a method of the model is called.

    >>> path("models/a b:c", "countTokens")
    '/models/a%20b%3Ac:countTokens'
    """
    collection, _, name = resource(model).partition("/")
    return f"/{collection}/{quote(name, safe='')}:{method}"


def made_up_id(reply_id: str, candidate: int, number: int) -> str:
    """An id for a function call that came without one: the same for the same reply, streamed or not."""
    return f"call_{reply_id}_{candidate}_{number}" if reply_id else f"call_{candidate}_{number}"


# --- finish reasons ------------------------------------------------------------------------------

# CONTINUATION waits for a token that only this API's callers can send back: to all others the answer is cut.
_FROM_WIRE: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "MALFORMED_FUNCTION_CALL": "malformed_tool_call",
    "UNEXPECTED_TOOL_CALL": "malformed_tool_call",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
}


def finish_from(raw: str, *, called: bool) -> Finish:
    """The canonical reason; `called`: there is a function call, of which the API's STOP is silent."""
    reason = _FROM_WIRE.get(raw, "other")
    return Finish("tool_calls" if called and reason == "stop" else reason, raw)


def blocked(feedback: dict[str, Any] | None) -> Finish | None:
    """The finish of a reply whose prompt was blocked: it has no candidates, and is none the less whole."""
    reason = (feedback or {}).get("blockReason")
    return Finish("content_filter", reason) if isinstance(reason, str) and reason else None


# --- usage ---------------------------------------------------------------------------------------


class ModalityCount(msgspec.Struct, rename="camel"):
    modality: str | None = None
    token_count: int | None = None


class WireUsage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    thoughts_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[ModalityCount] | None = None
    cache_tokens_details: list[ModalityCount] | None = None
    candidates_tokens_details: list[ModalityCount] | None = None
    tool_use_prompt_tokens_details: list[ModalityCount] | None = None
    traffic_type: Any = None
    service_tier: Any = None

    def updated(self, newer: WireUsage) -> WireUsage:
        """Each count as it was told last: they grow in a stream, and an absent one clears nothing."""
        told = {name: getattr(newer, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(
            self, **{name: value for name, value in told.items() if value is not None}
        )


def usage_from(wire: WireUsage | None) -> Usage | None:
    """Tokens in disjoint classes, each at least 0. None when nothing was counted.

    The prompt's count holds the cached tokens; results of hosted tools and thoughts have counts of their own
    beside prompt and candidates. Where the total says that they are held in them all the same (some versions
    of the API did so), the total is believed; and what only the total knows is reasoning.
    """
    if wire is None:
        return None
    prompt, candidates = _count(wire.prompt_token_count), _count(wire.candidates_token_count)
    tools, thoughts = _count(wire.tool_use_prompt_token_count), _count(wire.thoughts_token_count)
    total = wire.total_token_count
    if wire.prompt_token_count is None and wire.candidates_token_count is None and total is None:
        return None
    apart = total != prompt + candidates + thoughts
    given = prompt + (tools if apart else 0)
    if thoughts <= candidates and total == given + candidates:
        candidates -= thoughts
    hidden = max((total or 0) - given - candidates - thoughts, 0)

    cached = min(_count(wire.cached_content_token_count), given)
    told = [
        *(wire.prompt_tokens_details or ()),
        *((wire.tool_use_prompt_tokens_details or ()) if apart else ()),
    ]
    cache_read_audio, cache_read = _take(_of("AUDIO", wire.cache_tokens_details), cached)
    heard = _of("AUDIO", told) - cache_read_audio
    seen = _of("IMAGE", told) - _of("IMAGE", wire.cache_tokens_details)
    input_audio, rest = _take(heard, given - cached)
    input_image, rest = _take(seen, rest)
    output_audio, output = _take(_of("AUDIO", wire.candidates_tokens_details), candidates)
    output_image, output = _take(_of("IMAGE", wire.candidates_tokens_details), output)
    return Usage(
        input=rest,
        input_audio=input_audio,
        input_image=input_image,
        cache_read=cache_read,
        cache_read_audio=cache_read_audio,
        output=output,
        reasoning=thoughts + hidden,
        output_audio=output_audio,
        output_image=output_image,
    )


def _count(told: int | None) -> int:
    return max(told or 0, 0)


def _of(modality: str, details: Iterable[ModalityCount] | None) -> int:
    return sum(_count(item.token_count) for item in details or () if item.modality == modality)


def _take(wanted: int, available: int) -> tuple[int, int]:
    """At most `available` of `wanted`, and what is left."""
    taken = min(max(wanted, 0), available)
    return taken, available - taken


# --- log probabilities ---------------------------------------------------------------------------


class WireToken(msgspec.Struct, rename="camel"):
    """The API leaves out what is 0 or empty."""

    token: str = ""
    log_probability: float = 0.0


class WireTop(msgspec.Struct):
    candidates: list[WireToken] | None = None


class WireLogprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[WireToken] | None = None
    top_candidates: list[WireTop] | None = None


def logprobs_from(wire: WireLogprobs | None) -> tuple[TokenLogprob, ...]:
    if wire is None or not wire.chosen_candidates:
        return ()
    tops = wire.top_candidates or []
    found = []
    for place, chosen in enumerate(wire.chosen_candidates):
        top = (tops[place].candidates or []) if place < len(tops) else []
        others = tuple(TokenLogprob(item.token, item.log_probability) for item in top)
        found.append(TokenLogprob(chosen.token, chosen.log_probability, top=others))
    return tuple(found)


# --- bytes ---------------------------------------------------------------------------------------


def base64_of(data: bytes) -> str:
    return b64encode(data).decode()


def bytes_of(text: str) -> bytes:
    """Base64 in either alphabet, padded or not, as protobuf's JSON has it. Raises ValueError for all else."""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"bytes that are not base64: {error}") from error


def is_signature(text: str) -> bool:
    """Whether the API could have made it: it takes bytes, and refuses a call for anything else."""
    try:
        return bool(bytes_of(text))
    except ValueError:
        return False
