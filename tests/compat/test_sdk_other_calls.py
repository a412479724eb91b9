"""Tokens counted and texts embedded, by every SDK that can, through a real `assay up`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors, types

from .bed import Callers
from .drivers.base import SYSTEM, WEATHER_SCHEMA
from .upstreams.app import Upstreams

Count = Callable[[Callers, str], int]
Embed = Callable[[Callers, str, list[str]], list[list[float]]]
TEXTS = ["Grüße aus Köln", "☂"]
VECTORS = [[0.25, -0.5, 0.125], [0.0, 1.0, -0.75]]


def count_anthropic(callers: Callers, model: str) -> int:
    tools: Any = [{"name": "get_weather", "input_schema": WEATHER_SCHEMA}]
    messages: Any = [{"role": "user", "content": TEXTS[0]}]
    counted = callers.anthropic.messages.count_tokens(
        model=model, messages=messages, system=SYSTEM, tools=tools
    )
    return counted.input_tokens


def count_gemini(callers: Callers, model: str) -> int:
    return callers.google.models.count_tokens(model=model, contents=TEXTS[0]).total_tokens or 0


def count_responses(callers: Callers, model: str) -> int:
    return callers.openai.responses.input_tokens.count(model=model, input=TEXTS[0]).input_tokens


COUNTING: dict[str, Count] = {
    "anthropic": count_anthropic,
    "gemini": count_gemini,
    "responses": count_responses,
}


@pytest.mark.parametrize("client", COUNTING)
@pytest.mark.parametrize("upstream", ["openai", "openai-responses", "anthropic", "gemini"])
def test_tokens_are_counted_by_the_upstream(
    client: str, upstream: str, callers: Callers, upstreams: Upstreams
) -> None:
    upstreams.clear()
    assert COUNTING[client](callers, f"{upstream}.count") == 42
    assert "Köln" in str(upstreams.one().body)


@pytest.mark.parametrize("client", COUNTING)
def test_an_upstream_that_counts_nothing_is_told_to_the_caller(
    client: str, callers: Callers, upstreams: Upstreams
) -> None:
    upstreams.clear()
    with pytest.raises(
        (anthropic.BadRequestError, openai.BadRequestError, errors.ClientError), match="count"
    ):
        COUNTING[client](callers, "compatible.count")
    assert upstreams.taken() == []


def embed_openai(callers: Callers, model: str, texts: list[str]) -> list[list[float]]:
    reply = callers.openai.embeddings.create(model=model, input=texts, encoding_format="float")
    return [item.embedding for item in reply.data]


def embed_openai_packed(callers: Callers, model: str, texts: list[str]) -> list[list[float]]:
    """As the SDK asks when nobody tells it otherwise: base64, which it unpacks."""
    reply = callers.openai.embeddings.create(model=model, input=texts)
    return [item.embedding for item in reply.data]


def embed_gemini(callers: Callers, model: str, texts: list[str]) -> list[list[float]]:
    contents: Any = [types.Content(parts=[types.Part(text=text)]) for text in texts]
    reply = callers.google.models.embed_content(model=model, contents=contents)
    return [item.values or [] for item in reply.embeddings or ()]


EMBEDDING: dict[str, Embed] = {
    "openai": embed_openai,
    "openai-packed": embed_openai_packed,
    "gemini": embed_gemini,
}


@pytest.mark.parametrize("client", EMBEDDING)
@pytest.mark.parametrize("upstream", ["openai", "compatible", "gemini"])
def test_texts_are_embedded_in_their_order(
    client: str, upstream: str, callers: Callers, upstreams: Upstreams
) -> None:
    upstreams.clear()
    assert EMBEDDING[client](callers, f"{upstream}.embed", TEXTS) == VECTORS
    body = str(upstreams.one().body)
    assert body.index(TEXTS[0]) < body.index(TEXTS[1])


@pytest.mark.parametrize("client", EMBEDDING)
def test_an_upstream_without_embeddings_is_told_to_the_caller(
    client: str, callers: Callers, upstreams: Upstreams
) -> None:
    upstreams.clear()
    with pytest.raises((openai.BadRequestError, errors.ClientError), match="embeddings"):
        EMBEDDING[client](callers, "anthropic.embed", TEXTS)
    assert upstreams.taken() == []
