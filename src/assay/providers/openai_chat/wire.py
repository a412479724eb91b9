"""The WireFormat of OpenAI's chat completions, put together from the pure functions beside it. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from assay.errors import AssayError, UnsupportedFeature
from assay.providers.base import Encoded
from assay.providers.openai_chat.embeddings import decode_vectors, encode_inputs
from assay.providers.openai_chat.errors import error_of_reply
from assay.providers.openai_chat.reply import decode_reply
from assay.providers.openai_chat.request import encode_request
from assay.providers.openai_chat.stream import ChatStream
from assay.providers.openai_chat.vocabulary import DIALECT
from assay.providers.translation import to_json, with_model
from assay.types import Operation, Request, Response, WireCall


class _Asked(msgspec.Struct):
    """What a body says of its stream."""

    stream_options: dict[str, Any] | None = None


class _Chunk(msgspec.Struct):
    choices: list[Any] | None = None
    usage: Any = None


_ASKED = msgspec.json.Decoder(_Asked).decode
_CHUNK = msgspec.json.Decoder(_Chunk).decode


class OpenAIChat:
    """POST /chat/completions and /embeddings, of OpenAI and of the many servers that speak as it does.

    `extensions` says that the upstream is one of the latter: `top_k`, the text of earlier reasoning
    (`reasoning_content`) and Gemini's signatures are sent. OpenAI's own servers refuse a call that has them;
    with `extensions=False` the first raises UnsupportedFeature and the others are left out. `clock` (seconds
    since 1970) turns a Retry-After date into seconds where the upstream does not tell its own time.

    >>> from assay.types import Operation, Request, user
    >>> path, body, *_ = OpenAIChat().encode(Request("gpt-4o-mini", (user("Hi"),)))
    >>> path, body
    ('/chat/completions', b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}]}')
    """

    dialect = DIALECT
    operations: frozenset[Operation] = frozenset({"chat", "embeddings"})

    def __init__(self, *, extensions: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._extensions = extensions
        self._clock = clock

    def encode(self, request: Request) -> Encoded:
        """A streamed call asks for its usage, so that its cost is exact.

        Raises UnsupportedFeature for what the API cannot carry.
        """
        match request.operation:
            case "chat":
                body, dropped = encode_request(request, extensions=self._extensions)
                return Encoded("/chat/completions", body, dropped)
            case "embeddings":
                inputs, dropped = encode_inputs(request)
                return Encoded("/embeddings", to_json(inputs), dropped)
            case "count_tokens":
                raise UnsupportedFeature(
                    f"OpenAI's chat completions cannot count the tokens of a call to {request.model}; use a "
                    "model whose provider has dialect anthropic, gemini, openai-responses or local",
                    param="model",
                )

    def forward(self, request: Request, call: WireCall) -> Encoded:
        """A stream whose caller did not ask for usage asks for it all the same: `hidden` knows the answer."""
        if request.operation == "embeddings":
            return Encoded("/embeddings", with_model(call.body, request.model))
        asked = _stream_options(call)
        extra: dict[str, msgspec.Raw] = {}
        if request.stream and asked.get("include_usage") is not True:
            counted = msgspec.json.encode({**asked, "include_usage": True})
            extra["stream_options"] = msgspec.Raw(counted)
        return Encoded("/chat/completions", with_model(call.body, request.model, extra))

    def hidden(self, request: Request, event: str, data: str) -> bool:
        """The chunk that has usage and no choices, where the caller did not ask for it."""
        call = request.wire
        if call is None or ('"choices":[]' not in data and '"choices": []' not in data):
            return False
        chunk = _CHUNK(data)
        return chunk.choices == [] and bool(chunk.usage) and not _stream_options(call).get("include_usage")

    def headers(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        content_type = ("content-type", "application/json")
        return (content_type,) if api_key is None else (content_type, ("authorization", f"Bearer {api_key}"))

    def decode(self, request: Request, body: bytes) -> Response:
        """Raises BadResponse when the body is not what was asked for, or the error that it holds instead."""
        return decode_vectors(request, body) if request.operation == "embeddings" else decode_reply(body)

    def events(self, request: Request) -> ChatStream:
        return ChatStream()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> AssayError:
        """A ProviderError, or a RequestError with the upstream's own words when it blames the request."""
        return error_of_reply(status, headers, body, clock=self._clock)


def _stream_options(call: WireCall) -> dict[str, Any]:
    """As the caller gave them: what is not an object there is the upstream's to refuse."""
    if b'"stream_options"' not in call.body:
        return {}
    try:
        return _ASKED(call.body).stream_options or {}
    except msgspec.ValidationError:
        return {}
