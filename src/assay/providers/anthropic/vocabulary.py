"""What Anthropic's requests and replies share: stop reasons, usage, ids, whose signature, which Claude.

What a request or a reply looks like lives beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2s
from typing import Any

import msgspec

from assay.types import Finish, FinishReason, Usage

DIALECT = "anthropic"
"""The name on every Extra and Opaque that this API alone knows."""

VERSION = "2023-06-01"
"""The API version of a call whose caller names none: the last one that takes a temperature."""

_CITATIONS = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "web_search_result_location",
        "search_result_location",
    }
)


def is_citation(annotation: object) -> bool:
    """Whether an annotation is this API's own."""
    kind = annotation.get("type") if isinstance(annotation, dict) else None
    return isinstance(kind, str) and kind in _CITATIONS


# --- stop reasons --------------------------------------------------------------------------------

_FROM_WIRE: dict[str, FinishReason] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "compaction": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_exceeded",
}


def finish_from(raw: str, stop_sequence: str | None) -> Finish:
    """The canonical reason for the wire's word; a word that nobody knows is `other`."""
    return Finish(_FROM_WIRE.get(raw, "other"), raw, stop_sequence)


# --- usage ---------------------------------------------------------------------------------------


class WireCacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class WireOutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class WireCounts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: WireCacheCreation | None = None
    output_tokens_details: WireOutputDetails | None = None


class WireIteration(WireCounts):
    type: str = ""


class WireUsage(WireCounts):
    iterations: list[WireIteration] | None = None


class Tally:
    """The usage of one reply as it is told, perhaps several times: the last word on each number counts.

    The numbers of a stream are totals so far, never increments; a number that is left out keeps what it was.
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told = WireUsage()

    def tell(self, wire: WireUsage | None) -> None:
        if wire is None:
            return
        for name in WireUsage.__struct_fields__:
            if (value := getattr(wire, name)) is not None:
                setattr(self._told, name, value)

    def usage(self) -> Usage | None:
        """In disjoint classes, each at least 0. A compaction is paid for beside the numbers at the top."""
        told = self._told
        if told.input_tokens is None and told.output_tokens is None:
            return None
        usage = _usage(told)
        for iteration in told.iterations or ():
            if iteration.type == "compaction":
                usage = _sum(usage, _usage(iteration))
        return usage


def _usage(wire: WireCounts) -> Usage:
    """`input_tokens` has no cached token in it; `output_tokens` has the thinking."""
    by_age = wire.cache_creation or WireCacheCreation()
    short, long = _count(by_age.ephemeral_5m_input_tokens), _count(by_age.ephemeral_1h_input_tokens)
    written = wire.cache_creation_input_tokens
    written = short + long if written is None else _count(written)
    long = min(long, written)
    output = _count(wire.output_tokens)
    details = wire.output_tokens_details or WireOutputDetails()
    reasoning = min(_count(details.thinking_tokens), output)
    return Usage(
        input=_count(wire.input_tokens),
        cache_read=_count(wire.cache_read_input_tokens),
        cache_write=written - long,
        cache_write_1h=long,
        output=output - reasoning,
        reasoning=reasoning,
    )


def _count(value: int | None) -> int:
    return max(value or 0, 0)


def _sum(one: Usage, other: Usage) -> Usage:
    names = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in names})


# --- what this API alone tells of a reply --------------------------------------------------------

_COUNTED = frozenset(WireCounts.__struct_fields__)


def unread(fields: Mapping[str, msgspec.Raw], known: frozenset[str]) -> dict[str, Any]:
    """The fields that have no canonical place, without nulls; those of `usage` under that name."""
    rest = {name: msgspec.json.decode(fields[name]) for name in fields if name not in known}
    usage = rest.pop("usage", None)
    if isinstance(usage, dict):
        usage = {name: value for name, value in usage.items() if name not in _COUNTED and value is not None}
        rest["usage"] = usage or None
    return {name: value for name, value in rest.items() if value is not None}


# --- ids -----------------------------------------------------------------------------------------

_CLEAN = re.compile(r"[a-zA-Z0-9_-]+")
_UNCLEAN = re.compile(r"[^a-zA-Z0-9_-]")


def tool_id(canonical: str) -> str:
    """The id as the API takes it: the same for a call and its result, and different for different ids.

    >>> tool_id("toolu_01A"), tool_id("functions.weather:0")
    ('toolu_01A', 'functions_weather_0_be9a645c')
    """
    if _CLEAN.fullmatch(canonical):
        return canonical
    mark = blake2s(canonical.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{_UNCLEAN.sub('_', canonical)}_{mark}"


def made_up_id(reply_id: str, number: int) -> str:
    """An id for a tool call that came without one: the same for the same reply, streamed or not."""
    return f"toolu_{reply_id}_{number}" if reply_id else f"toolu_{number}"


# --- which Claude --------------------------------------------------------------------------------

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2})(?!\d))?")
_NEWEST = (99, 0)


def generation(model: str) -> tuple[int, int]:
    """Claude's version by the model's name: what is missing is the newest, what is no Claude is (0, 0).

    >>> generation("claude-3-7-sonnet-20250219"), generation("claude-opus-4-20250514")
    ((3, 7), (4, 0))
    >>> generation("anthropic/claude-sonnet-4.5"), generation("glm-5")
    ((4, 5), (0, 0))
    """
    lower = model.lower()
    if found := _VERSION.search(lower):
        return int(found.group(1)), int(found.group(2) or 0)
    return _NEWEST if "claude" in lower else (0, 0)


def takes_system_turns(model: str) -> bool:
    """Whether the model takes a system message in the midst of a conversation (Opus 4.8 and later do)."""
    version = generation(model)
    return version >= (4, 8) and not (version == (5, 0) and "sonnet" in model.lower())


def takes_sampling(model: str) -> bool:
    """Whether the model takes temperature, `top_p` and `top_k` (Opus 4.7 and later refuse them all)."""
    return generation(model) < (4, 7)


def takes_one_of_temperature_and_top_p(model: str) -> bool:
    """Whether the model refuses to be given both (Opus 4.1 and later do)."""
    return generation(model) >= (4, 1)


def thinks_by_budget(model: str) -> bool:
    """Whether the model takes a budget of thinking tokens (later ones decide by effort)."""
    return generation(model) <= (4, 6)


def thinks_by_effort(model: str) -> bool:
    """Whether the model takes adaptive thinking and an effort."""
    return generation(model) >= (4, 6)
