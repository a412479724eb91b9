"""Embeddings towards an upstream, by OpenAI's API. The callers' side: assay.server.openai_embeddings."""

from __future__ import annotations

from array import array
from base64 import b64decode
from typing import Any

import msgspec

from assay.errors import UnsupportedFeature
from assay.providers.openai_chat.errors import error_in_stream
from assay.providers.openai_chat.vocabulary import DIALECT, WireUsage, usage_from
from assay.providers.refusal import bad_response
from assay.providers.translation import Drops
from assay.types import JSON, Message, Opaque, Request, Response, Text


class WireVector(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class WireVectors(msgspec.Struct):
    data: list[WireVector] | None = None
    model: str | None = None
    usage: WireUsage | None = None
    error: Any = None


_REPLY = msgspec.json.Decoder(WireVectors)


def encode_inputs(request: Request) -> tuple[dict[str, JSON], tuple[str, ...]]:
    """The body, and what is left out. Raises UnsupportedFeature for an input that is not text."""
    drops = Drops(DIALECT, "OpenAI's embeddings")
    body: dict[str, JSON] = {
        "model": request.model,
        "input": [_input(message, number) for number, message in enumerate(request.messages)],
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.user is not None:
        body["user"] = request.user
    drops.take(body, request.extra, "")
    return body, drops.paths


def _input(message: Message, number: int) -> JSON:
    match message.parts:
        case [Opaque(dialect="openai", body=tokens)]:
            return tokens
        case parts if parts and all(isinstance(part, Text) for part in parts):
            return message.text
        case _:
            raise UnsupportedFeature(
                f"Input {number} is not text, and OpenAI's embeddings take nothing else; leave it out or "
                "choose another model",
                param=f"input[{number}]",
            )


def decode_vectors(request: Request, body: bytes) -> Response:
    """Raises BadResponse unless there is a vector for each input, each as long as the others."""
    try:
        reply = _REPLY.decode(body)
        if reply.error:
            raise error_in_stream({"error": reply.error})
        found = reply.data or []
        if any(item.index is not None for item in found):
            found = sorted(found, key=lambda item: item.index or 0)
        vectors = tuple(_vector(item.embedding) for item in found)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that holds no embeddings", body, error) from error
    if len(vectors) != len(request.messages):
        raise bad_response(f"{len(vectors)} embeddings for {len(request.messages)} inputs", body)
    if len({len(vector) for vector in vectors}) > 1:
        raise bad_response("embeddings of different lengths", body)
    return Response("", reply.model or "", (), usage=usage_from(reply.usage), vectors=vectors)


def _vector(given: list[float] | str) -> tuple[float, ...]:
    """Numbers, or base64 of little-endian 32-bit ones."""
    if isinstance(given, list):
        return tuple(given)
    numbers = array("f", b64decode(given, validate=True))
    if array("H", [1]).tobytes() == b"\x00\x01":
        numbers.byteswap()
    return tuple(numbers)
