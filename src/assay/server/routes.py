"""Which path leads to which call of which dialect, and in whose words a path's errors are told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal
from urllib.parse import parse_qs

from assay.errors import AssayError
from assay.server import anthropic, gemini, openai_chat, openai_embeddings, openai_responses
from assay.server.asgi import Scope, header
from assay.server.dialect import Dialect

_EXACT: Final[Mapping[str, Dialect]] = {
    "/v1/chat/completions": openai_chat.CHAT_COMPLETIONS,
    "/v1/responses": openai_responses.DIALECT,
    "/v1/responses/input_tokens": openai_responses.COUNT,
    "/v1/embeddings": openai_embeddings.EMBEDDINGS,
    "/v1/messages": anthropic.MESSAGES,
    "/v1/messages/count_tokens": anthropic.COUNT_TOKENS,
}
_OF_MODEL: Final[Mapping[str, Dialect]] = {
    "generateContent": gemini.GENERATE,
    "streamGenerateContent": gemini.STREAM_ARRAY,
    "embedContent": gemini.EMBED,
    "batchEmbedContents": gemini.BATCH_EMBED,
    "countTokens": gemini.COUNT_TOKENS,
}
_MODEL = re.compile(r"/v1(?:beta|alpha)?/models/(?P<model>.+):(?P<method>[A-Za-z]+)")

Family = Literal["openai", "anthropic", "gemini"]

ERRORS: Final[Mapping[Family, Callable[[AssayError], tuple[int, bytes]]]] = {
    "openai": openai_chat.encode_error,
    "anthropic": anthropic.MESSAGES.error,
    "gemini": gemini.encode_error,
}
"""How each family of SDKs wants its errors."""


def call(scope: Scope) -> tuple[Dialect, str] | None:
    """The call that a path names, and the model's name in it ("" where the body has it)."""
    path: str = scope["path"]
    exact = _EXACT.get(path)
    if exact is not None:
        return exact, ""
    found = _MODEL.fullmatch(path)
    dialect = _OF_MODEL.get(found["method"]) if found is not None else None
    if found is None or dialect is None:
        return None
    if dialect is gemini.STREAM_ARRAY and query(scope).get("alt") == "sse":
        dialect = gemini.STREAM_SSE
    return dialect, found["model"]


def family(scope: Scope) -> Family:
    """Whose SDK asks: by the path where it tells, else by the headers that each SDK sends."""
    path: str = scope["path"]
    if path.startswith(("/v1beta/", "/v1alpha/")) or _MODEL.fullmatch(path):
        return "gemini"
    if header(scope, b"x-goog-api-key") is not None or header(scope, b"x-goog-api-client") is not None:
        return "gemini"
    if path.startswith("/v1/messages") or header(scope, b"anthropic-version") is not None:
        return "anthropic"
    return "openai"


def page(scope: Scope) -> dict[str, str | int | None]:
    """Which page of a list of Anthropic's is wanted: see `anthropic.model_list`."""
    asked = query(scope)
    limit = asked.get("limit", "")
    return {
        "limit": whole_number(limit) or None,
        "after_id": asked.get("after_id"),
        "before_id": asked.get("before_id"),
    }


def whole_number(text: str) -> int:
    """0 for what is no number, or one that nobody means."""
    return int(text) if text.isdecimal() and len(text) <= 9 else 0


def query(scope: Scope) -> dict[str, str]:
    """The parameters behind the path; of one that is given twice, the last."""
    text = scope.get("query_string", b"").decode("latin-1")
    return {name: values[-1] for name, values in parse_qs(text).items()}
