"""Embeddings by Gemini's API: batchEmbedContents, and the reply of embedContent to its own callers."""

from __future__ import annotations

from typing import Any

import msgspec

from assay.errors import RequestError
from assay.providers.gemini.content import Body, input_parts, take
from assay.providers.gemini.errors import error_in_reply
from assay.providers.gemini.vocabulary import API, DIALECT, WireUsage, resource, usage_from
from assay.providers.refusal import bad_response
from assay.providers.translation import Drops
from assay.types import Request, Response


class WireVector(msgspec.Struct):
    values: list[float] | None = None


class WireVectors(msgspec.Struct, rename="camel"):
    embeddings: list[WireVector] | None = None
    embedding: WireVector | None = None
    usage_metadata: WireUsage | None = None
    error: Any = None


_REPLY = msgspec.json.Decoder(WireVectors).decode


def encode_inputs(request: Request) -> tuple[Body, tuple[str, ...]]:
    """The body of batchEmbedContents, and what is left out.

    The API's own fields (taskType, title) are said of each input.
    """
    if not request.messages:
        raise RequestError(f"{API} embeds at least one input; add one", param="input")
    drops = Drops(DIALECT, API)
    inputs: list[Body] = []
    for number, message in enumerate(request.messages):
        drops.enter(f"messages[{number}]")
        content = {"parts": input_parts(message, drops)}
        body: Body = {"model": resource(request.model), "content": content}
        if request.dimensions is not None:
            body["outputDimensionality"] = request.dimensions
        take(body, message.extra, "", drops)
        drops.enter("")
        take(body, request.extra, "", drops)
        inputs.append(body)
    if request.user is not None:
        drops.add("user")
    return {"requests": inputs}, drops.paths


def decode_vectors(request: Request, body: bytes) -> Response:
    """Raises BadResponse unless there is a vector for each input, each as long as the others."""
    try:
        reply = _REPLY(body)
        if reply.error:
            raise error_in_reply({"error": reply.error})
        found = reply.embeddings or ([reply.embedding] if reply.embedding is not None else [])
        vectors = tuple(tuple(vector.values or ()) for vector in found)
    except (ValueError, RecursionError) as error:
        raise bad_response("a reply that holds no embeddings", body, error) from error
    if len(vectors) != len(request.messages) or not all(vectors):
        count = sum(1 for vector in vectors if vector)
        raise bad_response(f"{count} embeddings for {len(request.messages)} inputs", body)
    if len({len(vector) for vector in vectors}) > 1:
        raise bad_response("embeddings of different lengths", body)
    return Response("", request.model, (), usage=usage_from(reply.usage_metadata), vectors=vectors)
