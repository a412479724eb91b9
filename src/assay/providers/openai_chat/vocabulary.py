"""What both directions of chat completions share: finish reasons, usage, log probabilities, sound formats.

What a request or a reply looks like lives beside this file and in assay.server.openai_chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from assay.types import Finish, FinishReason, TokenLogprob, Usage

DIALECT = "openai"
"""The name on every Extra and Opaque that this API alone knows."""

DONE = "[DONE]"
"""What the last server-sent event of a stream says."""

# --- finish reasons ------------------------------------------------------------------------------

# The second half is not OpenAI's: other servers that speak its API say these.
_FROM_WIRE: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "eos": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "model_length": "length",
}

# OpenAI has no word for an answer that broke off for another reason. Of its words, `length` alone says
# that there is less than there should be, and a truncated answer must not look complete.
_TO_WIRE: dict[FinishReason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context_exceeded": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "length",
    "malformed_tool_call": "length",
    "other": "length",
}


def finish_from(raw: str) -> Finish:
    """The canonical reason for the wire's word; a word that nobody knows is `other`."""
    return Finish(_FROM_WIRE.get(raw, "other"), raw)


def finish_to(finish: Finish) -> str:
    """One of OpenAI's four current words."""
    return _TO_WIRE[finish.reason]


# --- usage ---------------------------------------------------------------------------------------


class PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None


def usage_from(wire: WireUsage | None) -> Usage | None:
    """Tokens in disjoint classes, each at least 0, which sum up to what the wire counts.

    OpenAI counts cached, audio and image tokens inside `prompt_tokens`, reasoning and audio inside
    `completion_tokens`. Some servers leave reasoning out of `completion_tokens` and show it in the total
    alone: what is missing there is reasoning.
    """
    if wire is None or (wire.prompt_tokens is None and wire.completion_tokens is None):
        return None
    prompt, completion = max(wire.prompt_tokens or 0, 0), max(wire.completion_tokens or 0, 0)
    hidden = max((wire.total_tokens or 0) - prompt - completion, 0)
    told = wire.prompt_tokens_details or PromptDetails()
    made = wire.completion_tokens_details or CompletionDetails()
    cache_read, rest = _take(told.cached_tokens, prompt)
    cache_write, rest = _take(told.cache_write_tokens, rest)
    input_audio, rest = _take(told.audio_tokens, rest)
    input_image, rest = _take(told.image_tokens, rest)
    reasoning, spoken = _take(max(made.reasoning_tokens or 0, hidden), completion + hidden)
    output_audio, output = _take(made.audio_tokens, spoken)
    return Usage(
        input=rest,
        input_audio=input_audio,
        input_image=input_image,
        cache_read=cache_read,
        cache_write=cache_write,
        output=output,
        reasoning=reasoning,
        output_audio=output_audio,
    )


def usage_to(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    prompt: dict[str, int] = {
        "cached_tokens": usage.cache_read + usage.cache_read_audio,
        "audio_tokens": usage.input_audio,
    }
    if written := usage.cache_write + usage.cache_write_1h:
        prompt["cache_write_tokens"] = written
    if usage.input_image:
        prompt["image_tokens"] = usage.input_image
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _take(wanted: int | None, available: int) -> tuple[int, int]:
    """At most `available` of `wanted`, and what is left."""
    taken = min(max(wanted or 0, 0), available)
    return taken, available - taken


# --- log probabilities ---------------------------------------------------------------------------


class WireTop(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class WireLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[WireTop] | None = None


class WireLogprobs(msgspec.Struct):
    content: list[WireLogprob] | None = None
    refusal: list[WireLogprob] | None = None


def logprobs_from(wire: list[WireLogprob] | None) -> tuple[TokenLogprob, ...]:
    """Raises ValueError when a byte is not one."""
    if not wire:
        return ()
    return tuple(
        TokenLogprob(
            item.token,
            item.logprob,
            None if item.bytes is None else bytes(item.bytes),
            tuple(
                TokenLogprob(top.token, top.logprob, None if top.bytes is None else bytes(top.bytes))
                for top in item.top_logprobs or ()
            ),
        )
        for item in wire
    )


def logprobs_to(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    return [{**_token_to(item), "top_logprobs": [_token_to(top) for top in item.top]} for item in logprobs]


def _token_to(item: TokenLogprob) -> dict[str, Any]:
    data = None if item.data is None else list(item.data)
    return {"token": item.token, "logprob": item.logprob, "bytes": data}


# --- sound ---------------------------------------------------------------------------------------

INPUT_AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
"""What a user message may carry: the wire's `format`, and its media type."""

STREAMED_AUDIO_TYPE = "audio/pcm"
"""Streamed sound is always raw 16-bit samples."""


def audio_type(data: bytes) -> str:
    """The media type of a reply's sound, by its first bytes: the reply does not say which format it is in."""
    for start, media_type in _AUDIO_STARTS:
        if data.startswith(start):
            return media_type
    return STREAMED_AUDIO_TYPE


_AUDIO_STARTS = (
    (b"RIFF", "audio/wav"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
)
