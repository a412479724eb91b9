"""What every translation between dialects shares: what is left out, what is refused, how much to reason.

How one API writes a thing lives in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assay.errors import RequestError, UnsupportedFeature
from assay.types import Extra, Thinking

HARMLESS = frozenset(
    {
        # how a call is kept, billed, cached and told apart
        "store", "metadata", "labels", "service_tier", "user_profile_id",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "prompt_cache_breakpoint",
        "cache_control", "safety_identifier", "include", "stream_options",
        # hints about a part, not its content
        "title", "detail", "id", "status", "phase", "mediaResolution", "videoMetadata", "caller",
        # hints about a tool or the answer's length
        "verbosity", "strict", "response", "behavior", "eager_input_streaming", "defer_loading",
        "allowed_callers", "input_examples", "responseJsonSchema",
        # what the provider does beside answering
        "context_management", "diagnostics", "speed", "safetySettings",
    }
)  # fmt: skip
"""Fields that one dialect alone knows and that may be left out: the answer does not depend on them."""


class Drops:
    """What one request's translation leaves out. `api` names the target in messages; paths come in order."""

    __slots__ = ("_api", "_at", "_dialect", "_paths")

    def __init__(self, dialect: str, api: str) -> None:
        self._dialect = dialect
        self._api = api
        self._at = ""
        self._paths: dict[str, None] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._paths)

    def enter(self, where: str) -> None:
        """From here on paths begin with `where`."""
        self._at = where

    def add(self, path: str) -> None:
        self._paths[self._at + path] = None

    def part(self, number: int, what: str) -> None:
        """`what` of the part with that number in the message that was entered."""
        self._paths[f"{self._at}.parts[{number}].{what}"] = None

    def take(self, body: dict[str, Any], extra: Extra | None, where: str) -> None:
        """Adds the target's own fields to `body`; leaves another dialect's out.

        Raises UnsupportedFeature for one on which the answer may depend.
        """
        if extra is None:
            return
        if extra.dialect == self._dialect:
            for name, value in extra.fields.items():
                body.setdefault(name, value)
            return
        place = self._at + where
        for name in extra.fields:
            path = f"{place}.{name}" if place else name
            if name not in HARMLESS:
                raise UnsupportedFeature(
                    f"{self._api} cannot carry '{path}', which is {extra.dialect}'s own; leave it out, "
                    f"or call a model that speaks {extra.dialect}",
                    param=path,
                )
            self._paths[path] = None


# --- JSON -----------------------------------------------------------------------------------------

_ENCODE = msgspec.json.Encoder().encode


def to_json(body: dict[str, Any]) -> bytes:
    """Raises RequestError for what is not JSON."""
    try:
        return _ENCODE(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"The request cannot be written as JSON ({error}); check its tools and metadata"
        ) from error


# --- the caller's own bytes -----------------------------------------------------------------------

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def with_model(body: bytes, model: str, extra: Mapping[str, msgspec.Raw] | None = None) -> bytes:
    """A JSON object with another `model`, and `extra` fields; the other fields keep their bytes and places.

    >>> with_model(b'{"model": "fast", "n": 1.0}', "gpt-5")
    b'{"model":"gpt-5","n":1.0}'
    """
    try:
        fields = _FIELDS(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is not a JSON object ({error})") from error
    fields["model"] = msgspec.Raw(_ENCODE(model))
    if extra:
        fields.update(extra)
    return _ENCODE(fields)


# --- how much to reason ---------------------------------------------------------------------------

_BUDGETS = {
    "none": 0,
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 65_536,
}


def effort(thinking: Thinking) -> tuple[str | None, bool]:
    """The word for how much to reason, and whether it says all that was asked.

    `medium` where it is only said that the model shall; the nearest word at or above a budget of tokens.
    """
    shown = thinking.summary is None and thinking.include_text is None
    if thinking.enabled is False:
        return "none", True
    if thinking.effort is not None:
        return thinking.effort, shown and thinking.budget_tokens is None
    if thinking.budget_tokens is None:
        return ("medium" if thinking.enabled else None), shown
    if thinking.budget_tokens == 0:
        return "none", True
    words = [word for word in ("low", "medium", "high") if _BUDGETS[word] >= thinking.budget_tokens]
    return (words[0] if words else "high"), False


def budget(thinking: Thinking) -> int | None:
    """Tokens to reason with: what was given, or what stands for the effort; None where nothing says."""
    if thinking.enabled is False:
        return 0
    if thinking.budget_tokens is not None:
        return thinking.budget_tokens
    return None if thinking.effort is None else _BUDGETS.get(thinking.effort)
