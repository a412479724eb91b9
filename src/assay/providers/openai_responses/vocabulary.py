"""What both directions of the Responses API share: statuses, usage, log probabilities, ids, citations.

What a request or a reply looks like lives beside this file and in assay.server.openai_responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from assay.providers.openai_chat.vocabulary import (
    CompletionDetails,
    PromptDetails,
    WireLogprob,
    WireUsage,
    logprobs_from,
)
from assay.providers.openai_chat.vocabulary import usage_from as chat_usage
from assay.types import Finish, FinishReason, TokenLogprob, Usage

DIALECT: Final = "openai-responses"
"""The name on every Extra and Opaque that this API alone knows."""

# --- how a reply ended ---------------------------------------------------------------------------

_FROM_REASON: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_COMPLETED = frozenset[FinishReason]({"stop", "stop_sequence", "tool_calls"})
_FILTERED = frozenset[FinishReason]({"content_filter", "refusal"})


def finish_from(status: str, reason: str | None, *, called: bool) -> Finish:
    """`status` is completed or incomplete; `called` says that the reply asks for a tool."""
    if status == "completed":
        return Finish("tool_calls" if called else "stop", "completed")
    return Finish(_FROM_REASON.get(reason or "", "other"), reason or status)


def finish_to(finish: Finish, *, refused: bool = False) -> tuple[str, str | None]:
    """The status, and why it is incomplete.

    An answer that broke off must not look complete, whatever it was that broke it off: the API has a word for
    a filter, and `max_output_tokens` is what is left for the rest. A refusal in the model's own words
    (`refused`) is a complete answer.
    """
    if finish.reason in _COMPLETED or (finish.reason == "refusal" and refused):
        return "completed", None
    return "incomplete", "content_filter" if finish.reason in _FILTERED else "max_output_tokens"


# --- usage ---------------------------------------------------------------------------------------


class InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class ResponseUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


def usage_from(wire: ResponseUsage | None) -> Usage | None:
    """Tokens in disjoint classes: as in chat completions, the totals include the details."""
    if wire is None:
        return None
    told, made = wire.input_tokens_details or InputDetails(), wire.output_tokens_details or OutputDetails()
    return chat_usage(
        WireUsage(
            wire.input_tokens,
            wire.output_tokens,
            wire.total_tokens,
            PromptDetails(told.cached_tokens, told.cache_write_tokens),
            CompletionDetails(made.reasoning_tokens),
        )
    )


def usage_to(usage: Usage) -> dict[str, Any]:
    """OpenAI's `usage` object."""
    return {
        "input_tokens": usage.tokens_in,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read + usage.cache_read_audio,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        },
        "output_tokens": usage.tokens_out,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.tokens,
    }


# --- log probabilities ---------------------------------------------------------------------------


def tokens_from(wire: list[WireLogprob] | None) -> tuple[TokenLogprob, ...]:
    """Raises ValueError when a byte is not one."""
    return logprobs_from(wire)


def tokens_to(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """The API wants the bytes of every token: where nobody told them, those of its text."""
    return [{**_token(item), "top_logprobs": [_token(top) for top in item.top]} for item in logprobs]


def _token(item: TokenLogprob) -> dict[str, Any]:
    data = item.token.encode("utf-8", "replace") if item.data is None else item.data
    return {"token": item.token, "logprob": item.logprob, "bytes": list(data)}


# --- ids -----------------------------------------------------------------------------------------

CALL_ID_CHARS: Final = 64
"""The API refuses a longer `call_id`."""

MADE_UP_REASONING: Final = "rs_assay_"
"""Begins the id of a reasoning item that no Responses upstream has made: none can read what is in it."""


def call_id(given: str) -> str:
    """The same id, or one made of it where the API would refuse it: alike in a call and its result."""
    if 0 < len(given) <= CALL_ID_CHARS:
        return given
    return f"call_{blake2b(given.encode(), digest_size=20).hexdigest()}"


# --- citations -----------------------------------------------------------------------------------

_CITATIONS: dict[str, tuple[tuple[str, type], ...]] = {
    "file_citation": (("file_id", str), ("filename", str), ("index", int)),
    "url_citation": (("url", str), ("title", str), ("start_index", int), ("end_index", int)),
    "container_file_citation": (
        ("container_id", str),
        ("file_id", str),
        ("filename", str),
        ("start_index", int),
        ("end_index", int),
    ),
    "file_path": (("file_id", str), ("index", int)),
}


def citation(annotation: Any) -> dict[str, Any] | None:
    """The annotation as this API writes it; None for one of another API that it has no place for.

    >>> citation({"type": "url_citation", "url_citation": {"url": "u", "title": "t",
    ...           "start_index": 0, "end_index": 2}})
    {'type': 'url_citation', 'url': 'u', 'title': 't', 'start_index': 0, 'end_index': 2}
    """
    if not isinstance(annotation, dict):
        return None
    kind = annotation.get("type")
    inner = annotation.get(kind) if isinstance(kind, str) else None
    if isinstance(inner, dict):  # as chat completions write it
        annotation = {"type": kind, **inner}
    found: dict[str, Any] = annotation
    wanted = _CITATIONS.get(kind) if isinstance(kind, str) else None
    if wanted is None or not all(type(found.get(name)) is of for name, of in wanted):
        return None
    return found
