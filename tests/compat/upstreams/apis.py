"""Which APIs each provider has: where they are found, how they are opened, how their requests are checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import seen, shape
from .seen import Seen

Check = Callable[[dict[str, Any]], list[str]]


@dataclass(frozen=True)
class Api:
    """One operation. `dialect` is also the folder of its replies; `fixture` the one that it always gives."""

    dialect: str
    path: str
    check: Check
    key: tuple[str, str] = ("authorization", "Bearer upstream-key")
    fixture: str = ""
    overloaded: int = 503
    bad_key: int = 401


def _gemini(method: str, check: Check, fixture: str = "") -> Api:
    path = rf"/v1(beta)?/models/(?P<model>[^/:]+):{method}"
    return Api("gemini", path, check, ("x-goog-api-key", "upstream-key"), fixture, bad_key=400)


def _anthropic(path: str, check: Check, fixture: str = "") -> Api:
    return Api("anthropic", path, check, ("x-api-key", "upstream-key"), fixture, overloaded=529)


_CHAT = "/v1/chat/completions"
_RESPONSES = Api("openai-responses", "/v1/responses", shape.responses_problems)
_COUNT = Api(
    "openai-responses", "/v1/responses/input_tokens", shape.responses_count_problems, fixture="count"
)

APIS: dict[str, tuple[Api, ...]] = {
    "openai": (
        Api("openai", _CHAT, shape.chat_problems),
        _RESPONSES,
        _COUNT,
        Api("openai", "/v1/embeddings", shape.embedding_problems, fixture="embeddings"),
    ),
    "openai-responses": (_RESPONSES, _COUNT),
    "compatible": (
        Api("compatible", _CHAT, shape.compatible_problems),
        Api("compatible", "/v1/embeddings", shape.embedding_problems, fixture="embeddings"),
    ),
    "anthropic": (
        _anthropic("/v1/messages", shape.anthropic_problems),
        _anthropic("/v1/messages/count_tokens", shape.anthropic_count_problems, "count"),
    ),
    "gemini": (
        _gemini("(stream)?[gG]enerateContent", shape.gemini_problems),
        _gemini("countTokens", shape.gemini_count_problems, "count"),
        _gemini("batchEmbedContents", shape.gemini_embedding_problems, "embeddings"),
        _gemini("embedContent", shape.gemini_embedding_problems, "embedding"),
    ),
}
PROVIDERS = tuple(APIS)

_READERS: dict[str, Callable[[dict[str, Any]], Seen]] = {
    "openai": seen.chat,
    "compatible": seen.chat,
    "openai-responses": seen.responses,
    "anthropic": seen.anthropic,
    "gemini": seen.gemini,
}


def found(provider: str, path: str) -> tuple[Api, str] | None:
    """The operation at a path, and the model that the path names."""
    for api in APIS[provider]:
        if match := re.fullmatch(api.path, path):
            return api, match.groupdict().get("model") or ""
    return None


def read(dialect: str, body: dict[str, Any]) -> Seen:
    return _READERS[dialect](body)
